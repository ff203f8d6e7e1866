//! The rules: each a name that stays, one pure function, and the words of docs/RULES.md.
//!
//! A rule that finds nothing is silent; one that can't know because a server doesn't answer leaves
//! that to `server.unreachable`, so that one cause makes one finding.

mod pair;
mod receipts;
mod replication;
mod server;
mod snapshots;

use super::finding::{Finding, Severity, Verdict};
use super::picture::Picture;

/// What a rule looks at.
#[derive(Clone, Copy)]
pub enum Looks {
    /// Each server of the pair, by its place.
    Server(fn(&Picture<'_>, usize) -> Option<Verdict>),
    Pair(fn(&Picture<'_>) -> Option<Verdict>),
}

pub struct Rule {
    pub name: &'static str,
    pub looks: Looks,
    /// When it speaks, and how loudly: a cell of the table in docs/RULES.md.
    pub when: &'static str,
    /// What to do then: another.
    pub cure: &'static str,
}

/// In the order in which findings are shown.
pub const RULES: &[Rule] = &[
    Rule {
        name: "server.unreachable",
        looks: Looks::Server(server::unreachable),
        when: "critical: nothing that a server would say came back within the time limit",
        cure: "Start the server, or repair the network; if it is gone: `understudy failover PAIR`.",
    },
    Rule {
        name: "server.unknown",
        looks: Looks::Server(server::unknown),
        when: "unknown: a server is there and doesn't let us look: wrong or expired password, too many connections, TLS",
        cure: "Repair the account, or what keeps it out; `understudy grants SERVER` prints its SQL.",
    },
    Rule {
        name: "server.identity-changed",
        looks: Looks::Server(server::identity_changed),
        when: "critical: another server answers under this address than the one that was known",
        cure: "Find out which server it is. If the change is meant: `understudy status --accept SERVER`.",
    },
    Rule {
        name: "pair.no-source",
        looks: Looks::Pair(pair::no_source),
        when: "critical: no server of the pair accepts writes, or nobody can tell which one is the source",
        cure: "See the servers' own findings; with the source dead: `understudy failover PAIR`.",
    },
    Rule {
        name: "pair.both-writable",
        looks: Looks::Pair(pair::both_writable),
        when: "critical: two servers of the pair accept writes, so that their data can part for good",
        cure: "A server that a failover gave up: `understudy rejoin SERVER`. Else, on the one that isn't the source: SET GLOBAL read_only = 1 (MySQL: super_read_only).",
    },
    Rule {
        name: "pair.not-rejoined",
        looks: Looks::Pair(receipts::not_rejoined),
        when: "warning: a server was given up by a failover and hasn't rejoined; unknown when a receipt can't be read",
        cure: "`understudy rejoin SERVER`, when it runs again.",
    },
    Rule {
        name: "server.demoted-writable",
        looks: Looks::Server(receipts::demoted_writable),
        when: "critical: a server that a failover gave up is back and accepts writes",
        cure: "`understudy rejoin SERVER`: it closes it first.",
    },
    Rule {
        name: "pair.duplicate-server-id",
        looks: Looks::Pair(pair::duplicate_server_id),
        when: "critical: two servers have one server_id or one server_uuid; each drops what the other wrote",
        cure: "Give one another server_id; for a copied uuid, stop it, remove auto.cnf, start it.",
    },
    Rule {
        name: "pair.version-skew",
        looks: Looks::Server(pair::version_skew),
        when: "warning: a replica is older than its source, or of another flavour",
        cure: "Upgrade replicas first, the source last.",
    },
    Rule {
        name: "replica.not-following",
        looks: Looks::Server(replication::not_following),
        when: "critical: a server that should follow the source follows nobody, or another one",
        cure: "`understudy setup PAIR` makes it follow.",
    },
    Rule {
        name: "replica.paused",
        looks: Looks::Server(replication::paused),
        when: "info: paused on purpose, by a snapshot or `understudy pause`; critical past its deadline",
        cure: "`understudy resume SERVER`, or `understudy recover SERVER`.",
    },
    Rule {
        name: "replica.io-stopped",
        looks: Looks::Server(replication::io_stopped),
        when: "critical: the IO thread is stopped without an error: nothing is received",
        cure: "START REPLICA IO_THREAD (MariaDB: START SLAVE IO_THREAD).",
    },
    Rule {
        name: "replica.io-error",
        looks: Looks::Server(replication::io_error),
        when: "critical: the IO thread can't reach or read its source, or tries to",
        cure: "The message is the server's own: account, network, TLS, or binary logs that are gone.",
    },
    Rule {
        name: "replica.sql-stopped",
        looks: Looks::Server(replication::sql_stopped),
        when: "critical: the SQL thread is stopped without an error, and not by us",
        cure: "START REPLICA SQL_THREAD (MariaDB: START SLAVE SQL_THREAD).",
    },
    Rule {
        name: "replica.sql-error",
        looks: Looks::Server(replication::sql_error),
        when: "critical: the SQL thread stopped at a transaction that it can't apply",
        cure: "The replica differs from its source: find out why before anything is skipped; at best provision it anew.",
    },
    Rule {
        name: "replica.lag",
        looks: Looks::Server(replication::lag),
        when: "warning from 60 s, critical from 5 min (`--warning-lag`, `--critical-lag`)",
        cure: "Find the long transaction or the missing primary key; compare the disks.",
    },
    Rule {
        name: "replica.lag-unknown",
        looks: Looks::Server(replication::lag_unknown),
        when: "unknown: the threads run, and nothing tells how far behind they are",
        cure: "`understudy heartbeat SOURCE --forever` on any host gives the true lag.",
    },
    Rule {
        name: "replica.errant-gtids",
        looks: Looks::Server(replication::errant_gtids),
        when: "warning: the replica has transactions of its own, which its source hasn't",
        cure: "Find out what was written there; provision it anew before it is promoted.",
    },
    Rule {
        name: "replica.writable",
        looks: Looks::Server(replication::writable),
        when: "warning: a replica accepts writes of ordinary accounts, or (MySQL) of privileged ones",
        cure: "SET PERSIST super_read_only = 1; MariaDB: SET GLOBAL read_only = 1, and read_only in its option file.",
    },
    Rule {
        name: "replica.gap-risk",
        looks: Looks::Server(replication::gap_risk),
        when: "warning: a stop or crash can leave gaps: parallel workers without commit order, or a channel without GTID",
        cure: "SET PERSIST replica_preserve_commit_order = 1; follow by GTID (`understudy setup PAIR`).",
    },
    Rule {
        name: "source.binlog-expiry",
        looks: Looks::Server(replication::binlog_expiry),
        when: "critical: the source's binary logs of what a replica lacks are gone; warning when half their life is spent",
        cure: "Raise binlog_expire_logs_seconds; a replica that lacks purged logs must be provisioned anew.",
    },
    Rule {
        name: "source.semi-sync-degraded",
        looks: Looks::Server(replication::semi_sync_degraded),
        when: "warning: semi-synchronous replication is on and no commit waits for a replica now",
        cure: "Bring a semi-synchronous replica back; until then a lost source may lose commits.",
    },
    Rule {
        name: "server.disk-runway",
        looks: Looks::Server(server::disk_runway),
        when: "warning below 10 % free or 14 days to full, critical below 5 % or 3 days; on this host only",
        cure: "Grow the volume, or remove what isn't needed: old binary logs, snapshots (`snapshot prune`).",
    },
    Rule {
        name: "snapshot.age",
        looks: Looks::Server(snapshots::age),
        when: "warning from 26 h, critical from 50 h since the newest good snapshot (`--warning-snapshot-age`, `--critical-snapshot-age`)",
        cure: "See why the nightly job failed: `understudy doctor SERVER`, its journal, its mail.",
    },
    Rule {
        name: "snapshot.proof-age",
        looks: Looks::Server(snapshots::proof_age),
        when: "warning from 8 days, critical from 15 days since a server last came up on a snapshot",
        cure: "`understudy snapshot verify latest:SERVER`, or `snapshot create --verify` every night.",
    },
    Rule {
        name: "snapshot.bad",
        looks: Looks::Server(snapshots::bad),
        when: "warning: a snapshot's proof failed, or its volume is damaged or gone; critical when it is the newest",
        cure: "`understudy snapshot show ID` says what was found; take and verify another.",
    },
    Rule {
        name: "snapshot.storage-filling",
        looks: Looks::Server(snapshots::storage_filling),
        when: "warning from 80 %, critical from 95 %: a thick snapshot's area, a thin pool, a ZFS pool",
        cure: "Extend it, or `understudy snapshot prune`.",
    },
    Rule {
        name: "snapshot.orphans",
        looks: Looks::Server(snapshots::orphans),
        when: "warning: volumes of ours without a manifest take up room",
        cure: "`understudy snapshot list` shows them, `snapshot delete ID` removes one.",
    },
    Rule {
        name: "server.unfinished-operation",
        looks: Looks::Server(server::unfinished),
        when: "warning: an operation (a switchover, failover, rejoin, repoint among them) was interrupted and not put back or carried through yet; info while one runs",
        cure: "`understudy recover SERVER`.",
    },
];

/// Findings of each server, in the order of the rules, and those of the pair.
pub struct Findings {
    pub servers: Vec<Vec<Finding>>,
    pub pair: Vec<Finding>,
}

impl Findings {
    pub fn all(&self) -> impl Iterator<Item = &Finding> {
        self.pair.iter().chain(self.servers.iter().flatten())
    }
}

/// Asks every rule whose name is wanted; all when none is named.
pub fn judge(picture: &Picture<'_>, wanted: &[String]) -> Findings {
    let mut findings = Findings {
        servers: vec![Vec::new(); picture.view.servers.len()],
        pair: Vec::new(),
    };
    let is_wanted = |rule: &&Rule| wanted.is_empty() || wanted.iter().any(|name| name == rule.name);
    for rule in RULES.iter().filter(is_wanted) {
        match rule.looks {
            Looks::Pair(look) => findings.pair.extend(look(picture).map(|v| of(rule, v))),
            Looks::Server(look) => {
                for (server, found) in findings.servers.iter_mut().enumerate() {
                    found.extend(look(picture, server).map(|v| of(rule, v)));
                }
            }
        }
    }
    for found in findings.servers.iter_mut().chain([&mut findings.pair]) {
        found.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    }
    findings
}

fn of(rule: &Rule, verdict: Verdict) -> Finding {
    Finding {
        rule: rule.name,
        severity: verdict.severity,
        message: verdict.message,
        hint: verdict.hint,
    }
}

/// Two limits, both included; `None` below them.
fn graded(value: f64, warning: f64, critical: f64) -> Option<Severity> {
    match value {
        value if value >= critical => Some(Severity::Critical),
        value if value >= warning => Some(Severity::Warning),
        _ => None,
    }
}

/// The table of docs/RULES.md.
pub fn table() -> String {
    let mut text = String::from("| rule | speaks when | cure |\n|---|---|---|\n");
    for rule in RULES {
        text.push_str(&format!(
            "| `{}` | {} | {} |\n",
            rule.name,
            rule.when.replace('|', "\\|"),
            rule.cure.replace('|', "\\|")
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    /// With UPDATE_DOCS set it writes the table instead.
    #[test]
    fn docs_have_the_table_of_rules() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/RULES.md");
        let text = std::fs::read_to_string(&path).unwrap();
        let (begin, end) = ("<!-- rules -->\n", "<!-- end of rules -->");
        let (head, rest) = text.split_once(begin).unwrap();
        let (own, tail) = rest.split_once(end).unwrap();
        if std::env::var_os("UPDATE_DOCS").is_some() {
            let text = format!("{head}{begin}{}{end}{tail}", table());
            std::fs::write(&path, text).unwrap();
        } else {
            assert!(
                own == table(),
                "run: UPDATE_DOCS=1 cargo test --lib docs_have"
            );
        }
    }

    #[test]
    fn rules_have_names_of_their_own() {
        let names: BTreeSet<_> = RULES.iter().map(|rule| rule.name).collect();
        assert_eq!(names.len(), RULES.len());
    }

    #[test]
    fn limits_are_included() {
        assert_eq!(graded(59.9, 60.0, 300.0), None);
        assert_eq!(graded(60.0, 60.0, 300.0), Some(Severity::Warning));
        assert_eq!(graded(300.0, 60.0, 300.0), Some(Severity::Critical));
    }
}
