//! Tables for the pure parts: roles, lag, errant transactions, and the rules that real servers of
//! the laboratory can't be brought to.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::finding::Severity;
use super::lag::Method;
use super::picture::Picture;
use super::roles::Role;
use super::rules;
use super::view::{Answer, Limits, PairView, ServerView, Snapshots, Unfinished};
use crate::config::Address;
use crate::journal::OperationKind;
use crate::journal::receipt::{Lost, Receipt, Receipts};
use crate::server::condition::{AppliedTimes, Beat, Condition, SemiSync};
use crate::server::replication::{Channel, parse_channels};
use crate::server::row::Row;
use crate::server::{Flavour, Identity};
use crate::sys::Fact;
use crate::volume::Filling;

const NOW_US: u64 = 1_700_000_000_000_000;
const MYSQL: &str = "8.4.3 x";
const MARIADB: &str = "10.11.19-MariaDB x";

/// uuids of servers 1 and 2 (MySQL).
fn uuid(id: u32) -> String {
    format!("{id:08}-0000-0000-0000-000000000000")
}

fn condition(version: &str, id: u32, gtid: &str, channels: Vec<Channel>) -> Condition {
    let flavour = Flavour::of_version(version);
    let mariadb = flavour.is_mariadb();
    let is_replica = !channels.is_empty();
    let mut variables: BTreeMap<String, String> = [
        ("read_only", if is_replica { "1" } else { "0" }),
        ("log_bin", "1"),
        ("log_replica_updates", "1"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into();
    if mariadb {
        variables.insert("gtid_slave_pos".to_owned(), gtid.to_owned());
    } else {
        variables.insert("super_read_only".to_owned(), variables["read_only"].clone());
    }
    Condition {
        events: Vec::new(),
        identity: Identity {
            server_uuid: (!mariadb).then(|| uuid(id)),
            server_id: id,
            hostname: format!("host{id}"),
            port: 3306,
            data_dir: "/data/".to_owned(),
        },
        executed: flavour.known_gtid(gtid),
        written: match mariadb {
            true => match flavour.known_gtid(gtid) {
                Fact::Known(set) => Fact::Known(Some(set)),
                Fact::Unknown(reason) => Fact::Unknown(reason),
            },
            false => Fact::Known(None),
        },
        flavour,
        variables,
        channels: Fact::Known(channels),
        beats: Vec::new(),
        applied: None,
        can_leave_gaps: false,
        semi_sync: None,
        clock_us: Some(NOW_US),
        at: Instant::now(),
    }
}

/// Following server `id` at host`id`, both threads running.
fn following(id: u32, more: &[(&str, &str)]) -> Vec<Channel> {
    let (host, uuid, id) = (format!("host{id}"), uuid(id), id.to_string());
    let mut columns: BTreeMap<&str, &str> = [
        ("Source_Host", host.as_str()),
        ("Source_Port", "3306"),
        ("Source_UUID", uuid.as_str()),
        ("Source_Server_Id", id.as_str()),
        ("Replica_IO_Running", "Yes"),
        ("Replica_SQL_Running", "Yes"),
        ("Seconds_Behind_Source", "7"),
        ("Auto_Position", "1"),
        ("Retrieved_Gtid_Set", ""),
    ]
    .into();
    columns.extend(more.iter().copied());
    parse_channels(&[Row::of(columns.into_iter().map(|(n, v)| (n, Some(v))))])
}

fn view(name: &str, answer: Option<Condition>) -> ServerView {
    let id: u16 = name.trim_start_matches("db").parse().unwrap();
    ServerView {
        name: name.to_owned(),
        address: Address::Tcp {
            host: format!("host{id}"),
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
    }
}

fn pair(servers: Vec<Option<Condition>>) -> PairView {
    let views = servers
        .into_iter()
        .enumerate()
        .map(|(at, answer)| view(&format!("db{}", at + 1), answer));
    PairView {
        name: Some("lab".to_owned()),
        servers: views.collect(),
        receipts: Receipts::default(),
        now: Timestamp::from_microsecond(i64::try_from(NOW_US).unwrap()).unwrap(),
    }
}

fn set(id: u32, last: u64) -> String {
    format!("{}:1-{last}", uuid(id))
}

fn source(last: u64) -> Condition {
    condition(MYSQL, 1, &set(1, last), Vec::new())
}

fn replica(last: u64) -> Condition {
    condition(MYSQL, 2, &set(1, last), following(1, &[]))
}

fn found(view: &PairView) -> Vec<(&'static str, Severity)> {
    let findings = rules::judge(&Picture::of(view, Limits::default()), &[]);
    findings.all().map(|f| (f.rule, f.severity)).collect()
}

#[test]
fn source_is_who_is_followed_whatever_the_configuration_says() {
    let roles = |view: PairView| {
        let picture = Picture::of(&view, Limits::default());
        (picture.roles.source, picture.roles.roles)
    };
    use Role::{Alone, Replica, Source, Unknown};
    assert_eq!(
        roles(pair(vec![Some(source(5)), Some(replica(5))])),
        (Some(0), vec![Source, Replica])
    );
    // The other way round.
    let follower = condition(MYSQL, 1, &set(2, 5), following(2, &[]));
    let head = condition(MYSQL, 2, &set(2, 5), Vec::new());
    assert_eq!(
        roles(pair(vec![Some(follower.clone()), Some(head)])),
        (Some(1), vec![Replica, Source])
    );
    // A source that doesn't answer is known by its address.
    assert_eq!(
        roles(pair(vec![None, Some(replica(5))])),
        (Some(0), vec![Source, Replica])
    );
    // Two that can be written to, and nobody follows: somebody has to decide.
    let other = condition(MYSQL, 2, &set(2, 5), Vec::new());
    assert_eq!(
        roles(pair(vec![Some(source(5)), Some(other)])),
        (None, vec![Alone, Alone])
    );
    // A ring: the one that can be written to.
    let mut writable = follower;
    writable
        .variables
        .insert("read_only".to_owned(), "0".to_owned());
    assert_eq!(
        roles(pair(vec![Some(writable), Some(replica(5))])).0,
        Some(0)
    );
    assert_eq!(
        roles(pair(vec![None, None])),
        (None, vec![Unknown, Unknown])
    );
}

#[test]
fn a_third_server_that_was_left_behind_is_seen() {
    let third = condition(MYSQL, 3, &set(1, 5), following(9, &[]));
    let view = pair(vec![Some(source(5)), Some(replica(5)), Some(third)]);
    assert_eq!(
        found(&view),
        [("replica.not-following", Severity::Critical)]
    );
}

#[test]
fn lag_is_read_from_the_best_clock_that_there_is() {
    let beat = |foreign, age_s: u64| Beat {
        foreign,
        server_id: 1,
        at_us: NOW_US - age_s * 1_000_000,
        every: Duration::from_secs(1),
    };
    let lag = |source: Option<Condition>, replica: Condition| {
        let view = pair(vec![source, Some(replica)]);
        let lag = Picture::of(&view, Limits::default()).lags[1]
            .clone()
            .unwrap();
        lag.map(|lag| (lag.behind.as_secs(), lag.method))
    };
    // Everything that the source has.
    assert_eq!(lag(Some(source(5)), replica(5)), Ok((0, Method::Gtid)));
    // The server's own reckoning is the last resort.
    assert_eq!(
        lag(Some(source(6)), replica(5)),
        Ok((7, Method::SecondsBehind))
    );
    let with = |condition: Condition, beats: Vec<Beat>| Condition { beats, ..condition };
    assert_eq!(
        lag(
            Some(with(source(6), vec![beat(false, 0)])),
            with(replica(5), vec![beat(false, 40)])
        ),
        Ok((40, Method::Heartbeat))
    );
    assert_eq!(
        lag(
            Some(with(source(6), vec![beat(true, 0)])),
            with(replica(5), vec![beat(true, 41)])
        ),
        Ok((41, Method::PtHeartbeat))
    );
    // Nobody beats any more: an old beat tells nothing.
    assert_eq!(
        lag(
            Some(with(source(6), vec![beat(false, 100)])),
            with(replica(5), vec![beat(false, 100)])
        ),
        Ok((7, Method::SecondsBehind))
    );
    // The source's clock counts, not the replica's.
    let mut ahead = with(replica(5), vec![beat(false, 40)]);
    ahead.clock_us = Some(NOW_US + 3_600_000_000);
    assert_eq!(
        lag(Some(with(source(6), vec![beat(false, 0)])), ahead),
        Ok((40, Method::Heartbeat))
    );
    // Without its source, an old beat counts while something received isn't applied.
    let received = set(1, 9);
    let behind = Condition {
        channels: Fact::Known(following(1, &[("Retrieved_Gtid_Set", &received)])),
        ..with(replica(5), vec![beat(false, 100)])
    };
    assert_eq!(lag(None, behind), Ok((100, Method::Heartbeat)));
    assert_eq!(
        lag(None, with(replica(5), vec![beat(false, 100)])),
        Ok((7, Method::SecondsBehind))
    );
    // When what it applies was committed.
    let applying = Condition {
        applied: Some(AppliedTimes {
            applying_us: Some(NOW_US - 30_000_000),
            last_us: Some(NOW_US - 31_000_000),
        }),
        ..replica(5)
    };
    assert_eq!(
        lag(Some(source(6)), applying.clone()),
        Ok((30, Method::CommitTimestamp))
    );
    // Clocks that differ by an hour, either way.
    for clock_us in [NOW_US - 3_600_000_000, NOW_US + 3_600_000_000] {
        let applying = Condition {
            clock_us: Some(clock_us),
            ..applying.clone()
        };
        let (behind, _) = lag(Some(source(6)), applying).unwrap();
        assert_eq!(behind, 30, "{clock_us}");
    }
    // Nothing tells.
    let stopped = Condition {
        channels: Fact::Known(following(
            1,
            &[
                ("Replica_SQL_Running", "No"),
                ("Seconds_Behind_Source", "x"),
            ],
        )),
        ..replica(5)
    };
    assert!(lag(Some(source(6)), stopped).is_err());
}

#[test]
fn errant_transactions_of_both_flavours() {
    let errant = |source: Condition, replica: Condition| {
        let view = pair(vec![Some(source), Some(replica)]);
        Picture::of(&view, Limits::default()).errant[1]
            .clone()
            .unwrap()
    };
    let known = |text: &str| Fact::Known(text.to_owned());
    assert_eq!(errant(source(5), replica(3)), known(""));
    let written = format!("{},{}", set(1, 5), set(2, 2));
    let own = condition(MYSQL, 2, &written, following(1, &[]));
    assert_eq!(errant(source(5), own.clone()), known(&set(2, 2)));
    // What waits for its acknowledgement on the source is on replicas before.
    let ahead = format!("{},{}", set(1, 6), set(2, 2));
    let ahead = condition(MYSQL, 2, &ahead, following(1, &[]));
    assert_ne!(errant(source(5), ahead.clone()), known(&set(2, 2)));
    let waits = Condition {
        semi_sync: Some(SemiSync {
            is_active: true,
            clients: 1,
            waiting: 1,
            wanted: 1,
            is_patient: true,
        }),
        ..source(5)
    };
    assert_eq!(errant(waits, ahead), known(&set(2, 2)));

    let mariadb = |id, gtid: &str, channels| condition(MARIADB, id, gtid, channels);
    let cases = [
        ("0-1-9", "0-1-9", ""),
        ("0-1-9", "0-1-4", ""),
        // Its own number in the source's domain.
        ("0-1-9", "0-1-9,0-2-10", "0-2-10"),
        // And in a domain of its own.
        ("0-1-9", "0-1-9,5-2-1", "5-2-1"),
        // It was the source once, and its successor knows.
        ("0-1-9,0-2-4", "0-1-9,0-2-4", ""),
        // It has more of its source's than the source: that lost its tail in a crash.
        ("0-1-9", "0-1-12", "0-1-12"),
    ];
    for (theirs, own, wanted) in cases {
        assert_eq!(
            errant(
                mariadb(1, theirs, Vec::new()),
                mariadb(2, own, following(1, &[]))
            ),
            known(wanted),
            "{theirs} {own}"
        );
    }
    // What it has through another channel isn't errant.
    let mut channels = following(1, &[]);
    channels.extend(following(7, &[("Channel_Name", "east")]));
    let several = mariadb(2, "0-1-9,7-7-3", channels);
    assert_eq!(errant(mariadb(1, "0-1-9", Vec::new()), several), known(""));
}

#[test]
fn older_replicas_and_other_flavours_are_said() {
    let with = |version: &str| {
        let replica = condition(version, 2, &set(1, 5), following(1, &[]));
        found(&pair(vec![Some(source(5)), Some(replica)]))
    };
    assert_eq!(with("8.4.9 x"), []);
    assert_eq!(with("9.7.4 x"), []);
    assert_eq!(with("8.0.40 x"), [("pair.version-skew", Severity::Warning)]);
}

#[test]
fn half_of_the_logs_life_behind_is_said() {
    let mut source = source(6);
    let expiry = "binlog_expire_logs_seconds";
    source.variables.insert(expiry.to_owned(), "12".to_owned());
    let rules = found(&pair(vec![Some(source.clone()), Some(replica(5))]));
    assert_eq!(rules, [("source.binlog-expiry", Severity::Warning)]);
    source.variables.insert(expiry.to_owned(), "0".to_owned());
    assert_eq!(found(&pair(vec![Some(source), Some(replica(5))])), []);
}

#[test]
fn storage_that_fills_is_said() {
    let full = |percent| {
        let mut view = pair(vec![Some(source(5)), Some(replica(5))]);
        view.servers[1].snapshots = Fact::Known(Snapshots {
            fillings: vec![Filling {
                name: "vg0/pool".to_owned(),
                what: "thin pool",
                percent,
                cure: "Extend it.".to_owned(),
            }],
            ..Snapshots::default()
        });
        found(&view)
    };
    assert_eq!(full(79.9), []);
    assert_eq!(
        full(80.0),
        [("snapshot.storage-filling", Severity::Warning)]
    );
    assert_eq!(
        full(95.0),
        [("snapshot.storage-filling", Severity::Critical)]
    );
}

#[test]
fn a_source_that_its_replica_hears_is_there() {
    let heard = found(&pair(vec![None, Some(replica(5))]));
    assert_eq!(heard, [("server.unreachable", Severity::Critical)]);
    let lost = condition(
        MYSQL,
        2,
        &set(1, 5),
        following(1, &[("Replica_IO_Running", "Connecting")]),
    );
    let rules: Vec<&str> = found(&pair(vec![None, Some(lost)]))
        .into_iter()
        .map(|(rule, _)| rule)
        .collect();
    assert_eq!(
        rules,
        ["pair.no-source", "server.unreachable", "replica.io-error"]
    );
}

/// db1 was given up for db2.
fn given_up() -> Receipt {
    Receipt {
        operation: "failover-lab-x".to_owned(),
        at: "2026-11-22T02:00:00.000Z".to_owned(),
        pair: "lab".to_owned(),
        old_source: "db1".to_owned(),
        new_source: "db2".to_owned(),
        gtid: String::new(),
        lost: Lost::nothing(),
    }
}

#[test]
fn who_was_given_up_is_told_until_it_rejoins_and_loudly_when_it_takes_writes() {
    let told = |servers, receipts: &[Receipt]| {
        let mut view = pair(servers);
        view.receipts.open = receipts.to_vec();
        found(&view)
    };
    let new_source = || Some(condition(MYSQL, 2, &set(1, 5), Vec::new()));
    let old = |read_only: &str, follows| {
        let mut old = condition(MYSQL, 1, &set(1, 5), follows);
        for name in ["read_only", "super_read_only"] {
            old.variables.insert(name.to_owned(), read_only.to_owned());
        }
        Some(old)
    };
    let waits = ("pair.not-rejoined", Severity::Warning);
    let is_back = ("server.demoted-writable", Severity::Critical);
    // Dead still; closed; following.
    let all = told(vec![None, new_source()], &[given_up()]);
    assert!(all.contains(&waits) && !all.contains(&is_back), "{all:?}");
    let all = told(vec![old("1", vec![]), new_source()], &[given_up()]);
    assert!(all.contains(&waits) && !all.contains(&is_back), "{all:?}");
    // It has rejoined, and the receipt is another host's.
    let all = told(
        vec![old("1", following(2, &[])), new_source()],
        &[given_up()],
    );
    assert!(!all.contains(&waits) && !all.contains(&is_back), "{all:?}");
    // It takes writes, whoever else does, and whomever it follows; told once.
    let closed = || Some(condition(MYSQL, 2, &set(1, 5), following(9, &[])));
    for follows in [vec![], following(2, &[])] {
        for other in [new_source(), closed(), None] {
            let all = told(vec![old("0", follows.clone()), other], &[given_up()]);
            assert!(all.contains(&is_back) && !all.contains(&waits), "{all:?}");
        }
    }
    // Who took over follows it again: roles were moved back.
    assert_eq!(
        told(vec![Some(source(5)), Some(replica(5))], &[given_up()]),
        []
    );
    // Healthy otherwise.
    assert_eq!(told(vec![Some(source(5)), Some(replica(5))], &[]), []);
}

#[test]
fn two_that_take_writes_are_cured_by_the_rejoin_of_the_one_that_was_given_up() {
    let mut view = pair(vec![
        Some(source(5)),
        Some(condition(MYSQL, 2, &set(1, 5), Vec::new())),
    ]);
    view.receipts.open = vec![given_up()];
    let findings = rules::judge(&Picture::of(&view, Limits::default()), &[]);
    for rule in [
        "pair.both-writable",
        "pair.no-source",
        "server.demoted-writable",
    ] {
        let finding = findings.all().find(|finding| finding.rule == rule).unwrap();
        let said = format!("{}. {}", finding.message, finding.hint);
        assert!(said.contains("understudy rejoin db1"), "{said}");
    }
}

#[test]
fn a_receipt_that_cannot_be_read_is_unknown() {
    let mut view = pair(vec![Some(source(5)), Some(replica(5))]);
    view.receipts = Receipts {
        open: Vec::new(),
        unreadable: vec!["it is no receipt".to_owned()],
    };
    assert_eq!(found(&view), [("pair.not-rejoined", Severity::Unknown)]);
}

#[test]
fn unfinished_operations_are_told_by_name() {
    let message = |kind, is_alive, is_committed| {
        let mut view = pair(vec![Some(source(5)), Some(replica(5))]);
        view.servers[0].unfinished = Fact::Known(vec![Unfinished {
            operation: "x-1".to_owned(),
            kind,
            is_committed,
            is_alive,
        }]);
        let findings = rules::judge(&Picture::of(&view, Limits::default()), &[]);
        let all: Vec<_> = findings.all().collect();
        assert_eq!(all.len(), 1);
        all[0].message.clone()
    };
    for (kind, is_alive, is_committed, wanted) in [
        (
            OperationKind::Switchover,
            true,
            false,
            "a switchover is running (x-1)",
        ),
        (
            OperationKind::Failover,
            false,
            true,
            "a failover was interrupted and not carried through (x-1)",
        ),
        (
            OperationKind::Rejoin,
            false,
            false,
            "a rejoin was interrupted and not put back (x-1)",
        ),
        (
            OperationKind::Repoint,
            true,
            true,
            "a repoint is running (x-1)",
        ),
    ] {
        assert_eq!(message(kind, is_alive, is_committed), wanted);
    }
}
