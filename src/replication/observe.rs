//! What both servers of a pair are like, before anything is decided.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::path::Path;
use std::time::Duration;

use super::error::SetupError;
use super::plan::{Endpoint, Side};
use crate::config::{Address, ServerConfig};
use crate::server::pair::{Account, NO_SUCH_GRANT, OWN_SCHEMA, Schema, global_privileges};
use crate::server::session::{READ_LIMIT, Session, SessionError, Target};
use crate::server::{Identity, replication};
use crate::snapshot::Context;
use crate::sys::fact::Fact;
use crate::sys::{files, process};
use crate::volume::kept;

/// Enough for information_schema of a server with very many tables.
pub(super) const CATALOGUE_LIMIT: Duration = Duration::from_secs(300);

const VARIABLES: [&str; 27] = [
    "binlog_format",
    "character_set_server",
    "clone_valid_donor_list",
    "collation_server",
    "datadir",
    "enforce_gtid_consistency",
    "event_scheduler",
    "gtid_mode",
    "have_ssl",
    "hostname",
    "log_bin",
    "log_replica_updates",
    "log_slave_updates",
    "lower_case_table_names",
    "max_allowed_packet",
    "port",
    "read_only",
    "replica_max_allowed_packet",
    "report_host",
    "server_id",
    "skip_networking",
    "slave_max_allowed_packet",
    "ssl_ca",
    "ssl_cert",
    "super_read_only",
    "version",
    "wsrep_on",
];

fn active_events(session: Session) -> Result<(Session, usize), SessionError> {
    let statement = session.flavour().active_events_query();
    let (session, rows) = session.query(statement, CATALOGUE_LIMIT)?;
    Ok((session, rows.len()))
}

/// Off now, and not only by hand: everything else may be on after a restart.
fn runs_events_at_boot(
    session: Session,
    settings: &BTreeMap<String, String>,
) -> Result<(Session, bool), SessionError> {
    let value = settings.get("event_scheduler").map(String::as_str);
    let Some(statement) = session.flavour().event_scheduler_origin_query() else {
        return Ok((session, value == Some("ON")));
    };
    if value == Some("ON") {
        return Ok((session, true));
    }
    let (session, origin) = session.value(statement, READ_LIMIT)?;
    let by_hand = matches!(origin.as_deref(), Some("SQL" | "DYNAMIC"));
    Ok((session, by_hand))
}

/// Asks one server for all that a plan needs.
pub fn side(ctx: &Context, config: &ServerConfig) -> Result<Side, SetupError> {
    let session = Session::connect(&ctx.target(config)?)?;
    let (session, settings) = variables(session)?;
    let (session, links) = replication::observe_channels(session)?;
    let (session, schemas) = schemas(session)?;
    let statement = session.flavour().non_transactional_tables_query();
    let (session, rows) = session.query(&statement, CATALOGUE_LIMIT)?;
    let non_transactional = rows
        .iter()
        .filter_map(|row| Some((row.at(0)?.to_owned(), row.at(1)?.to_owned())))
        .filter(|(schema, _)| schema != OWN_SCHEMA)
        .collect();
    let (session, active_events) = active_events(session)?;
    let (session, runs_events_at_boot) = runs_events_at_boot(session, &settings)?;
    let written = session.flavour().written_query();
    let (session, written) = compact(session, written)?;
    let by_origin = session.flavour().written_by_origin_query();
    let (session, by_origin) = compact(session, by_origin)?;
    let applied = session.flavour().applied_query();
    let (session, applied) = compact(session, applied)?;
    let logs = matches!(
        settings.get("log_bin").map(String::as_str),
        Some("ON" | "1")
    );
    let (session, purged) = match logs {
        true => replication::observe_purged(session)?,
        false => (session, String::new()),
    };
    let (session, login) = session.value("SELECT CURRENT_USER()", READ_LIMIT)?;
    let login = Account::of_current_user(&login.unwrap_or_default());
    let (session, may) = privileges(session, &login)?;
    let identity = session.identity().clone();
    let data_dir = Path::new(&identity.data_dir).to_owned();
    let is_local = is_local(&identity, &settings);
    let free = match is_local {
        true => match kept::free_space(&data_dir) {
            Ok((free, _)) => Fact::Known(free),
            Err(error) => Fact::unknown(error),
        },
        false => Fact::unknown("its data directory isn't on this host"),
    };
    let has_service = config
        .service
        .as_ref()
        .is_some_and(|service| service.control.is_some());
    Ok(Side {
        name: config.name.clone(),
        flavour: session.flavour().clone(),
        tls: config.tls,
        schemas,
        non_transactional,
        active_events,
        runs_events_at_boot,
        links,
        written,
        by_origin,
        applied,
        purged,
        free,
        restarts: has_service || is_local && is_supervised(&data_dir),
        is_local,
        has_service,
        login,
        may: may.unwrap_or_default(),
        may_on_source: None,
        settings,
        identity,
    })
}

fn variables(session: Session) -> Result<(Session, BTreeMap<String, String>), SessionError> {
    let names: Vec<String> = VARIABLES.iter().map(|name| format!("'{name}'")).collect();
    let statement = format!(
        "SHOW GLOBAL VARIABLES WHERE Variable_name IN ({})",
        names.join(", ")
    );
    let (session, rows) = session.query(&statement, READ_LIMIT)?;
    let settings = rows
        .iter()
        .filter_map(|row| Some((row.at(0)?.to_owned(), row.at(1)?.to_owned())))
        .collect();
    Ok((session, settings))
}

/// An empty `test`, which old servers come with, is nobody's data.
fn schemas(session: Session) -> Result<(Session, Vec<Schema>), SessionError> {
    let statement = session.flavour().schemas_query();
    let (session, rows) = session.query(&statement, CATALOGUE_LIMIT)?;
    let number = |text: Option<&str>| {
        text.and_then(|text| text.split('.').next()?.parse().ok())
            .unwrap_or(0)
    };
    let schemas = rows
        .iter()
        .filter_map(|row| {
            Some(Schema {
                name: row.at(0)?.to_owned(),
                tables: number(row.at(1)),
                bytes: number(row.at(2)),
            })
        })
        .filter(|schema| schema.name != OWN_SCHEMA)
        .filter(|schema| schema.name != "test" || schema.tables > 0)
        .collect();
    Ok((session, schemas))
}

/// One value without white space.
pub fn compact(session: Session, statement: &str) -> Result<(Session, String), SessionError> {
    let (session, value) = session.value(statement, READ_LIMIT)?;
    let value = value.unwrap_or_default().replace(char::is_whitespace, "");
    Ok((session, value))
}

/// What an account may do everywhere; `None` where there is no such account.
pub fn privileges(
    session: Session,
    account: &Account,
) -> Result<(Session, Option<BTreeSet<String>>), SessionError> {
    let statement = format!("SHOW GRANTS FOR {}", account.quoted());
    let (session, answer) = session.attempt(&statement, READ_LIMIT)?;
    match answer {
        Ok(rows) => {
            let lines = rows.iter().filter_map(|row| row.at(0));
            let privileges = global_privileges(lines);
            Ok((session, Some(privileges)))
        }
        Err(error) if error.code == NO_SUCH_GRANT => Ok((session, None)),
        Err(error) => Err(SessionError::Server {
            server: session.target().server.clone(),
            statement,
            error,
        }),
    }
}

pub use crate::server::accounts::observe as accounts;

/// This very host has the data directory: MySQL's own uuid stands in it; MariaDB's server works in
/// it and has this host's name.
fn is_local(identity: &Identity, settings: &BTreeMap<String, String>) -> bool {
    let data_dir = Path::new(&identity.data_dir);
    match &identity.server_uuid {
        Some(uuid) => files::read_text(&data_dir.join("auto.cnf"))
            .ok()
            .flatten()
            .is_some_and(|text| text.to_ascii_lowercase().contains(uuid.as_str())),
        None => {
            process::runs_in(data_dir)
                && settings.get("hostname").map(String::as_str)
                    == Some(process::host_name().as_str())
        }
    }
}

/// mysqld_safe and MySQL's own unit say so to the server, which then restarts itself.
fn is_supervised(data_dir: &Path) -> bool {
    process::in_directory(data_dir)
        .into_iter()
        .any(|pid| process::has_environment(pid, "MYSQLD_PARENT_PID"))
}

/// The program that runs in a server's data directory, if this host has it.
pub fn server_program(config: &ServerConfig, side: &Side) -> Option<std::path::PathBuf> {
    let configured = config
        .service
        .as_ref()
        .and_then(|service| Some(service.server_binary.as_ref()?.path()?.to_owned()));
    configured.or_else(|| {
        process::in_directory(Path::new(&side.identity.data_dir))
            .into_iter()
            .find_map(process::program_of)
    })
}

/// Where the replica finds the source.
pub fn endpoint(
    ctx: &Context,
    source: &ServerConfig,
    source_side: &Side,
    replica: &ServerConfig,
    replica_side: &Side,
) -> Result<Endpoint, SetupError> {
    let is_near = replica_side.is_local || is_loopback_address(&replica.address);
    match &source.address {
        Address::Tcp { host, port } => {
            if is_loopback(host) && !is_near {
                return Ok(Fact::unknown(format!(
                    "{} is configured at {host}, which on the host of {} is {} itself",
                    source.name, replica.name, replica.name
                )));
            }
            Ok(Fact::Known((host.clone(), *port)))
        }
        Address::Socket(path) => {
            let port = source_side
                .settings
                .get("port")
                .and_then(|port| port.parse().ok())
                .unwrap_or(0);
            let named = ["report_host", "hostname"]
                .into_iter()
                .filter_map(|name| source_side.settings.get(name))
                .filter(|name| !name.is_empty())
                .cloned();
            let near = is_near.then(|| "127.0.0.1".to_owned());
            for host in near.into_iter().chain(named) {
                let target = Target {
                    address: Address::Tcp {
                        host: host.clone(),
                        port,
                    },
                    ..ctx.target(source)?
                };
                if Session::connect_to(&target, &source_side.identity).is_ok() {
                    return Ok(Fact::Known((host, port)));
                }
            }
            Ok(Fact::unknown(format!(
                "{} is configured by its socket {}, and answers at none of its own names on port \
                 {port}",
                source.name,
                path.display()
            )))
        }
    }
}

pub fn is_loopback(host: &str) -> bool {
    host == "localhost"
        || host
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

fn is_loopback_address(address: &Address) -> bool {
    match address {
        Address::Tcp { host, .. } => is_loopback(host),
        Address::Socket(_) => true,
    }
}

/// The one address that a name leads to, if it is one.
pub fn address_of(host: &str, port: u16) -> Option<String> {
    let found = (host, port).to_socket_addrs().ok()?;
    let mut addresses: Vec<IpAddr> = found.map(|address| address.ip()).collect();
    addresses.dedup();
    match addresses.as_slice() {
        [address] => Some(address.to_string()),
        _ => None,
    }
}

/// The address that the source sees the replica come from.
pub fn replica_address(replica: &Address, endpoint: (&str, u16)) -> Fact<String> {
    match replica {
        Address::Tcp { host, port } if !is_loopback(host) => {
            let found = (host.as_str(), *port).to_socket_addrs();
            let mut addresses: Vec<IpAddr> = match found {
                Ok(found) => found.map(|address| address.ip()).collect(),
                Err(error) => return Fact::unknown(format!("{host}: {error}")),
            };
            addresses.dedup();
            match addresses.as_slice() {
                [address] => Fact::Known(address.to_string()),
                _ => Fact::unknown(format!("{host} has several addresses")),
            }
        }
        // On this host: the address from which this host reaches the source. Nothing is sent.
        Address::Tcp { .. } | Address::Socket(_) => {
            let own = || -> std::io::Result<IpAddr> {
                let target = endpoint.to_socket_addrs()?.next();
                let any = match target {
                    Some(SocketAddr::V6(_)) => "[::]:0",
                    Some(SocketAddr::V4(_)) | None => "0.0.0.0:0",
                };
                let socket = UdpSocket::bind(any)?;
                socket.connect(endpoint)?;
                Ok(socket.local_addr()?.ip())
            };
            match own() {
                Ok(address) => Fact::Known(address.to_string()),
                Err(error) => Fact::unknown(format!("{}: {error}", endpoint.0)),
            }
        }
    }
}
