//! What is said to be lost, and what stands against an in-place restore.

use super::*;
use crate::server::replication::parse_channels;
use crate::server::row::Row;

const S: &str = "aaaaaaaa-0000-0000-0000-000000000001";
const R: &str = "bbbbbbbb-0000-0000-0000-000000000002";

fn manifest(gtid: &str) -> Manifest {
    let text = format!(
        r#"{{"id": "db2-20261101T020000Z-aaaa", "server": "db2", "pair": null,
             "created": "2026-11-01T02:00:00.000Z", "backend": "zfs", "backend_kind": "zfs",
             "consistency": "pause", "label": null, "tags": {{}}, "held": false,
             "proof": "booted", "proof_time": null, "state": "complete", "state_reason": null,
             "position": {{"gtid": "{gtid}", "channels": [], "own_log_file": null, "own_log_pos": null}}, "server_version": null,
             "server_identity": null, "volumes": [], "timing": null}}"#
    );
    serde_json::from_str(&text).expect("a manifest")
}

fn channel(auto: &str, sql: &str) -> Channel {
    let row = Row::of([
        ("Auto_Position", Some(auto)),
        ("Replica_IO_Running", Some("Yes")),
        ("Replica_SQL_Running", Some(sql)),
    ]);
    parse_channels(&[row]).remove(0)
}

fn observed(version: &str, has: &str, channels: Vec<Channel>) -> Observed {
    Observed {
        identity: Identity {
            server_uuid: None,
            server_id: 2,
            hostname: "db2".to_owned(),
            port: 3306,
            data_dir: "/d".to_owned(),
        },
        flavour: Flavour::of_version(version),
        channels,
        gtid: has.to_owned(),
        has: has.to_owned(),
        read_only: true,
        globals: Vec::new(),
    }
}

fn source(has: &str, purged: &str) -> Result<Source, String> {
    Ok(Source {
        name: "db1".to_owned(),
        has: has.to_owned(),
        purged: purged.to_owned(),
    })
}

/// What `losses` must say of a replica; nothing: no loss.
#[test]
fn nothing_that_is_only_here_goes_without_a_word() {
    let mysql = "9.7.1";
    let maria = "10.11.19-MariaDB";
    let (s9, s5) = (format!("{S}:1-9"), format!("{S}:1-5"));
    let own = format!("{S}:1-9,{R}:1");
    let table = [
        // The source has all, and all logs since the snapshot.
        (mysql, &*s9, &*s5, source(&s9, ""), None),
        (mysql, &s9, &s5, source(&s9, &s5), None),
        (maria, "0-1-9", "0-1-5", source("0-1-9", ""), None),
        (maria, "0-1-9", "0-1-5", source("0-1-12", "0-1-5"), None),
        // Written here only.
        (mysql, &own, &s5, source(&s9, ""), Some("hasn't")),
        (
            maria,
            "0-2-10",
            "0-1-5",
            source("0-1-9", ""),
            Some("hasn't"),
        ),
        (
            maria,
            "0-1-9,7-2-1",
            "0-1-5",
            source("0-1-9", ""),
            Some("hasn't"),
        ),
        // The source can't give what came after the snapshot.
        (
            mysql,
            &s9,
            &s5,
            source(&s9, &format!("{S}:1-6")),
            Some("purged"),
        ),
        (
            maria,
            "0-1-9",
            "0-1-5",
            source("0-1-9", "0-1-6"),
            Some("purged"),
        ),
        // What can't be read isn't taken for nothing.
        (mysql, &s9, &s5, source("?", ""), Some("hasn't")),
        (mysql, &s9, "?", source(&s9, &s5), Some("purged")),
        (
            mysql,
            &s9,
            &s5,
            Err("it is down".to_owned()),
            Some("it is down"),
        ),
    ];
    for (version, has, recorded, source, word) in table {
        let before = observed(version, has, vec![channel("1", "Yes")]);
        let refusals = losses(&manifest(recorded), &before, &source, false);
        let shown = format!("{version} {has} {recorded} {source:?}: {refusals:?}");
        match word {
            None => assert!(refusals.is_empty(), "{shown}"),
            Some(word) => {
                assert_eq!(refusals.len(), 1, "{shown}");
                assert!(refusals[0].reason.contains(word), "{shown}");
                assert!(refusals[0].hint.contains("--accept-loss"), "{shown}");
            }
        }
    }
}

#[test]
fn a_server_without_a_source_loses_what_it_wrote_since() {
    let none = Err("no pair".to_owned());
    for (now, count) in [("0-1-5", 0), ("0-1-6", 1), ("0-1-4", 1), ("", 1)] {
        let before = observed("10.11.19-MariaDB", now, Vec::new());
        let refusals = losses(&manifest("0-1-5"), &before, &none, false);
        assert_eq!(refusals.len(), count, "{now}: {refusals:?}");
    }
}

/// What only this server has is exported: what it couldn't fetch again still counts.
#[test]
fn what_is_kept_elsewhere_is_no_loss() {
    for channels in [Vec::new(), vec![channel("1", "Yes")]] {
        let before = observed("10.11.19-MariaDB", "0-2-10", channels);
        let losses = |purged| losses(&manifest("0-1-5"), &before, &source("0-1-9", purged), true);
        assert!(losses("0-1-5").is_empty());
        let refusals = losses("0-1-6");
        assert_eq!(refusals.len(), 1, "{refusals:?}");
        assert!(refusals[0].reason.contains("purged"), "{refusals:?}");
    }
}

#[test]
fn by_file_and_position_it_would_go_on_wrongly() {
    for (auto, count) in [("1", 0), ("Slave_Pos", 0), ("0", 1), ("No", 1), ("", 1)] {
        let before = observed("9.7.1", "", vec![channel(auto, "Yes")]);
        let refusals = refusals_of_channels(&manifest(""), &before);
        assert_eq!(refusals.len(), count, "{auto}");
    }
}

#[test]
fn only_channels_that_ran_are_resumed() {
    for (sql, count) in [("Yes", 1), ("No", 0)] {
        let before = observed("9.7.1", "", vec![channel("1", sql)]);
        assert_eq!(resumes(&manifest(""), &before).len(), count, "{sql}");
    }
}

#[test]
fn a_snapshot_that_is_bad_or_in_use_is_refused() {
    let good = Manifest {
        boot: serde_json::from_str(r#"{"version": "", "data_dir": "/d", "settings": {}}"#)
            .expect("boot facts"),
        ..manifest("0-1-5")
    };
    assert!(refusals_of_manifest(&good).is_empty());
    let bad = [
        Manifest {
            state: State::Invalid,
            ..good.clone()
        },
        Manifest {
            state: State::Orphan,
            ..good.clone()
        },
        Manifest {
            proof: Proof::Failed,
            ..good.clone()
        },
        Manifest {
            boot: None,
            ..good.clone()
        },
    ];
    for manifest in bad {
        assert_eq!(refusals_of_manifest(&manifest).len(), 1, "{manifest:?}");
    }
}

/// Copying file by file has no area to fill; the others' holds what was used since, and more.
#[test]
fn the_undo_has_room_for_what_changed_since() {
    let CowSize::Bytes(bytes) = undo_area(&manifest("")) else {
        panic!("not in bytes");
    };
    assert_eq!(bytes, UNDO_AREA_MORE_BYTES);
}
