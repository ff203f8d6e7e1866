//! Tables for what is decided: who may become the source, and what is told before.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::against;
use super::assess::{self, Wish};
use super::look::{self, Burdens, Change};
use crate::config::{Address, FailoverConfig};
use crate::health::picture::Picture;
use crate::health::view::{Answer, Limits, PairView, ServerView, Snapshots};
use crate::journal::receipt::Receipts;
use crate::server::burden::{Burden, HeldLock, Transaction};
use crate::server::condition::Condition;
use crate::server::held::Held;
use crate::server::replication::{Channel, parse_channels};
use crate::server::row::Row;
use crate::server::{Flavour, Identity};
use crate::sys::Fact;

const MYSQL: &str = "8.4.3 x";
const MARIADB: &str = "10.11.19-MariaDB x";

fn uuid(id: u32) -> String {
    format!("{id:08}-0000-0000-0000-000000000000")
}

fn condition(version: &str, id: u32, gtid: &str, channels: Vec<Channel>) -> Condition {
    let flavour = Flavour::of_version(version);
    let read_only = if channels.is_empty() { "0" } else { "1" };
    let variables: BTreeMap<String, String> = [
        ("read_only", read_only),
        ("log_bin", "1"),
        ("log_replica_updates", "1"),
        (
            "gtid_slave_pos",
            if flavour.is_mariadb() { gtid } else { "" },
        ),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into();
    Condition {
        identity: Identity {
            server_uuid: (!flavour.is_mariadb()).then(|| uuid(id)),
            server_id: id,
            hostname: format!("host{id}"),
            port: 3306,
            data_dir: "/data/".to_owned(),
        },
        executed: flavour.known_gtid(gtid),
        written: match flavour.is_mariadb() {
            true => flavour.known_gtid(gtid).map(Some),
            false => Fact::Known(None),
        },
        flavour,
        variables,
        channels: Fact::Known(channels),
        beats: Vec::new(),
        applied: None,
        can_leave_gaps: false,
        events: Vec::new(),
        semi_sync: None,
        clock_us: None,
        at: Instant::now(),
    }
}

/// A channel to server `id`, with both threads running.
fn following(id: u32, more: &[(&str, &str)]) -> Channel {
    let (host, uuid, id) = (format!("host{id}"), uuid(id), id.to_string());
    let mut columns: BTreeMap<&str, &str> = [
        ("Source_Host", host.as_str()),
        ("Source_Port", "3306"),
        ("Source_UUID", uuid.as_str()),
        ("Source_Server_Id", id.as_str()),
        ("Replica_IO_Running", "Yes"),
        ("Replica_SQL_Running", "Yes"),
        ("Seconds_Behind_Source", "0"),
        ("Auto_Position", "1"),
        ("Retrieved_Gtid_Set", ""),
    ]
    .into();
    columns.extend(more.iter().copied());
    let row = Row::of(columns.into_iter().map(|(name, value)| (name, Some(value))));
    parse_channels(&[row]).remove(0)
}

/// Servers 1, 2, 3 as db1, db2, db3; `None` doesn't answer.
fn pair(servers: Vec<Option<Condition>>) -> PairView {
    let view = |(at, answer): (usize, Option<Condition>)| ServerView {
        name: format!("db{}", at + 1),
        address: Address::Tcp {
            host: format!("host{}", at + 1),
            port: 3306,
        },
        answer: match answer {
            Some(condition) => Answer::Answered(Box::new(condition)),
            None => Answer::Silent {
                reason: "no answer".to_owned(),
            },
        },
        purged: None,
        pause: Fact::Known(None),
        unfinished: Fact::Known(Vec::new()),
        snapshots: Fact::Known(Snapshots::default()),
        disks: Vec::new(),
        known: None,
    };
    PairView {
        name: Some("lab".to_owned()),
        servers: servers.into_iter().enumerate().map(view).collect(),
        receipts: Receipts::default(),
        now: jiff::Timestamp::UNIX_EPOCH,
    }
}

fn burden(version: &str, lines: &[&str]) -> Burden {
    let flavour = Flavour::of_version(version);
    Burden {
        privileges: Fact::Known(Held::parse(&flavour, lines.iter().copied(), "NONE")),
        prepared: Fact::Known(Vec::new()),
        temp_tables: Fact::Known(0),
        transactions: Fact::Known(Vec::new()),
        locks: Fact::Known(Vec::new()),
    }
}

const ALL: [&str; 1] = ["GRANT ALL PRIVILEGES ON *.* TO `u`@`%`"];

fn unburdened(count: usize) -> Burdens {
    vec![Some(burden("5.7.44 x", &ALL)); count]
}

fn reasons(refusals: &[super::look::Looked]) -> String {
    let all = refusals.iter().flat_map(|looked| &looked.refusals);
    all.map(|refusal| refusal.reason.as_str())
        .collect::<Vec<_>>()
        .join("; ")
}

/// Why nobody takes the place of db1: alive, then dead.
fn why_not(replica: Condition) -> [String; 2] {
    let version = replica.flavour.text.clone();
    let of_source = match replica.flavour.is_mariadb() {
        true => "0-1-9".to_owned(),
        false => format!("{}:1-9", uuid(1)),
    };
    let source = condition(&format!("{version} x"), 1, &of_source, Vec::new());
    let terms = FailoverConfig::default();
    let wish = Wish {
        to: None,
        max_lag: Duration::from_secs(5),
    };
    let view = pair(vec![Some(source), Some(replica.clone())]);
    let picture = Picture::of(&view, Limits::default());
    let alive = assess::switchover(&picture, &unburdened(2), &wish, &terms).unwrap_err();
    let view = pair(vec![None, Some(replica)]);
    let picture = Picture::of(&view, Limits::default());
    let dead = match assess::failover(&picture, &vec![None; 2], None, &terms) {
        Ok(_) => Vec::new(),
        Err(refusals) => refusals,
    };
    [alive, dead].map(|refusals| {
        let reasons = refusals.into_iter().map(|refusal| refusal.reason);
        reasons.collect::<Vec<_>>().join("; ")
    })
}

/// Each the only one of its pair: a delayed, a filtered, a stopped, an errant one, and so on.
#[test]
fn the_only_replica_is_excluded_with_its_reason() {
    for version in [MYSQL, MARIADB] {
        let gtid = match version {
            MYSQL => format!("{}:1-9", uuid(1)),
            _ => "0-1-9".to_owned(),
        };
        let with = |more: &[(&str, &str)]| condition(version, 2, &gtid, vec![following(1, more)]);
        let cases = [
            (&[("SQL_Delay", "60")][..], "kept 60 s behind on purpose"),
            (
                &[("Replicate_Ignore_Table", "lab.big")],
                "doesn't apply all of its source: Replicate_Ignore_Table lab.big",
            ),
            (
                &[("Replicate_Do_Domain_Ids", "1")],
                "Replicate_Do_Domain_Ids 1",
            ),
            (
                &[
                    ("Replica_SQL_Running", "No"),
                    ("Last_SQL_Error", "no such row"),
                ],
                "doesn't run: no such row",
            ),
            (&[("Auto_Position", "0")], "by file and position"),
        ];
        for (more, words) in cases {
            for told in why_not(with(more)) {
                assert!(told.contains(words), "{version} {more:?}: {told}");
            }
        }
        for name in ["log_bin", "log_replica_updates"] {
            let mut replica = with(&[]);
            replica.variables.insert(name.to_owned(), "0".to_owned());
            for told in why_not(replica) {
                assert!(told.contains("writes no binary log"), "{version}: {told}");
            }
        }
        // Only its source can tell.
        let more = match version {
            MYSQL => format!("{gtid},{}:1", uuid(2)),
            _ => "0-1-9,1-2-4".to_owned(),
        };
        let errant = condition(version, 2, &more, vec![following(1, &[])]);
        let [alive, dead] = why_not(errant);
        assert!(
            alive.contains("transactions of its own"),
            "{version}: {alive}"
        );
        assert_eq!(dead, "", "{version}");
        // Its source is dead: it hears nothing.
        let [alive, dead] = why_not(with(&[
            ("Replica_IO_Running", "Connecting"),
            ("Last_IO_Error", "no route"),
        ]));
        assert!(
            alive.contains("receives nothing from its source: no route"),
            "{alive}"
        );
        assert_eq!(dead, "");
    }
}

/// What stands against another channel stands against nobody.
#[test]
fn only_the_channel_of_the_pair_counts() {
    let gtid = format!("{}:1-9,{}:1-5", uuid(1), uuid(7));
    let east = following(
        7,
        &[
            ("Channel_Name", "east"),
            ("SQL_Delay", "60"),
            ("Auto_Position", "0"),
            ("Replica_SQL_Running", "No"),
            ("Replicate_Do_DB", "x"),
        ],
    );
    let replica = condition(
        MYSQL,
        2,
        &gtid,
        vec![east, following(1, &[("Channel_Name", "lab")])],
    );
    let source = condition(MYSQL, 1, &format!("{}:1-9", uuid(1)), Vec::new());
    let view = pair(vec![Some(source), Some(replica)]);
    let picture = Picture::of(&view, Limits::default());
    assert_eq!(picture.link(1).unwrap().name.as_str(), "lab");
    let wish = Wish {
        to: None,
        max_lag: Duration::from_secs(5),
    };
    let terms = FailoverConfig::default();
    let chosen = assess::switchover(&picture, &unburdened(2), &wish, &terms).unwrap();
    assert_eq!((chosen.source, chosen.candidate), (0, 1));
    let names = |names: &[&str]| {
        let taken: Vec<Channel> = names
            .iter()
            .map(|name| following(7, &[("Channel_Name", name)]))
            .collect();
        against::free_channel(&taken, "lab").as_str().to_owned()
    };
    assert_eq!(names(&["east"]), "");
    assert_eq!(names(&[""]), "lab");
    assert_eq!(names(&["", "lab"]), "lab1");
}

/// Of equals the one that the others can follow; who is asked for is told.
#[test]
fn an_older_one_can_not_follow_a_newer_one() {
    let gtid = format!("{}:1-9", uuid(1));
    let replica = |version: &str, id| condition(version, id, &gtid, vec![following(1, &[])]);
    let view = pair(vec![
        None,
        Some(replica("8.4.3 x", 2)),
        Some(replica("8.0.40 x", 3)),
    ]);
    let picture = Picture::of(&view, Limits::default());
    let terms = FailoverConfig::default();
    let burdens = vec![None; 3];
    let chosen = assess::failover(&picture, &burdens, None, &terms).unwrap();
    assert_eq!(chosen.good, [2, 1]);
    let chosen = assess::failover(&picture, &burdens, Some("db2"), &terms).unwrap();
    assert!(
        chosen.notes[0]
            .reason
            .contains("db3 (8.0.40) is older than db2 (8.4.3)")
    );
    let terms = FailoverConfig {
        prefer: vec!["db2".to_owned()],
        ..terms
    };
    let chosen = assess::failover(&picture, &burdens, None, &terms).unwrap();
    assert_eq!(chosen.good, [1, 2]);
}

#[test]
fn a_privilege_is_missed_where_it_is_needed() {
    let lines = [
        "GRANT RELOAD, SUPER, REPLICATION CLIENT ON *.* TO `u`@`%`",
        "GRANT SELECT ON *.* TO `u`@`%`",
        "GRANT ALL PRIVILEGES ON `understudy`.* TO `u`@`%`",
    ];
    let without = burden("5.7.44 x", &lines);
    let planned = look::privileges("db2", Some(&without), Change::Switchover);
    assert_eq!(
        reasons(std::slice::from_ref(&planned)),
        "understudy's account lacks PROCESS on db2: without it it can't see whose sessions have to be \
         ended; understudy's account lacks EVENT on db2: without it it can't move the events"
    );
    let urgent = look::privileges("db2", Some(&without), Change::Failover);
    assert_eq!((urgent.refusals.len(), urgent.notes.len()), (0, 2));
    let idle = ["GRANT `r`@`%` TO `u`@`%`"];
    let idle = look::privileges("db2", Some(&burden(MYSQL, &idle)), Change::Switchover);
    assert!(idle.refusals.is_empty());
    assert!(idle.notes[0].reason.contains("isn't active"), "{idle:?}");
}

#[test]
fn what_is_open_on_the_source_is_told() {
    let transaction = Transaction {
        connection: 7,
        user: "ann".to_owned(),
        id: "1587".to_owned(),
        age: Duration::from_secs(3600),
        rows_written: 2,
    };
    let lock = HeldLock {
        connection: 8,
        user: "bob".to_owned(),
        what: "the table lab.w".to_owned(),
    };
    let open = Burden {
        prepared: Fact::Known(vec!["q1".to_owned()]),
        temp_tables: Fact::Known(1),
        transactions: Fact::Known(vec![transaction]),
        locks: Fact::Known(vec![lock]),
        ..burden(MYSQL, &ALL)
    };
    let looked = look::of_source("db1", &open);
    assert!(
        looked.refusals[0]
            .reason
            .contains("1 XA transaction prepared")
    );
    let notes: Vec<&str> = looked
        .notes
        .iter()
        .map(|note| note.reason.as_str())
        .collect();
    assert_eq!(
        notes,
        [
            "on db1 connection 7 of ann has a transaction open for 1h, which has written 2 rows",
            "on db1 connection 8 of bob holds a lock on the table lab.w",
        ]
    );
    let told = look::of_candidate("db2", &open, Change::Failover).unwrap();
    assert!(
        told.reason.contains("1 replicated temporary table"),
        "{told:?}"
    );
    let unknown = Burden {
        prepared: Fact::unknown("no"),
        ..burden(MYSQL, &ALL)
    };
    let looked = look::of_source("db1", &unknown);
    assert_eq!((looked.refusals.len(), looked.notes.len()), (0, 1));
}
