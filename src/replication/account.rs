//! The account that replicas connect with: made with what it needs and no more, its password kept
//! in a file of state_dir.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::error::SetupError;
use super::warning::Warning;
use super::work::{Who, Work};
use crate::config::{Secret, credentials};
use crate::journal::StateDir;
use crate::journal::operation::{InHand, Outcome};
use crate::server::accounts;
use crate::server::flavour::quote_text;
use crate::server::pair::Account;
use crate::server::session::{READ_LIMIT, Session, SessionError};
use crate::sys::{failpoint, files, random};

/// Its name on every source.
pub const USER: &str = "understudy_repl";

const STATEMENT_LIMIT: Duration = Duration::from_secs(60);

/// What is there of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    pub exists: bool,
    pub may_replicate: bool,
    pub requires_tls: bool,
    pub has_file: bool,
}

impl Seen {
    /// Nothing is to be done.
    pub fn is_so(self, tls: bool) -> bool {
        self.exists && self.may_replicate && self.has_file && (self.requires_tls || !tls)
    }
}

/// `state_dir/accounts/PAIR.cnf`
pub fn password_file(state: &StateDir, pair: &str) -> PathBuf {
    state.root().join("accounts").join(format!("{pair}.cnf"))
}

/// Looks for the account on the source and for its file.
pub fn observe(
    session: Session,
    account: &Account,
    file: &Path,
) -> Result<(Session, Seen), SetupError> {
    let statement = format!(
        "SELECT ssl_type FROM mysql.user WHERE User = {} AND Host = {}",
        quote_text(&account.user),
        quote_text(&account.host)
    );
    let (session, rows) = session.query(&statement, READ_LIMIT)?;
    let Some(row) = rows.first() else {
        return Ok((
            session,
            Seen {
                exists: false,
                may_replicate: false,
                requires_tls: false,
                has_file: read_password(file)?.is_some(),
            },
        ));
    };
    let requires_tls = row.at(0).is_some_and(|kind| !kind.is_empty());
    let statement = session.flavour().show_grants(account);
    let shown = format!("SHOW GRANTS FOR {account}");
    let (session, rows) = session.query_secret(&statement, &shown, READ_LIMIT)?;
    let may_replicate = rows
        .iter()
        .filter_map(|row| row.at(0))
        .any(|grant| grant.contains("REPLICATION SLAVE") && grant.contains("ON *.*"));
    Ok((
        session,
        Seen {
            exists: true,
            may_replicate,
            requires_tls,
            has_file: read_password(file)?.is_some(),
        },
    ))
}

/// The password of the file, if it is there.
pub fn read_password(file: &Path) -> Result<Option<Secret>, SetupError> {
    if !file.exists() {
        return Ok(None);
    }
    match credentials::load(file) {
        Ok(credentials) => Ok(credentials.password),
        Err(error) => Err(SetupError::refused(
            format!("the replication account's file: {error}"),
            format!(
                "{} Or remove it: the account then gets a new password.",
                error.hint()
            ),
        )),
    }
}

/// As long as MySQL lets a replica's password be, of four kinds of characters, as policies want it.
pub fn new_password() -> Result<Secret, SetupError> {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    loop {
        let random = random::bytes(32)
            .map_err(|error| SetupError::failed("make a password", error.to_string()))?;
        let text: String = random
            .iter()
            .map(|byte| char::from(ALPHABET[usize::from(byte & 63)]))
            .collect();
        let has = |kind: fn(char) -> bool| text.contains(kind);
        if has(|c| c.is_ascii_uppercase())
            && has(|c| c.is_ascii_lowercase())
            && has(|c| c.is_ascii_digit())
            && has(|c| matches!(c, '-' | '_'))
        {
            return Ok(Secret::new(text));
        }
    }
}

/// Makes sure that it is there.
pub fn ensure(
    work: &mut Work<'_>,
    account: &Account,
    file: &Path,
    tls: bool,
) -> Result<Outcome, SetupError> {
    let (session, seen) = observe(work.session(Who::Source)?, account, file)?;
    if seen.is_so(tls) {
        return Ok(Outcome::AlreadySo(format!(
            "{account} on {}",
            work.source.name
        )));
    }
    let password = match read_password(file)? {
        Some(password) => password,
        None => write_password(work, file)?,
    };
    failpoint::hit("setup-password");
    let flavour = session.flavour().clone();
    let shown = format!("CREATE or ALTER USER {account}");
    if !seen.exists {
        let drop = vec![flavour.drop_account(account)];
        work.before(Who::Source, &format!("drop the account {account}"), drop)?;
        let mut session = session;
        for statement in flavour.create_replication_account(account, &password, tls) {
            session = session.execute_secret(&statement, &shown, STATEMENT_LIMIT)?;
        }
        return Ok(Outcome::Changed(format!(
            "made {account} on {}, which may replicate and nothing else",
            work.source.name
        )));
    }
    let mut session = session;
    let mut done = Vec::new();
    if !seen.has_file {
        let statement = flavour.set_password(account, &password);
        session = session.execute_secret(&statement, &shown, STATEMENT_LIMIT)?;
        work.password_is_new = true;
        work.warnings.push(Warning {
            rule: "password-renewed",
            message: format!(
                "{account} has a new password: set up again whatever else connects as it"
            ),
        });
        done.push("gave it a new password");
    }
    if !seen.may_replicate {
        let statement = format!("GRANT REPLICATION SLAVE ON *.* TO {}", account.quoted());
        session = session.execute(&statement, STATEMENT_LIMIT)?;
        done.push("let it replicate");
    }
    if tls && !seen.requires_tls {
        let statement = flavour.require_tls(account);
        session = session.execute(&statement, STATEMENT_LIMIT)?;
        done.push("made it require TLS");
    }
    drop(session);
    Ok(Outcome::Changed(format!("{account}: {}", done.join(", "))))
}

fn write_password(work: &mut Work<'_>, file: &Path) -> Result<Secret, SetupError> {
    let password = new_password()?;
    work.note_file(file)?;
    if let Some(parent) = file.parent() {
        files::make_private_dir(parent)?;
    }
    let text = format!(
        "# Made by understudy: the account with which the replicas of a pair read their source.\n\
         [client]\nuser={USER}\npassword=\"{}\"\n",
        password.reveal()
    );
    files::replace(file, text.as_bytes())?;
    Ok(password)
}

/// Brings accounts that the replica lacks across, as they are, without its binary log.
pub fn copy(
    source: Session,
    replica: Session,
    wanted: &[Account],
) -> Result<(Session, Session), SessionError> {
    let (source, shown) = accounts::show(source, wanted)?;
    let replica = accounts::make(replica, &shown)?;
    Ok((source, replica))
}
