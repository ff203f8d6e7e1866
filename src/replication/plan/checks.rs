//! What both servers must be like, however the data comes.

use super::{Findings, Side};
use crate::config::TlsMode;

pub(super) fn check(source: &Side, replica: &Side, findings: &mut Findings) {
    check_versions(source, replica, findings);
    check_source(source, findings);
    if replica.identity == source.identity {
        findings.refuse(
            format!("{} and {} are one server", source.name, replica.name),
            "Check the addresses in the configuration.",
        );
    } else {
        check_identities(source, replica, findings);
        check_gtid_mode(source, replica, findings);
        check_names(source, replica, findings);
        check_packets(source, replica, findings);
        check_promotable(replica, findings);
        check_charsets(source, replica, findings);
    }
    check_tls(source, replica, findings);
}

fn check_versions(source: &Side, replica: &Side, findings: &mut Findings) {
    for side in [source, replica] {
        if !side.flavour.is_supported() {
            findings.refuse(
                format!("{} is {}, which is too old", side.name, side.flavour.text),
                "MySQL 5.6 and MariaDB 10.5 are the oldest that are known to work.",
            );
        }
    }
    if source.flavour.family != replica.flavour.family {
        findings.refuse(
            format!(
                "{} is {} and {} is {}: their GTIDs can't be followed by each other",
                source.name, source.flavour.text, replica.name, replica.flavour.text
            ),
            "Make the replica of the source's flavour.",
        );
        return;
    }
    // Later ones lack mysql_native_password, with which the old source's accounts log in.
    let (theirs, own) = (source.flavour.version, replica.flavour.version);
    if !source.flavour.is_mariadb() && theirs < (8, 0, 0) && own >= (9, 0, 0) {
        findings.refuse(
            format!(
                "{} ({}) can't log in at {} ({})",
                replica.name, replica.flavour.text, source.name, source.flavour.text
            ),
            "Go by way of 8.0 and 8.4: a replica of each follows the one before.",
        );
    }
    let series = |side: &Side| (side.flavour.version.0, side.flavour.version.1);
    if series(replica) < series(source) {
        findings.refuse(
            format!(
                "{} ({}) is older than its source {} ({}), whose events it may not understand",
                replica.name, replica.flavour.text, source.name, source.flavour.text
            ),
            "Upgrade the replica first: replicas may be newer, not older.",
        );
    }
}

fn check_source(source: &Side, findings: &mut Findings) {
    let name = &source.name;
    if !source.is_on("log_bin") {
        findings.refuse(
            format!("{name} has no binary log"),
            "Set log_bin = binlog in its option file and restart it.",
        );
    }
    match source.setting("binlog_format") {
        Some("STATEMENT") => findings.refuse(
            format!("{name} logs statements instead of rows (binlog_format = STATEMENT)"),
            "Set binlog_format = ROW in its option file and by SET GLOBAL; sessions that are open \
             keep the old one.",
        ),
        // MariaDB's default: what isn't safe as a statement is logged as rows.
        Some("MIXED") => findings.warn(
            "row-format",
            format!(
                "binlog_format of {name} is MIXED: what depends on more than the data, such as \
                 triggers and functions, is surer with ROW"
            ),
        ),
        Some(_) | None => {}
    }
    if source.is_on("read_only") {
        findings.refuse(
            format!("{name} is read-only, as replicas are"),
            "Name the server that is written to as the pair's source, or end its read_only.",
        );
    }
    if source.is_on("skip_networking") {
        findings.refuse(
            format!("{name} has no networking: no replica can reach it"),
            "Take skip_networking out of its option file and restart it.",
        );
    }
}

fn check_identities(source: &Side, replica: &Side, findings: &mut Findings) {
    for side in [source, replica] {
        if side.identity.server_id == 0 {
            findings.refuse(
                format!("{} has no server_id", side.name),
                "Set a server_id in its option file and restart it.",
            );
        }
    }
    if source.identity.server_id == replica.identity.server_id {
        findings.refuse(
            format!(
                "{} and {} have the same server_id, {}",
                source.name, replica.name, source.identity.server_id
            ),
            format!(
                "Set another server_id in the option file of {} and restart it.",
                replica.name
            ),
        );
    }
    if source.identity.server_uuid.is_some()
        && source.identity.server_uuid == replica.identity.server_uuid
    {
        findings.refuse(
            format!(
                "{} and {} have the same server_uuid: one is a copy of the other",
                source.name, replica.name
            ),
            format!(
                "Stop {}, remove auto.cnf from its data directory, start it.",
                replica.name
            ),
        );
    }
}

fn check_gtid_mode(source: &Side, replica: &Side, findings: &mut Findings) {
    if !source.flavour.is_mariadb() {
        for side in [source, replica] {
            if side.setting("gtid_mode") != Some("ON") {
                findings.refuse(
                    format!(
                        "{} has gtid_mode = {}",
                        side.name,
                        side.setting("gtid_mode").unwrap_or("OFF")
                    ),
                    "Set gtid_mode = ON and enforce_gtid_consistency = ON in its option file and \
                     restart it; MySQL's manual tells how it is done while it runs.",
                );
            }
        }
    }
}

fn check_names(source: &Side, replica: &Side, findings: &mut Findings) {
    let (theirs, own) = (
        source.setting("lower_case_table_names"),
        replica.setting("lower_case_table_names"),
    );
    if theirs != own {
        findings.refuse(
            format!(
                "lower_case_table_names is {} on {} and {} on {}",
                theirs.unwrap_or("?"),
                source.name,
                own.unwrap_or("?"),
                replica.name
            ),
            format!(
                "Make {} anew with the source's lower_case_table_names: it can't be changed later.",
                replica.name
            ),
        );
    }
}

fn check_packets(source: &Side, replica: &Side, findings: &mut Findings) {
    let theirs = source.number(&["max_allowed_packet"]).unwrap_or(0);
    for (names, advice) in [
        (
            &["replica_max_allowed_packet", "slave_max_allowed_packet"][..],
            "slave_max_allowed_packet",
        ),
        (&["max_allowed_packet"][..], "max_allowed_packet"),
    ] {
        let own = replica.number(names).unwrap_or(u64::MAX);
        if own < theirs {
            findings.refuse(
                format!(
                    "{advice} of {} ({own}) is less than max_allowed_packet of {} ({theirs})",
                    replica.name, source.name
                ),
                format!(
                    "Set {advice} = {theirs} in the option file of {} and by SET GLOBAL.",
                    replica.name
                ),
            );
        }
    }
}

fn check_promotable(replica: &Side, findings: &mut Findings) {
    let updates = replica.is_on("log_slave_updates") || replica.is_on("log_replica_updates");
    if !replica.is_on("log_bin") || !updates {
        findings.warn(
            "not-promotable",
            format!(
                "{} doesn't log what it replicates: it couldn't become the source; set log_bin and \
                 log_slave_updates (MySQL 8.0.26 and later: log_replica_updates)",
                replica.name
            ),
        );
    }
}

fn check_charsets(source: &Side, replica: &Side, findings: &mut Findings) {
    for name in ["character_set_server", "collation_server"] {
        let (theirs, own) = (source.setting(name), replica.setting(name));
        if theirs != own {
            findings.warn(
                "charset",
                format!(
                    "{name} is {} on {} and {} on {}",
                    theirs.unwrap_or("?"),
                    source.name,
                    own.unwrap_or("?"),
                    replica.name
                ),
            );
        }
    }
}

/// Whether a server offers TLS.
fn offers_tls(side: &Side) -> bool {
    match side.setting("have_ssl") {
        Some(value) => value == "YES",
        // Later versions always have it, once they have a certificate.
        None => side
            .setting("ssl_cert")
            .is_some_and(|cert| !cert.is_empty()),
    }
}

fn check_tls(source: &Side, replica: &Side, findings: &mut Findings) {
    let (theirs, own) = (offers_tls(source), offers_tls(replica));
    if source.tls != TlsMode::Disabled && !theirs {
        findings.refuse(
            format!(
                "{} offers no TLS, which the configuration asks for",
                source.name
            ),
            "Give it ssl_cert and ssl_key in its option file, or set tls = \"disabled\".",
        );
    }
    if theirs && !own {
        findings.warn(
            "tls-parity",
            format!(
                "{} offers TLS and {} doesn't: after a promotion clients that ask for it fail",
                source.name, replica.name
            ),
        );
    }
}
