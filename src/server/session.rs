//! One connection to one server, with a time limit on everything it does.
//!
//! Invariant: a connection on which anything but a server's own error happened is gone. After a
//! read time-out the driver would hand the *previous* answer to the next question, so every
//! statement consumes the session and gives it back only when the answer was whole.

use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::time::Duration;

use mysql::prelude::Queryable;
use mysql::{Conn, OptsBuilder, SslOpts};
use serde::{Deserialize, Serialize};

use super::flavour::Flavour;
use super::identity::Identity;
use super::row::Row;
use crate::config::{Address, Secret, TlsMode};
use crate::sys::socket::set_receive_limit;

/// How long a connection may take to be made, log-in included.
pub const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// How long a host may take to answer at all: it is called three times by then (after 0, 1 and 3 s).
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(4);

/// How long a statement that only reads may take.
pub const READ_LIMIT: Duration = Duration::from_secs(10);

/// The protocol's own limit; the server has the last word.
const PACKET_BYTES_MAX: usize = 1 << 30;

const ASK_VERSION: &str = "SELECT CONCAT(@@version, ' ', @@version_comment)";

/// Where and as whom to connect. Serialised only into the watchdog's pipe.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Target {
    /// The server's name in the configuration.
    pub server: String,
    pub address: Address,
    pub user: String,
    pub password: Secret,
    pub tls: TlsMode,
    pub tls_ca: Option<PathBuf>,
}

/// An error that the server sent; the connection stays usable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("server error {code}: {message}")]
pub struct ServerError {
    pub code: u16,
    pub message: String,
}

impl ServerError {
    pub const LOCK_WAIT_TIMEOUT: u16 = 1205;
    pub const NO_SUCH_THREAD: u16 = 1094;
    /// A view refers to what isn't there.
    pub const INVALID_VIEW: u16 = 1356;
    /// ER_PARSE_ERROR.
    pub const SYNTAX: u16 = 1064;
    /// A privilege is missing.
    pub const ACCESS_DENIED: u16 = 1227;
    /// MySQL: an account or role that a statement names isn't there.
    pub const UNKNOWN_ACCOUNT: u16 = 3162;
    pub const UNKNOWN_VARIABLE: u16 = 1193;
    /// The codes that mean "you may not do that": access denied, command denied, privilege needed.
    pub fn is_privilege(&self) -> bool {
        matches!(self.code, 1044 | 1045 | 1142 | 1143 | 1227 | 1370 | 1698)
    }
}

/// Why there is no session any more.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    #[error("connect to {server} at {address}: {reason}")]
    Connect {
        server: String,
        address: String,
        reason: String,
        /// The server's own error code, when it answered at all.
        code: Option<u16>,
    },
    #[error(
        "{server} at {address} is {}, not {}",
        found.apart_from(expected),
        expected.apart_from(found)
    )]
    WrongServer {
        server: String,
        address: String,
        expected: Box<Identity>,
        found: Box<Identity>,
    },
    #[error("connection to {server} lost in `{statement}`: {reason}")]
    Lost {
        server: String,
        statement: String,
        reason: String,
    },
    #[error("{server} refused `{statement}`: {error}")]
    Server {
        server: String,
        statement: String,
        #[source]
        error: ServerError,
    },
    /// An answer without the column or of the kind that every supported version gives.
    #[error("{server} gave an unexpected answer to `{statement}`: {detail}")]
    Unexpected {
        server: String,
        statement: String,
        detail: String,
    },
}

impl SessionError {
    /// The same with other words for the statement.
    fn showing(self, shown: &str) -> Self {
        let shown = shown.to_owned();
        match self {
            Self::Server { server, error, .. } => Self::Server {
                server,
                statement: shown,
                error: ServerError {
                    message: match error.code {
                        1064 | 1149 => "it couldn't be parsed".to_owned(),
                        _ => error.message,
                    },
                    code: error.code,
                },
            },
            Self::Lost { server, reason, .. } => Self::Lost {
                server,
                statement: shown,
                reason,
            },
            Self::Unexpected { server, detail, .. } => Self::Unexpected {
                server,
                statement: shown,
                detail,
            },
            other @ (Self::Connect { .. } | Self::WrongServer { .. }) => other,
        }
    }

    /// The server's error, when it was one.
    pub fn server_error(&self) -> Option<&ServerError> {
        match self {
            Self::Server { error, .. } => Some(error),
            Self::Connect { .. }
            | Self::WrongServer { .. }
            | Self::Lost { .. }
            | Self::Unexpected { .. } => None,
        }
    }
}

/// A live connection to a server whose flavour and identity are known.
pub struct Session {
    conn: Conn,
    target: Target,
    flavour: Flavour,
    identity: Identity,
    limit_now: Duration,
}

impl Session {
    /// Connects, learns flavour and identity.
    pub fn connect(target: &Target) -> Result<Self, SessionError> {
        Self::connect_within(target, CONNECT_LIMIT)
    }

    /// As `connect`, with a limit of its own for each of its steps.
    pub fn connect_within(target: &Target, limit: Duration) -> Result<Self, SessionError> {
        let connect_error = |error: &mysql::Error| connect_error(target, error);
        let conn = Conn::new(options(target, limit)).map_err(|error| connect_error(&error))?;
        let mut session = Self {
            conn,
            target: target.clone(),
            flavour: Flavour::unknown(),
            identity: Identity::default(),
            limit_now: limit,
        };
        let version = session.ask_version().map_err(|error| match error {
            // An expired password logs in and may then do nothing.
            mysql::Error::MySqlError(_) => connect_error(&error),
            error => session.error(ASK_VERSION, &error),
        })?;
        let Some(version) = version else {
            return Err(session.unexpected(ASK_VERSION, "no row"));
        };
        session.flavour = Flavour::of_version(&version);
        let statement = session.flavour.identity_query();
        let (mut session, rows) = session.query(statement, limit * 2)?;
        session.identity = Identity::from_row(rows.first().unwrap_or(&Row::default()));
        Ok(session)
    }

    /// Connects and makes sure that it is the server we mean: done before every change, since a
    /// port, a tunnel or a restarted container may answer for another one.
    pub fn connect_to(target: &Target, expected: &Identity) -> Result<Self, SessionError> {
        let session = Self::connect(target)?;
        if session.identity == *expected {
            Ok(session)
        } else {
            Err(SessionError::WrongServer {
                server: target.server.clone(),
                address: target.address.to_string(),
                expected: Box::new(expected.clone()),
                found: Box::new(session.identity),
            })
        }
    }

    fn ask_version(&mut self) -> Result<Option<String>, mysql::Error> {
        self.conn.query_first(ASK_VERSION)
    }

    pub fn flavour(&self) -> &Flavour {
        &self.flavour
    }

    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    pub fn target(&self) -> &Target {
        &self.target
    }

    /// The server's id for this connection, for KILL.
    pub fn connection_id(&self) -> u64 {
        u64::from(self.conn.connection_id())
    }

    /// Asks and reads the whole answer within `limit`. Any error ends the session.
    pub fn query(self, statement: &str, limit: Duration) -> Result<(Self, Vec<Row>), SessionError> {
        let (session, answer) = self.attempt(statement, limit)?;
        match answer {
            Ok(rows) => Ok((session, rows)),
            Err(error) => Err(SessionError::Server {
                server: session.target.server,
                statement: statement.to_owned(),
                error,
            }),
        }
    }

    /// As `query`, for when the server's refusal is an answer too: the session lives on.
    pub fn attempt(
        mut self,
        statement: &str,
        limit: Duration,
    ) -> Result<(Self, Result<Vec<Row>, ServerError>), SessionError> {
        self.set_limit(limit)
            .map_err(|reason| self.lost(statement, reason))?;
        let answer = self.conn.query_iter(statement).and_then(|mut result| {
            let mut rows = Vec::new();
            for row in result.by_ref() {
                rows.push(Row::from(row?));
            }
            Ok(rows)
        });
        match answer {
            Ok(rows) => Ok((self, Ok(rows))),
            Err(mysql::Error::MySqlError(error)) if !ends_the_connection(error.code) => {
                let error = ServerError {
                    code: error.code,
                    message: error.message,
                };
                Ok((self, Err(error)))
            }
            Err(error) => Err(self.lost(statement, describe(&error))),
        }
    }

    /// For a statement that carries a secret: no error tells it. `shown` stands for it; what the
    /// server says of a statement that it couldn't parse is withheld, since it quotes it.
    pub fn execute_secret(
        self,
        statement: &str,
        shown: &str,
        limit: Duration,
    ) -> Result<Self, SessionError> {
        self.query_secret(statement, shown, limit)
            .map(|(session, _)| session)
    }

    /// As `execute_secret`, with the answer.
    pub fn query_secret(
        self,
        statement: &str,
        shown: &str,
        limit: Duration,
    ) -> Result<(Self, Vec<Row>), SessionError> {
        self.query(statement, limit)
            .map_err(|error| error.showing(shown))
    }

    /// As `attempt`, for a statement that carries a secret.
    pub fn attempt_secret(
        self,
        statement: &str,
        shown: &str,
        limit: Duration,
    ) -> Result<(Self, Result<Vec<Row>, ServerError>), SessionError> {
        self.attempt(statement, limit)
            .map_err(|error| error.showing(shown))
    }

    /// For statements without an answer.
    pub fn execute(self, statement: &str, limit: Duration) -> Result<Self, SessionError> {
        self.query(statement, limit).map(|(session, _)| session)
    }

    /// The first value of the first row; `None` when NULL or no row.
    pub fn value(
        self,
        statement: &str,
        limit: Duration,
    ) -> Result<(Self, Option<String>), SessionError> {
        let (session, rows) = self.query(statement, limit)?;
        let value = rows.first().and_then(|row| row.at(0)).map(str::to_owned);
        Ok((session, value))
    }

    /// An error about an answer that we don't understand.
    pub fn unexpected(&self, statement: &str, detail: impl Into<String>) -> SessionError {
        SessionError::Unexpected {
            server: self.target.server.clone(),
            statement: statement.to_owned(),
            detail: detail.into(),
        }
    }

    fn set_limit(&mut self, limit: Duration) -> Result<(), String> {
        if limit == self.limit_now {
            return Ok(());
        }
        set_receive_limit(self.conn.as_raw_fd(), limit)?;
        self.limit_now = limit;
        Ok(())
    }

    fn lost(&self, statement: &str, reason: String) -> SessionError {
        SessionError::Lost {
            server: self.target.server.clone(),
            statement: statement.to_owned(),
            reason,
        }
    }

    fn error(&self, statement: &str, error: &mysql::Error) -> SessionError {
        self.lost(statement, describe(error))
    }
}

/// 1053 shutdown in progress, 1077 normal shutdown, 1152 aborted connection, 1927 and 3169
/// connection or session killed, 4031 idle too long: the server says it and hangs up.
fn ends_the_connection(code: u16) -> bool {
    matches!(code, 1053 | 1077 | 1152 | 1184 | 1927 | 3169 | 4031)
}

/// What went wrong, without what the driver adds about itself.
fn describe(error: &mysql::Error) -> String {
    match error {
        mysql::Error::IoError(error)
            if matches!(
                error.kind(),
                std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
            ) =>
        {
            "no answer within the time limit".to_owned()
        }
        mysql::Error::IoError(error) => error.to_string(),
        // The driver wraps what happened while a packet was read.
        mysql::Error::CodecError(error)
            if error
                .to_string()
                .contains("Resource temporarily unavailable") =>
        {
            "no answer within the time limit".to_owned()
        }
        mysql::Error::MySqlError(error) => {
            format!("server error {}: {}", error.code, error.message)
        }
        mysql::Error::DriverError(error) => error.to_string(),
        mysql::Error::TlsError(error) => format!("TLS: {error}"),
        other => other.to_string(),
    }
}

fn connect_error(target: &Target, error: &mysql::Error) -> SessionError {
    let code = match error {
        mysql::Error::MySqlError(error) => Some(error.code),
        _ => None,
    };
    SessionError::Connect {
        server: target.server.clone(),
        address: target.address.to_string(),
        reason: describe(error),
        code,
    }
}

/// `prefer_socket` is off: the driver would ask the *server* for its socket path and reconnect
/// there, which through a tunnel can be another server.
fn options(target: &Target, limit: Duration) -> OptsBuilder {
    let options = OptsBuilder::new()
        .user(Some(&target.user))
        .pass(Some(target.password.reveal()))
        .prefer_socket(false)
        .tcp_connect_timeout(Some(limit.min(HANDSHAKE_LIMIT)))
        .read_timeout(Some(limit))
        .write_timeout(Some(limit))
        .stmt_cache_size(0)
        // Otherwise the driver asks for it at each connect.
        .max_allowed_packet(Some(PACKET_BYTES_MAX))
        .init(vec!["SET SESSION sql_mode = ''".to_owned()]);
    let options = match &target.address {
        Address::Tcp { host, port } => options.ip_or_hostname(Some(host)).tcp_port(*port),
        Address::Socket(path) => options.socket(Some(path.to_string_lossy())),
    };
    options.ssl_opts(tls_options(target))
}

fn tls_options(target: &Target) -> Option<SslOpts> {
    let base = SslOpts::default();
    let with_ca = |options: SslOpts| match &target.tls_ca {
        Some(path) => options.with_root_cert_path(Some(path.clone())),
        None => options,
    };
    match target.tls {
        TlsMode::Disabled => None,
        TlsMode::Required => Some(
            base.with_danger_accept_invalid_certs(true)
                .with_danger_skip_domain_validation(true),
        ),
        TlsMode::VerifyCa => Some(with_ca(base).with_danger_skip_domain_validation(true)),
        TlsMode::VerifyFull => Some(with_ca(base)),
    }
}
