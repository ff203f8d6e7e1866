//! Transactions that a replica has and its source hasn't: somebody wrote to the replica. Promoted,
//! it would have a history of its own; repointed, its source may refuse it.

use crate::server::condition::Condition;
use crate::server::gtid::{GtidSet, MysqlGtidSet, SourceUuid};
use crate::sys::Fact;

/// In the flavour's own terms; empty when there are none.
pub fn errant(replica: &Condition, source: &Condition) -> Fact<String> {
    match (&replica.executed, &source.executed) {
        (Fact::Known(GtidSet::Mysql(own)), Fact::Known(GtidSet::Mysql(of_source))) => {
            Fact::Known(of_mysql(replica, own, of_source, source))
        }
        (Fact::Known(GtidSet::Mariadb(_)), Fact::Known(GtidSet::Mariadb(_))) => {
            of_mariadb(replica, source)
        }
        (Fact::Unknown(reason), _) | (_, Fact::Unknown(reason)) => Fact::Unknown(reason.clone()),
        (Fact::Known(_), Fact::Known(_)) => Fact::unknown("the two servers are of two flavours"),
    }
}

fn of_mysql(
    replica: &Condition,
    own: &MysqlGtidSet,
    of_source: &MysqlGtidSet,
    source: &Condition,
) -> String {
    let mut more = own.subtract(of_source);
    // What waits for an acknowledgement is sent to all replicas, and isn't executed at its source yet
    // (AFTER_SYNC; seen on 9.7): only its own transactions can be that.
    let waits = source.semi_sync.is_some_and(|own| own.waiting > 0);
    let its = source.identity.server_uuid.as_deref();
    if let Some(uuid) = its.and_then(SourceUuid::parse).filter(|_| waits) {
        more = more.subtract(&more.of_source(uuid));
    }
    let uuid = replica.identity.server_uuid.as_deref();
    match uuid.and_then(SourceUuid::parse) {
        // What comes through another channel isn't this source's, and is no error.
        Some(uuid) if replica.channel_list().len() > 1 => more.of_source(uuid).to_line(),
        Some(_) | None => more.to_line(),
    }
}

/// From what the binary logs know of each server's last transaction in each domain.
fn of_mariadb(replica: &Condition, source: &Condition) -> Fact<String> {
    if replica.is_on("log_bin") != Some(true) || source.is_on("log_bin") != Some(true) {
        return Fact::unknown("without a binary log nobody knows what was written where");
    }
    let (own, theirs) = match (&replica.written, &source.written) {
        (Fact::Known(Some(GtidSet::Mariadb(own))), Fact::Known(Some(GtidSet::Mariadb(theirs)))) => {
            (own, theirs)
        }
        _ => return Fact::unknown("the servers don't tell what is in their binary logs"),
    };
    // What the source itself has applied from others, when it doesn't log that.
    let applied = source.variable("gtid_slave_pos").unwrap_or_default();
    let applied = source.flavour.known_gtid(applied);
    let applied = match applied.known() {
        Some(GtidSet::Mariadb(applied)) => Some(applied),
        Some(GtidSet::Mysql(_)) | None => None,
    };
    let has_several = replica.channel_list().len() > 1;
    let is_errant = |entry: &(u32, u32, u64)| {
        if let Some(has) = theirs.has(applied, *entry) {
            return !has;
        }
        let (domain, server, sequence) = entry;
        // Of a server that the source has never heard of: its own, or ahead of all.
        *server == replica.identity.server_id
            || !has_several && theirs.sequence(*domain).is_none_or(|last| last < *sequence)
    };
    let list: Vec<String> = own
        .entries()
        .filter(is_errant)
        .filter(|(_, server, _)| !has_several || *server == replica.identity.server_id)
        .map(|(domain, server, sequence)| format!("{domain}-{server}-{sequence}"))
        .collect();
    Fact::Known(list.join(","))
}

/// Numbers missing in the middle of what a source's server wrote: a multi-threaded applier left
/// them, or is at them now. MariaDB's positions have none.
pub fn gaps(replica: &Condition, source: &Condition) -> Option<String> {
    let (Fact::Known(GtidSet::Mysql(own)), Fact::Known(GtidSet::Mysql(theirs))) =
        (&replica.executed, &source.executed)
    else {
        return None;
    };
    let missing = theirs.subtract(own);
    let gaps: Vec<String> = missing
        .iter()
        .flat_map(|(uuid, tag, intervals)| {
            let last = own
                .iter()
                .filter(|(other, other_tag, _)| *other == uuid && *other_tag == tag)
                .filter_map(|(_, _, own)| own.last().map(|interval| interval.last))
                .max()
                .unwrap_or(0);
            intervals
                .iter()
                .filter(move |interval| interval.last < last)
                .map(move |interval| format!("{uuid}:{}-{}", interval.first, interval.last))
        })
        .collect();
    (!gaps.is_empty()).then(|| gaps.join(","))
}
