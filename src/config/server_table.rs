//! `[server.NAME]` with its `snapshot` and `service` tables.
//!
//! On a mistake the functions answer with a default: the issue already stops the configuration.

use std::path::PathBuf;

use super::issue::{Complaint, Issues};
use super::model::{
    Address, Consistency, Runtime, ServerBinary, ServerConfig, ServiceConfig, ServiceControl,
    SnapshotConfig, TlsMode,
};
use super::snapshot_table::read_snapshot;
use super::table::{Table, argv_of};
use super::values::{parse_absolute_path, parse_address, parse_word};

const TLS_MODES: [(&str, TlsMode); 4] = [
    ("disabled", TlsMode::Disabled),
    ("required", TlsMode::Required),
    ("verify-ca", TlsMode::VerifyCa),
    ("verify-full", TlsMode::VerifyFull),
];

const RUNTIMES: [(&str, Runtime); 2] = [("docker", Runtime::Docker), ("podman", Runtime::Podman)];

/// Reads one server; `None` when it has no usable address.
pub(super) fn read_server(
    name: &str,
    mut table: Table<'_, '_>,
    issues: &mut Issues<'_>,
) -> Option<ServerConfig> {
    let address = read_address(&mut table, issues);
    let credentials = table.parsed("credentials", issues, parse_absolute_path);
    let (tls, tls_ca) = read_tls(&mut table, issues);
    let wants_snapshots = table.has("snapshot");
    let snapshot_span = table.key_span("snapshot");
    let snapshot = match table.table("snapshot", issues) {
        Some(snapshot) => read_snapshot(snapshot, issues),
        None => SnapshotConfig::default(),
    };
    let service_stands_there = table.has("service");
    let service = table
        .table("service", issues)
        .map(|service| read_service(service, issues));
    let can_stop = match &service {
        Some(service) => service.control.is_some(),
        None => service_stands_there,
    };
    if snapshot.consistency == Consistency::Stop && !can_stop {
        let message = "consistency \"stop\" needs a service that can be stopped".to_owned();
        issues.missing(
            snapshot_span,
            Complaint::new(message).hint(format!(
                "Add [server.{name}.service] with unit = \"…\", start = […] and stop = […], \
                 or container = \"…\" and runtime = \"…\"."
            )),
        );
    }
    table.finish(issues);
    Some(ServerConfig {
        name: name.to_owned(),
        address: address?,
        credentials: credentials.map(|at| at.value),
        tls,
        tls_ca,
        snapshot,
        wants_snapshots,
        service,
    })
}

fn read_address(table: &mut Table<'_, '_>, issues: &mut Issues<'_>) -> Option<Address> {
    let address = table.parsed("address", issues, parse_address);
    let socket = table.parsed("socket", issues, parse_absolute_path);
    match (table.has("address"), table.has("socket")) {
        (true, true) => {
            let message = format!("{} has both an address and a socket", table.title);
            let hint = "Keep the one that understudy shall connect to.";
            issues.report(table.key_span("socket"), Complaint::new(message).hint(hint));
        }
        (false, false) => {
            let message = format!("{} has neither an address nor a socket", table.title);
            let hint = "Add address = \"HOST:PORT\", or socket = \"/run/mysqld/mysqld.sock\".";
            issues.missing(table.span.clone(), Complaint::new(message).hint(hint));
        }
        (true, false) | (false, true) => {}
    }
    match address {
        Some(address) => Some(address.value),
        None => socket.map(|socket| Address::Socket(socket.value)),
    }
}

fn read_tls(table: &mut Table<'_, '_>, issues: &mut Issues<'_>) -> (TlsMode, Option<PathBuf>) {
    let mode = table.parsed("tls", issues, |text| parse_word(text, &TLS_MODES));
    let ca = table.parsed("tls_ca", issues, parse_absolute_path);
    let mode_is_known = mode.is_some() || !table.has("tls");
    let mode = mode.map_or(TlsMode::default(), |at| at.value);
    let encrypted = match mode {
        TlsMode::Disabled => false,
        TlsMode::Required | TlsMode::VerifyCa | TlsMode::VerifyFull => true,
    };
    let verified = match mode {
        TlsMode::Disabled | TlsMode::Required => false,
        TlsMode::VerifyCa | TlsMode::VerifyFull => true,
    };
    let by_socket = table.has("socket") && !table.has("address");
    if encrypted && by_socket {
        let message = "TLS isn't spoken over a Unix socket";
        let hint = "Remove tls, or write an address instead of the socket.";
        issues.report(table.key_span("tls"), Complaint::new(message).hint(hint));
    } else if verified && !table.has("tls_ca") {
        let message = "nothing to verify the certificate with: tls_ca is missing";
        let hint = "Add tls_ca = \"/…/ca.pem\", the certificate of who signed the server's.";
        issues.missing(table.key_span("tls"), Complaint::new(message).hint(hint));
    } else if mode_is_known && !verified && table.has("tls_ca") {
        // Silently unused, it would look like verification.
        let message = "tls_ca is given, but nothing is verified with it";
        let hint = "Write tls = \"verify-ca\" or \"verify-full\", or remove tls_ca.";
        issues.report(table.key_span("tls_ca"), Complaint::new(message).hint(hint));
    }
    (mode, ca.map(|at| at.value))
}

fn read_service(mut table: Table<'_, '_>, issues: &mut Issues<'_>) -> ServiceConfig {
    let unit = table.parsed("unit", issues, parse_unit);
    let start = read_argv(&mut table, "start", issues);
    let stop = read_argv(&mut table, "stop", issues);
    let container = read_container(&mut table, issues);
    let server_binary = table.parsed("server_binary", issues, parse_binary);
    let (has_start, has_stop) = (table.has("start"), table.has("stop"));
    if table.has("unit") && (has_start || has_stop) {
        let message = format!("{} has both a unit and commands", table.title);
        let hint = "Keep unit, or start and stop.";
        issues.report(table.key_span("unit"), Complaint::new(message).hint(hint));
    } else if has_start != has_stop {
        let (there, missing) = match has_start {
            true => ("start", "stop"),
            false => ("stop", "start"),
        };
        let message = format!("{} has {there} but no {missing}", table.title);
        let hint = format!("Add {missing} = [\"/…\", \"…\"].");
        issues.missing(table.key_span(there), Complaint::new(message).hint(hint));
    }
    if table.has("container") && (table.has("unit") || has_start || has_stop) {
        let message = format!("{} has a container and another way to stop it", table.title);
        let hint = "Keep container and runtime, or unit, or start and stop.";
        issues.report(
            table.key_span("container"),
            Complaint::new(message).hint(hint),
        );
    }
    table.finish(issues);
    let commands = start
        .zip(stop)
        .map(|(start, stop)| ServiceControl::Commands { start, stop });
    ServiceConfig {
        control: unit
            .map(|unit| ServiceControl::Unit(unit.value))
            .or(commands)
            .or(container),
        server_binary: server_binary.map(|at| at.value),
    }
}

fn read_container(table: &mut Table<'_, '_>, issues: &mut Issues<'_>) -> Option<ServiceControl> {
    let name = table.parsed("container", issues, parse_container);
    let runtime = table.parsed("runtime", issues, |text| parse_word(text, &RUNTIMES));
    let (there, missing) = match (table.has("container"), table.has("runtime")) {
        (true, false) => ("container", "runtime = \"docker\" or \"podman\""),
        (false, true) => ("runtime", "container = \"NAME\""),
        (true, true) | (false, false) => {
            return Some(ServiceControl::Container {
                name: name?.value,
                runtime: runtime?.value,
            });
        }
    };
    let message = format!("{} has {there}, and not what belongs to it", table.title);
    let complaint = Complaint::new(message).hint(format!("Add {missing}."));
    issues.missing(table.key_span(there), complaint);
    None
}

/// As both runtimes name containers; it becomes an argument of theirs.
fn parse_container(text: &str) -> Result<String, Complaint> {
    let known = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    if !text.starts_with(|c: char| c.is_ascii_alphanumeric()) || !text.chars().all(known) {
        return Err(
            Complaint::new(format!("{text:?} is no name of a container"))
                .hint("Write it as `docker ps` or `podman ps` shows it under NAMES."),
        );
    }
    Ok(text.to_owned())
}

/// A program of this host, or the word for that of the container.
fn parse_binary(text: &str) -> Result<ServerBinary, Complaint> {
    const CONTAINER: &str = "container";
    if text == CONTAINER {
        return Ok(ServerBinary::Container);
    }
    if text.starts_with('/') {
        return parse_absolute_path(text).map(ServerBinary::Path);
    }
    Err(Complaint::new(format!(
        "server_binary: {text:?} is neither a path nor {CONTAINER:?}"
    ))
    .hint(format!(
        "Write the program's path from the root (\"/usr/sbin/mysqld\"), or \
                 {CONTAINER:?} for the one in the server's container."
    )))
}

/// A unit's name becomes an argument of systemctl, so it mustn't look like an option.
fn parse_unit(text: &str) -> Result<String, Complaint> {
    let known = |c: char| c.is_ascii_alphanumeric() || ":_.@\\-".contains(c);
    if text.is_empty() || text.starts_with('-') || !text.chars().all(known) {
        return Err(Complaint::new(format!("{text:?} is no unit name"))
            .hint("Write it like \"mysql.service\" or \"mariadb@1.service\"."));
    }
    Ok(text.to_owned())
}

fn read_argv(
    table: &mut Table<'_, '_>,
    key: &'static str,
    issues: &mut Issues<'_>,
) -> Option<Vec<String>> {
    let argv = table.strings(key, issues)?;
    argv_of(key, &argv, issues)
}
