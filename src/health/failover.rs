//! Whether a replica could take its source's place now, and whether that would stay so: one pure
//! function per check, over both servers.

use std::collections::BTreeMap;
use std::time::Duration;

use super::check::{Check, Status};
use crate::server::condition::{Condition, SemiSync};
use crate::server::gtid::GtidSet;
use crate::server::parity::Parity;
use crate::server::replication::Channel;
use crate::sys::Fact;

/// One server's side.
#[derive(Clone, Copy)]
pub struct Side<'v> {
    pub name: &'v str,
    pub condition: &'v Condition,
    pub parity: Option<&'v Parity>,
}

/// What is compared: a check answers `None` where it doesn't apply.
type Compare = fn(Side<'_>, Side<'_>) -> Option<Check>;

/// In the order in which they are shown.
const CHECKS: [Compare; 13] = [
    gtid,
    delay,
    binary_log,
    binary_log_format,
    row_image,
    packets,
    expiry,
    charset,
    case_of_names,
    tls,
    accounts,
    read_only_at_boot,
    durability,
];

pub fn checks(replica: Side<'_>, source: Side<'_>) -> Vec<Check> {
    CHECKS
        .iter()
        .filter_map(|check| check(replica, source))
        .collect()
}

/// Of a source whose commits wait: whether as many are left to acknowledge when one of its replicas has
/// taken its place.
pub fn acknowledgements(source: Side<'_>) -> Option<Check> {
    const ID: &str = "failover.acknowledgements";
    let SemiSync {
        clients,
        wanted,
        is_patient,
        ..
    } = source.condition.semi_sync?;
    let left = clients.saturating_sub(1);
    // A pair of two can't have it otherwise.
    if left >= wanted || wanted == 1 {
        let message = format!("after a failover {left} of {wanted} are left to acknowledge");
        return ok(ID, source, message);
    }
    Some(Check::new(
        ID,
        source.name,
        Status::Warn,
        format!(
            "commits on {} wait for {wanted} replicas, {clients} acknowledge, and after a failover {left} \
             would: {}",
            source.name,
            match is_patient {
                true => "the new source's would wait in vain, and then not at all",
                false => "semi-synchronous replication wouldn't be on at the new source",
            }
        ),
        "Let one replica more acknowledge, or lower rpl_semi_sync_source_wait_for_replica_count on all of them.",
    ))
}

fn ok(id: &'static str, side: Side<'_>, message: impl Into<String>) -> Option<Check> {
    Some(Check::new(id, side.name, Status::Ok, message, ""))
}

fn gtid(replica: Side<'_>, source: Side<'_>) -> Option<Check> {
    const ID: &str = "failover.gtid";
    for side in [source, replica] {
        if side
            .condition
            .variable("gtid_mode")
            .is_some_and(|mode| mode != "ON")
        {
            return Some(Check::new(
                ID,
                side.name,
                Status::Fail,
                format!("gtid_mode of {} isn't ON", side.name),
                "Turn it on step by step: enforce_gtid_consistency=ON, then gtid_mode OFF_PERMISSIVE, ON_PERMISSIVE, ON.",
            ));
        }
    }
    if links(replica, source).any(|channel| channel.uses_gtid == Some(false)) {
        return Some(Check::new(
            ID,
            replica.name,
            Status::Fail,
            format!("{} follows by file and position", replica.name),
            "`understudy setup PAIR` makes it follow by GTID.",
        ));
    }
    let is_empty = |fact: &Fact<GtidSet>| fact.known().is_some_and(GtidSet::is_empty);
    if is_empty(&source.condition.executed) {
        return ok(ID, replica, "by GTID; nothing was written yet");
    }
    ok(ID, replica, "follows by GTID")
}

/// Channels that lead to the source, or don't tell yet where.
fn links<'v>(replica: Side<'v>, source: Side<'v>) -> impl Iterator<Item = &'v Channel> {
    let channels = replica.condition.channel_list().iter();
    channels.filter(move |channel| channel.leads_to(&source.condition.identity) != Some(false))
}

fn delay(replica: Side<'_>, source: Side<'_>) -> Option<Check> {
    let delay_s = links(replica, source)
        .map(|channel| channel.delay_s)
        .max()?;
    (delay_s > 0).then(|| {
        let delay = humantime::format_duration(Duration::from_secs(delay_s));
        Check::new(
            "failover.delay",
            replica.name,
            Status::Warn,
            format!("{} is kept {delay} behind on purpose: it can't be promoted at once", replica.name),
            "Keep another replica without a delay for failover; this one would first have to apply what it holds back.",
        )
    })
}

fn binary_log(replica: Side<'_>, _source: Side<'_>) -> Option<Check> {
    const ID: &str = "failover.binary-log";
    let missing = match (
        replica.condition.is_on("log_bin"),
        replica.condition.is_on("log_replica_updates"),
    ) {
        (Some(true), Some(true)) => {
            return ok(ID, replica, "writes a binary log of all that it applies");
        }
        (Some(true), _) => "log_slave_updates",
        _ => "log_bin",
    };
    Some(Check::new(
        ID,
        replica.name,
        Status::Fail,
        format!(
            "{missing} is off on {}: promoted, it couldn't serve the other replicas",
            replica.name
        ),
        format!(
            "{missing} = ON in its option file, and a restart; with log_bin, log_slave_updates (log_replica_updates) too."
        ),
    ))
}

fn binary_log_format(replica: Side<'_>, source: Side<'_>) -> Option<Check> {
    const ID: &str = "failover.binlog-format";
    for side in [source, replica] {
        let format = side.condition.variable("binlog_format").unwrap_or_default();
        if !format.eq_ignore_ascii_case("ROW") && !format.is_empty() {
            return Some(Check::new(
                ID,
                side.name,
                Status::Warn,
                format!(
                    "binlog_format of {} is {format}: statements may give other results on a replica",
                    side.name
                ),
                "binlog_format = ROW in the option file and SET GLOBAL.",
            ));
        }
    }
    ok(ID, replica, "ROW on both")
}

/// With whole rows in the binary log, an UPDATE of one small column writes the blobs beside it.
fn row_image(replica: Side<'_>, source: Side<'_>) -> Option<Check> {
    const ID: &str = "datajoint.row-image";
    let blobs = source.parity.or(replica.parity)?.large.known()?;
    let image = source
        .condition
        .variable("binlog_row_image")
        .unwrap_or_default();
    let first = blobs.first()?;
    if !image.eq_ignore_ascii_case("FULL") {
        return ok(ID, source, format!("binlog_row_image is {image}"));
    }
    Some(Check::new(
        ID,
        source.name,
        Status::Warn,
        format!(
            "binlog_row_image is FULL, and {} tables have large columns (such as {}): every UPDATE of another column writes them too",
            blobs.len(),
            first.full_name()
        ),
        "SET PERSIST binlog_row_image = 'NOBLOB' (MariaDB: SET GLOBAL, and the option file).",
    ))
}

const PACKET_MAX: u64 = 1 << 30;

fn packets(replica: Side<'_>, source: Side<'_>) -> Option<Check> {
    const ID: &str = "datajoint.packets";
    let of_source = source.condition.number("max_allowed_packet")?;
    let own = replica.condition.number("max_allowed_packet")?;
    let of_stream = replica.condition.number("replica_max_allowed_packet")?;
    let mib = |bytes: u64| bytes >> 20;
    if of_stream < of_source.min(PACKET_MAX) {
        return Some(Check::new(
            ID,
            replica.name,
            Status::Fail,
            format!(
                "{} receives at most {} MiB at once, and {} takes {} MiB: replication would stop",
                replica.name,
                mib(of_stream),
                source.name,
                mib(of_source)
            ),
            format!(
                "SET GLOBAL replica_max_allowed_packet = {PACKET_MAX} (MariaDB, before 8.0.26: slave_max_allowed_packet), and the option file."
            ),
        ));
    }
    if own < of_source {
        return Some(Check::new(
            ID,
            replica.name,
            Status::Fail,
            format!(
                "max_allowed_packet is {} MiB on {} and {} MiB on {}: promoted, it would refuse what clients send",
                mib(own),
                replica.name,
                mib(of_source),
                source.name
            ),
            format!(
                "SET GLOBAL max_allowed_packet = {of_source} on {}, and its option file.",
                replica.name
            ),
        ));
    }
    ok(
        ID,
        replica,
        format!("takes {} MiB at once, as its source", mib(own)),
    )
}

/// Shorter than this, a replica that was off over a weekend is lost.
const LIFE_MIN_S: u64 = 3 * 86_400;

fn expiry(_replica: Side<'_>, source: Side<'_>) -> Option<Check> {
    const ID: &str = "failover.binlog-expiry";
    let Some(life) = source.condition.binary_log_life() else {
        return ok(ID, source, "binary logs are kept for ever");
    };
    let days = life.as_secs_f64() / 86_400.0;
    if life.as_secs() < LIFE_MIN_S {
        return Some(Check::new(
            ID,
            source.name,
            Status::Warn,
            format!(
                "{} keeps its binary logs for {days:.1} days: a snapshot or replica older than that can't catch up",
                source.name
            ),
            "SET PERSIST binlog_expire_logs_seconds = 604800 (before 8.0: expire_logs_days), and see that the disk has room.",
        ));
    }
    ok(
        ID,
        source,
        format!("binary logs are kept for {days:.1} days"),
    )
}

fn charset(replica: Side<'_>, source: Side<'_>) -> Option<Check> {
    const ID: &str = "datajoint.charset";
    for name in ["character_set_server", "collation_server"] {
        let (own, theirs) = (
            replica.condition.variable(name)?,
            source.condition.variable(name)?,
        );
        if own != theirs {
            return Some(Check::new(
                ID,
                replica.name,
                Status::Warn,
                format!(
                    "{name} is {own} on {} and {theirs} on {}: new tables would differ after a failover",
                    replica.name, source.name
                ),
                format!(
                    "{name} = {theirs} in the option file of {}, and SET GLOBAL.",
                    replica.name
                ),
            ));
        }
    }
    ok(ID, replica, "the same defaults as its source")
}

fn case_of_names(replica: Side<'_>, source: Side<'_>) -> Option<Check> {
    const ID: &str = "failover.case-of-names";
    let name = "lower_case_table_names";
    let (own, theirs) = (
        replica.condition.variable(name)?,
        source.condition.variable(name)?,
    );
    if own == theirs {
        return ok(ID, replica, "names of tables have the same case rule");
    }
    Some(Check::new(
        ID,
        replica.name,
        Status::Fail,
        format!(
            "{name} is {own} on {} and {theirs} on {}",
            replica.name, source.name
        ),
        "It can only be set when a data directory is made: make the replica anew with the source's value.",
    ))
}

fn tls(replica: Side<'_>, source: Side<'_>) -> Option<Check> {
    const ID: &str = "datajoint.tls";
    let offers = |side: Side<'_>| {
        side.condition
            .variable("ssl_cert")
            .map(|cert| !cert.is_empty())
    };
    match (offers(replica)?, offers(source)?) {
        (false, true) => Some(Check::new(
            ID,
            replica.name,
            Status::Fail,
            format!(
                "{} offers TLS and {} doesn't: clients that ask for it would be locked out",
                source.name, replica.name
            ),
            "Give the replica a certificate too: ssl_cert, ssl_key, ssl_ca in its option file.",
        )),
        (true, false) => Some(Check::new(
            ID,
            replica.name,
            Status::Warn,
            format!("{} offers TLS and {} doesn't", replica.name, source.name),
            "Give the source a certificate too, so that clients can ask for TLS.",
        )),
        _ => ok(ID, replica, "offers the same TLS as its source"),
    }
}

fn accounts(replica: Side<'_>, source: Side<'_>) -> Option<Check> {
    const ID: &str = "datajoint.accounts";
    let (own, theirs) = (&replica.parity?.accounts, &source.parity?.accounts);
    let (own, theirs) = match (own, theirs) {
        (Fact::Known(own), Fact::Known(theirs)) => (own, theirs),
        (Fact::Unknown(reason), _) | (_, Fact::Unknown(reason)) => {
            return Some(Check::new(
                ID,
                replica.name,
                Status::Unknown,
                format!("whether both have the same accounts can't be seen: {reason}"),
                "GRANT SELECT ON `mysql`.* to understudy's account, or compare mysql.user by hand.",
            ));
        }
    };
    let own: BTreeMap<&str, &str> = own.iter().map(|(a, p)| (a.as_str(), p.as_str())).collect();
    let differing: Vec<String> = theirs
        .iter()
        .filter_map(|(account, plugin)| match own.get(account.as_str()) {
            None => Some(format!("{account} is missing")),
            Some(other) if other != plugin => {
                Some(format!("{account} logs in by {other}, not {plugin}"))
            }
            Some(_) => None,
        })
        .collect();
    match differing.as_slice() {
        [] => ok(
            ID,
            replica,
            format!(
                "has the {} accounts of its source, with the same log-in",
                theirs.len()
            ),
        ),
        [first, rest @ ..] => Some(Check::new(
            ID,
            replica.name,
            Status::Warn,
            format!(
                "accounts of {} differ on {}: {first}{}",
                source.name,
                replica.name,
                match rest.len() {
                    0 => String::new(),
                    more => format!(", and {more} more"),
                }
            ),
            "Copy what SHOW CREATE USER and SHOW GRANTS say on the source, with sql_log_bin = 0.",
        )),
    }
}

fn read_only_at_boot(replica: Side<'_>, _source: Side<'_>) -> Option<Check> {
    const ID: &str = "failover.boot-read-only";
    match &replica.parity?.read_only_stays {
        // Not read-only now: a rule of its own.
        Fact::Known(None) => None,
        Fact::Known(Some(true)) => ok(ID, replica, "comes up read-only"),
        Fact::Known(Some(false)) => Some(Check::new(
            ID,
            replica.name,
            Status::Warn,
            format!(
                "{} is read-only until it restarts: then it accepts writes",
                replica.name
            ),
            match replica.condition.flavour.is_mariadb() {
                true => "read_only = 1 in its option file, below [mariadb] or [mysqld].",
                false => "SET PERSIST super_read_only = 1.",
            },
        )),
        Fact::Unknown(reason) => Some(Check::new(
            ID,
            replica.name,
            Status::Unknown,
            format!(
                "whether {} comes up read-only can't be seen: {reason}",
                replica.name
            ),
            "Look for read_only (super_read_only) in its option file.",
        )),
    }
}

fn durability(_replica: Side<'_>, source: Side<'_>) -> Option<Check> {
    const ID: &str = "failover.durability";
    let lax: Vec<&str> = ["sync_binlog", "innodb_flush_log_at_trx_commit"]
        .into_iter()
        .filter(|name| {
            source
                .condition
                .variable(name)
                .is_some_and(|value| value != "1")
        })
        .collect();
    match lax.as_slice() {
        [] => ok(ID, source, "every commit is on disk before it is answered"),
        names => Some(Check::new(
            ID,
            source.name,
            Status::Warn,
            format!(
                "{} isn't 1 on {}: a crash can lose commits that clients and replicas have seen",
                names.join(" and "),
                source.name
            ),
            "SET GLOBAL both to 1, and in the option file, unless the loss is accepted.",
        )),
    }
}
