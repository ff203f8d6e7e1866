//! Whether a position fits a source: is all of it in that source's history? Pure.
//!
//! A snapshot may hold transactions that the present source never had: it was taken before a failover
//! that lost them. Restored as a replica it would have a history of its own. Purged logs don't matter
//! here: what a source has executed counts, not what it can still send.

use std::collections::BTreeSet;

use jiff::Timestamp;

use crate::journal::receipt::{Past, Receipt};
use crate::server::gtid::{GtidSet, MariadbGtidPos, MysqlGtidSet, SourceUuid};

/// What a source has executed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct History {
    /// Its name in the configuration.
    pub source: String,
    /// MySQL: what it has executed. MariaDB: the state of its binary log, which has the last
    /// transaction of each server.
    pub executed: GtidSet,
    /// MariaDB: what it has applied, logged or not.
    pub applied: Option<MariadbGtidPos>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fit {
    /// The source has all of it.
    Fits,
    /// It has transactions that the source hasn't.
    Ahead(Ahead),
    /// Not healthy: nobody knows; why.
    Unknown(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ahead {
    /// MySQL: what it has more. MariaDB: its last transaction in each domain with more.
    pub gtid: String,
    /// MariaDB: by the sequence numbers.
    pub transactions: u64,
    /// The failover that lost them, as far as a receipt tells.
    pub lost_in: Option<Lost>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lost {
    /// The operation's name.
    pub operation: String,
    pub at: String,
}

impl Fit {
    pub fn is_ahead(&self) -> bool {
        matches!(self, Self::Ahead(_))
    }

    /// For people.
    pub fn words(&self) -> String {
        match self {
            Self::Fits => "fits".to_owned(),
            Self::Ahead(ahead) => format!("ahead by {}", ahead.transactions),
            Self::Unknown(_) => "unknown".to_owned(),
        }
    }
}

impl Ahead {
    /// `3 transactions (0-1-12), lost in the failover of 2026-11-27T…`
    pub fn words(&self) -> String {
        let lost = self.lost_in.as_ref().map_or(String::new(), |lost| {
            format!(", lost in the failover of {}", lost.at)
        });
        format!("{} transactions ({}){lost}", self.transactions, self.gtid)
    }
}

/// Where a snapshot stands.
#[derive(Debug, Clone, Copy)]
pub struct Stand<'a> {
    pub gtid: &'a str,
    pub created: Timestamp,
    pub pair: &'a str,
    pub server: &'a str,
    /// MariaDB: the state of its binary log, where that was recorded.
    pub written: &'a str,
    /// MySQL's uuid, MariaDB's `ID@HOST:PORT`.
    pub identity: &'a str,
    /// It had several sources: what came from the others isn't this one's.
    pub has_several: bool,
}

/// Compares a snapshot with its pair's present source, or says why that can't be done. Without the
/// source, what a failover's receipt noted of it still proves that older snapshots fit. And a receipt
/// tells what no comparison can: that the same GTIDs were given twice.
pub fn judge(stand: Stand<'_>, source: &Result<History, String>, past: &[Past]) -> Fit {
    if stand.gtid.is_empty() {
        return Fit::Unknown("it has no GTID".to_owned());
    }
    let of_pair: Vec<&Past> = past
        .iter()
        .filter(|past| past.receipt.pair == stand.pair)
        .collect();
    if let Some(ahead) = of_pair.iter().find_map(|past| holds_lost(stand, past)) {
        return Fit::Ahead(ahead);
    }
    let fit = match source {
        Ok(history) => compare(stand, history),
        Err(reason) => match by_receipt(stand, &of_pair) {
            true => Fit::Fits,
            false => Fit::Unknown(reason.clone()),
        },
    };
    match fit {
        Fit::Ahead(ahead) => Fit::Ahead(Ahead {
            lost_in: lost_in(stand, &of_pair),
            ..ahead
        }),
        fit => fit,
    }
}

/// Without a word of failovers. As `health::errant` judges a server that runs.
pub fn compare(stand: Stand<'_>, history: &History) -> Fit {
    let (gtid, source) = (stand.gtid, &history.source);
    match &history.executed {
        GtidSet::Mysql(executed) => match MysqlGtidSet::parse(gtid) {
            Ok(own) => {
                let more = own.subtract(executed);
                let more = match SourceUuid::parse(stand.identity) {
                    Some(uuid) if stand.has_several => more.of_source(uuid),
                    Some(_) | None => more,
                };
                match more.is_empty() {
                    true => Fit::Fits,
                    false => Fit::Ahead(Ahead {
                        gtid: more.to_line(),
                        transactions: u64::try_from(more.count()).unwrap_or(u64::MAX),
                        lost_in: None,
                    }),
                }
            }
            Err(_) => unreadable(gtid, source),
        },
        GtidSet::Mariadb(state) => {
            let read = MariadbGtidPos::parse;
            match (read(gtid), read(stand.written)) {
                (Ok(own), Ok(written)) => compare_mariadb(stand, (&own, &written), state, history),
                (Err(_), _) | (_, Err(_)) => unreadable(gtid, source),
            }
        }
    }
}

fn unreadable(gtid: &str, source: &str) -> Fit {
    Fit::Unknown(format!("its GTID {gtid:?} is none of {source}'s flavour"))
}

fn compare_mariadb(
    stand: Stand<'_>,
    (own, written): (&MariadbGtidPos, &MariadbGtidPos),
    state: &MariadbGtidPos,
    history: &History,
) -> Fit {
    let applied = history.applied.as_ref();
    let own_id = stand.identity.split('@').next();
    let own_id: Option<u32> = own_id.and_then(|id| id.parse().ok());
    let is_own = |server: u32| own_id == Some(server);
    let (mut more, mut transactions, mut strange) = (Vec::new(), 0_u64, Vec::new());
    let entries: BTreeSet<(u32, u32, u64)> = own.entries().chain(written.entries()).collect();
    let counted = entries.into_iter();
    for (domain, server, sequence) in counted.filter(|(_, server, _)| {
        // What came from its other sources isn't this one's.
        !stand.has_several || is_own(*server)
    }) {
        let name = format!("{domain}-{server}-{sequence}");
        let reached = state.reached(applied, domain, server);
        // Who wrote it is known, or it is later than all that the domain has.
        let last = [Some(state), applied].into_iter().flatten();
        let last = last.filter_map(|one| one.sequence(domain)).max();
        let from = match (reached, last) {
            (Some(reached), _) if reached >= sequence => continue,
            (None, Some(last)) if last >= sequence && !is_own(server) => {
                // The history of other servers, which the source may never have met.
                if own.sequence_of(domain, server) == Some(sequence) {
                    strange.push(name);
                }
                continue;
            }
            (None, Some(last)) if last >= sequence => sequence - 1,
            (reached, last) => reached.or(last).unwrap_or(0),
        };
        transactions = transactions.saturating_add((sequence - from).max(1));
        more.push(name);
    }
    if !more.is_empty() {
        return Fit::Ahead(Ahead {
            gtid: more.join(","),
            transactions,
            lost_in: None,
        });
    }
    match strange.is_empty() {
        true => Fit::Fits,
        false => Fit::Unknown(format!(
            "the binary log of {} knows nothing of who wrote {}",
            history.source,
            strange.join(",")
        )),
    }
}

/// Of before its old source followed again, and with transactions that it lost. Since then that
/// server may have given their GTIDs to others, which the present source has.
fn holds_lost(stand: Stand<'_>, past: &Past) -> Option<Ahead> {
    let settled: Timestamp = past.settled.as_ref()?.parse().ok()?;
    let receipt = &past.receipt;
    if stand.created >= settled || receipt.lost.gtid.is_empty() {
        return None;
    }
    let lost_in = Some(Lost {
        operation: receipt.operation.clone(),
        at: receipt.at.clone(),
    });
    if let (Ok(GtidSet::Mysql(own)), Ok(GtidSet::Mysql(lost))) = (
        GtidSet::parse_mysql(stand.gtid),
        GtidSet::parse_mysql(&receipt.lost.gtid),
    ) {
        let both = own.intersect(&lost);
        return (!both.is_empty()).then(|| Ahead {
            gtid: both.to_line(),
            transactions: u64::try_from(both.count()).unwrap_or(u64::MAX),
            lost_in,
        });
    }
    let parse = |text: &str| MariadbGtidPos::parse(text).ok();
    let (own, lost) = (parse(stand.gtid)?, parse(&receipt.lost.gtid)?);
    let base = parse(&receipt.gtid)?;
    let (mut more, mut transactions) = (Vec::new(), 0_u64);
    for (domain, server, sequence) in own.entries() {
        let from = base.reached(None, domain, server);
        let from = from.or(base.sequence(domain)).unwrap_or(0);
        if lost.sequence_of(domain, server).is_some() && sequence > from {
            more.push(format!("{domain}-{server}-{sequence}"));
            transactions = transactions.saturating_add(sequence - from);
        }
    }
    (!more.is_empty()).then(|| Ahead {
        gtid: more.join(","),
        transactions,
        lost_in,
    })
}

/// What the newest new source had when it was opened is in the history of whoever is the source now.
fn by_receipt(stand: Stand<'_>, past: &[&Past]) -> bool {
    let receipts = past.iter().map(|past| &past.receipt);
    let Some(newest) = receipts.max_by_key(|receipt| at(receipt)) else {
        return false;
    };
    let parsed = [
        GtidSet::parse_mysql(&newest.gtid),
        GtidSet::parse_mariadb(&newest.gtid),
    ];
    parsed.into_iter().flatten().any(|executed| {
        let history = History {
            source: newest.new_source.clone(),
            executed,
            applied: None,
        };
        compare(stand, &history) == Fit::Fits
    })
}

fn at(receipt: &Receipt) -> Option<Timestamp> {
    receipt.at.parse().ok()
}

/// The first failover after it was taken; of an old source that came back with them, its last one.
fn lost_in(stand: Stand<'_>, past: &[&Past]) -> Option<Lost> {
    let receipts = || past.iter().map(|past| &past.receipt);
    let after = receipts()
        .filter(|receipt| at(receipt).is_some_and(|at| at >= stand.created))
        .min_by_key(|receipt| at(receipt));
    let own = receipts()
        .filter(|receipt| receipt.old_source == stand.server)
        .max_by_key(|receipt| at(receipt));
    after.or(own).map(|receipt| Lost {
        operation: receipt.operation.clone(),
        at: receipt.at.clone(),
    })
}

#[cfg(test)]
mod tests;
