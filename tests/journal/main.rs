//! Faults: whatever happens in the middle, the replica comes back, and nothing bad is kept.
//!
//! After each: the SQL threads are as before within a limit, nothing is frozen, mounted or left
//! over, and nothing is catalogued as good that isn't.
#![expect(clippy::unwrap_used, reason = "tests")]

#[expect(
    dead_code,
    reason = "shared with the snapshot tests, which use other parts"
)]
#[path = "../lab/mod.rs"]
mod lab;

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::Duration;

use lab::left::{Footprint, half_written, names_below};
use lab::pair::{Pair, Special};
use lab::runner::{self, Case, Group};
use lab::server::Flavour;
use lab::small_state::SmallState;
use lab::storage::Storage;
use lab::strikes::{self, Strikes};
use lab::tool::{Run, Running};
use lab::walk;
use lab::{eventually, in_guest, limit, sh, try_sh};
use mysql::prelude::Queryable;
use nix::sys::signal::Signal;
use serde_json::Value;
use understudy::sys::failpoint::{INSIDE_DELETE, PLACES};

/// Reached only where several volumes are frozen together.
const WITH_FREEZE: [&str; 2] = ["frozen", "thawed"];

fn main() -> ExitCode {
    let storages = runner::storages();
    let groups = match in_guest() {
        true => guest_groups(),
        false => native_groups(),
    };
    let wanted = groups
        .into_iter()
        .filter(|group| storages.contains(&group.storage));
    runner::main(wanted.collect())
}

fn group(flavour: Flavour, storage: Storage, cases: Vec<Case>) -> Group {
    Group {
        flavour,
        storage,
        special: Special::default(),
        cases,
    }
}

fn native_groups() -> Vec<Group> {
    let mut groups = Vec::new();
    for flavour in [Flavour::Mariadb, Flavour::Mysql97] {
        let places = PLACES
            .into_iter()
            .filter(|place| !WITH_FREEZE.contains(place));
        groups.push(group(flavour, Storage::Btrfs, killed_at(places)));
        let deadline = ["stopping", "stopped", "positioned", "taken", "unlocked"];
        let mut cases = stopped_past_the_deadline_at(deadline);
        cases.extend(interrupted_at([
            "warmed-up",
            "stopped",
            "positioned",
            "taken",
        ]));
        cases.extend(cases![
            false recovers_when_tool_and_watchdog_are_killed,
            false resumes_by_itself_when_only_the_watchdog_is_killed,
            false gives_the_second_run_exit_6,
            false rejects_a_snapshot_whose_lock_was_lost,
            false rejects_a_snapshot_when_its_command_fails,
            false leaves_a_stopped_applier_stopped_when_killed,
            false resumes_a_manual_pause_at_its_end,
            false recovers_a_manual_pause_without_watchdog,
            false fails_without_pausing_when_the_state_directory_is_full,
            false fails_without_pausing_when_the_state_directory_is_read_only,
            false resumes_when_the_state_directory_fills_up_in_the_pause,
            false finishes_a_deletion_that_was_killed,
            false survives_a_server_crash_in_the_pause,
            false gives_up_on_a_transaction_that_outlasts_the_pause,
            false starts_the_server_when_killed_while_it_is_stopped,
        ]);
        groups.push(group(flavour, Storage::Btrfs, cases));
        groups.push(group(flavour, Storage::Btrfs, killed_inside(flavour)));
        let mut cases =
            killed_at(["warmed-up", "leased", "positioned", "taken", "sealed"].into_iter());
        cases.extend(interrupted_at(["warmed-up", "positioned"]));
        cases.extend(cases![
            false rejects_a_copy_that_innodb_wrote_to,
            false finishes_a_deletion_that_was_killed,
        ]);
        groups.push(group(flavour, Storage::Copy, cases));
        groups.push(small_reflink(
            flavour,
            cases![
                false refuses_when_space_is_short,
                false thaws_before_anything_else,
                false resumes_when_the_volume_fills_up_in_the_pause,
                false resumes_when_relay_space_is_full_in_the_pause,
            ],
        ));
    }
    // What a server does on a full disk differs within 10.11.
    groups.push(small_reflink(
        Flavour::MariadbOther,
        cases![false resumes_when_the_volume_fills_up_in_the_pause],
    ));
    groups
}

fn small_reflink(flavour: Flavour, cases: Vec<Case>) -> Group {
    Group {
        special: Special {
            size_mb: Some(1400),
            replica_args: vec!["--relay-log-space-limit=2M".to_owned()],
            ..Special::default()
        },
        ..group(flavour, Storage::Reflink, cases)
    }
}

/// One flavour each: what differs here is the storage.
fn guest_groups() -> Vec<Group> {
    let small = || Special {
        size_mb: Some(1500),
        ..Special::default()
    };
    let mut groups = Vec::new();
    for storage in [Storage::Zfs, Storage::LvmThin, Storage::LvmThick] {
        let mut cases = killed_at(["stopped", "taken"].into_iter());
        cases.extend(stopped_past_the_deadline_at(["taken"]));
        cases.extend(cases![
            true rejects_a_snapshot_when_its_command_fails,
            true finishes_a_deletion_that_was_killed,
        ]);
        match storage {
            Storage::LvmThick => cases.extend(cases![true lists_an_overflowed_snapshot_as_invalid]),
            Storage::LvmThin => {
                cases.extend(cases![true refuses_when_the_thin_pool_is_nearly_full])
            }
            Storage::Zfs => cases.extend(cases![true sees_a_zfs_pool_that_fills]),
            _ => {}
        }
        groups.push(Group {
            special: small(),
            ..group(Flavour::Mariadb, storage, cases)
        });
    }
    // LVM can suspend a frozen filesystem only where freezes nest.
    let cases = if kernel_nests_freezes() {
        let mut cases = killed_at(WITH_FREEZE.into_iter());
        cases.extend(stopped_past_the_deadline_at(["frozen"]));
        cases
    } else {
        cases![true refuses_volumes_without_a_common_moment]
    };
    groups.push(Group {
        special: Special {
            redo_apart: true,
            ..small()
        },
        ..group(Flavour::Mariadb, Storage::LvmThick, cases)
    });
    groups
}

/// Linux 6.8 and later: a freeze by FIFREEZE and one by the kernel are counted apart.
fn kernel_nests_freezes() -> bool {
    let release = understudy::sys::process::kernel_release();
    let mut numbers = release
        .split(|c: char| !c.is_ascii_digit())
        .map(|number| number.parse::<u32>().unwrap_or(0));
    (numbers.next(), numbers.next()) >= (Some(6), Some(8))
}

/// Redo and data on two volumes that nothing can take in one moment: said before anything is paused,
/// with the cure.
fn refuses_volumes_without_a_common_moment(pair: &mut Pair) {
    let before = Footprint::of(pair);
    let run = pair
        .tool
        .run(&["snapshot", "create", &pair.name()])
        .expect_code(4);
    let hints = run.json()["error"]["hints"].to_string();
    assert!(hints.contains("stop"), "{hints}");
    before.assert_nothing_left(pair);
    assert!(pair.list().is_empty());
}

fn killed_at(places: impl Iterator<Item = &'static str>) -> Vec<Case> {
    places
        .map(|place| Case {
            name: format!("resumes_when_killed_at_{place}"),
            body: Box::new(move |pair| resumes_when_killed_at(pair, place)),
            in_guest: true,
        })
        .collect()
}

/// What a server is asked differs by flavour; what is done to files doesn't.
fn killed_inside(flavour: Flavour) -> Vec<Case> {
    let commands: &[&str] = match strikes::every_one() || flavour.is_mariadb() {
        true => &["create", "delete", "verify", "hold", "restore", "prune"],
        false => &["create"],
    };
    commands
        .iter()
        .map(|command| Case {
            name: format!("leaves_nothing_when_killed_inside_{command}"),
            body: Box::new(move |pair| leaves_nothing_when_killed_inside(pair, command)),
            in_guest: false,
        })
        .collect()
}

fn stopped_past_the_deadline_at<const N: usize>(places: [&'static str; N]) -> Vec<Case> {
    places
        .map(|place| Case {
            name: format!("resumes_when_stopped_past_the_deadline_at_{place}"),
            body: Box::new(move |pair| resumes_when_stopped_past_the_deadline_at(pair, place)),
            in_guest: true,
        })
        .into()
}

fn interrupted_at<const N: usize>(places: [&'static str; N]) -> Vec<Case> {
    places
        .map(|place| Case {
            name: format!("puts_back_when_interrupted_at_{place}"),
            body: Box::new(move |pair| puts_back_when_interrupted_at(pair, place)),
            in_guest: false,
        })
        .into()
}

fn create(pair: &Pair, failpoint: &str) -> Running {
    pair.tool
        .spawn_at(failpoint, &["snapshot", "create", &pair.name()])
}

fn recover(pair: &Pair) -> Value {
    let run = pair.tool.run(&["recover", &pair.name()]).ok();
    run.json()["recovered"].clone()
}

/// Waits until the tool has stopped the appliers.
fn wait_paused(pair: &Pair, running: &mut Running) {
    eventually(limit(30), "the SQL thread is stopped", || {
        assert!(!running.has_ended(), "the tool ended before the pause");
        pair.replica
            .sql_threads()
            .iter()
            .all(|(_, runs)| runs == "No")
    });
    // And has gone on to where it sleeps.
    sleep(limit(1) / 2);
}

fn lease(pair: &Pair) -> Value {
    let path = pair
        .state_dir()
        .join(format!("leases/{}.json", pair.name()));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn kill_watchdogs(pair: &Pair) {
    let watchdogs = pair.tool.watchdogs();
    assert_eq!(watchdogs.len(), 1, "watchdogs");
    for pid in watchdogs {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(pid).unwrap());
        nix::sys::signal::kill(pid, Signal::SIGKILL).unwrap();
    }
}

/// What it said, when it ended otherwise than it may.
#[track_caller]
fn assert_code_in(run: &Run, codes: &[i32]) {
    assert!(
        codes.contains(&run.code()),
        "{} ended with {}\nstdout: {}\nstderr: {}",
        run.argv,
        run.status,
        run.stdout,
        run.stderr
    );
}

fn resumes_when_killed_at(pair: &mut Pair, place: &str) {
    let before = Footprint::of(pair);
    let run = create(pair, &format!("{place}=kill")).wait();
    assert_eq!(
        run.status.signal(),
        Some(Signal::SIGKILL as i32),
        "{place} wasn't reached: {} {}",
        run.stdout,
        run.stderr
    );
    // Without `recover`: this is the watchdog's work.
    before.assert_threads_come_back(pair, limit(8));
    pair.wait_caught_up();
    recover(pair);
    before.assert_nothing_new(pair);
}

fn resumes_when_stopped_past_the_deadline_at(pair: &mut Pair, place: &str) {
    let before = Footprint::of(pair);
    pair.configure(|settings| settings.max_pause = limit(2));
    let mut running = create(pair, &format!("{place}=stop"));
    eventually(limit(40), "the tool is stopped", || {
        assert!(!running.has_ended(), "{place} wasn't reached");
        running.is_stopped()
    });
    // The tool sleeps on, and somebody else resumes.
    before.assert_threads_come_back(pair, limit(2) + limit(8));
    pair.wait_caught_up();
    // Past the deadline also where the place is before the first STOP.
    sleep(limit(2) + Duration::from_millis(1500));
    running.signal(Signal::SIGCONT);
    let run = running.wait();
    assert_code_in(&run, &[1]);
    pair.configure_plain();
    before.assert_nothing_new(pair);
    pair.wait_caught_up();
}

fn puts_back_when_interrupted_at(pair: &mut Pair, place: &str) {
    let before = Footprint::of(pair);
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let running = create(pair, &format!("{place}=sleep:1500"));
        // A place before the pause can't be seen from outside; none is reached later than this.
        sleep(Duration::from_millis(1300));
        running.signal(signal);
        let run = running.wait().expect_code(1);
        assert!(run.error().1.contains("interrupted"), "{}", run.stdout);
        before.assert_nothing_new(pair);
    }
}

fn recovers_when_tool_and_watchdog_are_killed(pair: &mut Pair) {
    let before = Footprint::of(pair);
    let mut running = create(pair, "positioned=sleep:30000");
    wait_paused(pair, &mut running);
    kill_watchdogs(pair);
    running.signal(Signal::SIGKILL);
    running.wait();
    sleep(Duration::from_secs(1));
    assert_eq!(
        pair.replica.sql_threads(),
        [(String::new(), "No".to_owned())],
        "somebody else resumed"
    );
    let recovered = recover(pair);
    assert_eq!(recovered[0]["server"], pair.name());
    assert!(recovered.to_string().contains("resumed"), "{recovered}");
    before.assert_nothing_new(pair);
    pair.wait_caught_up();
    assert_eq!(recover(pair), serde_json::json!([]), "nothing to do twice");
}

fn resumes_by_itself_when_only_the_watchdog_is_killed(pair: &mut Pair) {
    let before = Footprint::of(pair);
    let mut running = create(pair, "positioned=sleep:2000");
    wait_paused(pair, &mut running);
    kill_watchdogs(pair);
    let run = running.wait();
    assert_code_in(&run, &[0, 1]);
    before.assert_nothing_left(pair);
    pair.delete_all();
    before.assert_nothing_new(pair);
}

fn gives_the_second_run_exit_6(pair: &mut Pair) {
    let before = Footprint::of(pair);
    let mut running = create(pair, "positioned=sleep:3000");
    wait_paused(pair, &mut running);
    for args in [
        &["snapshot", "create", &pair.name()][..],
        &["recover", &pair.name()],
        &["pause", &pair.name()],
    ] {
        let second = pair.tool.run(args).expect_code(6);
        let (kind, message) = second.error();
        assert_eq!(kind, "busy");
        assert!(message.contains("snapshot create"), "{message}");
    }
    running.wait().ok();
    before.assert_nothing_left(pair);
    pair.delete_all();
    before.assert_nothing_new(pair);
}

fn rejects_a_snapshot_whose_lock_was_lost(pair: &mut Pair) {
    let before = Footprint::of(pair);
    let mut running = create(pair, "positioned=sleep:3000");
    wait_paused(pair, &mut running);
    // The stop's, the control's, the lock's.
    let connections = lease(pair)["connections"].clone();
    let lock = connections[2].as_u64().unwrap();
    pair.replica.execute(&format!("KILL CONNECTION {lock}"));
    let run = running.wait().expect_code(1);
    assert_eq!(run.error().0, "failed");
    before.assert_nothing_new(pair);
    pair.wait_caught_up();
}

/// What it is about to make, from its journal.
fn planned_volume(pair: &Pair) -> String {
    let entries = std::fs::read_dir(pair.state_dir().join("journal")).unwrap();
    let log = entries
        .flatten()
        .map(|entry| entry.path())
        .find(|path| {
            path.extension()
                .is_some_and(|extension| extension == "jsonl")
        })
        .unwrap();
    let text = std::fs::read_to_string(log).unwrap();
    let volumes = text
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .find(|line| line["undo"]["kind"] == "volumes")
        .unwrap();
    volumes["undo"]["volumes"][0]["name"]
        .as_str()
        .unwrap()
        .to_owned()
}

/// Somebody else's volume has the name, or the directory is gone.
fn rejects_a_snapshot_when_its_command_fails(pair: &mut Pair) {
    let before = Footprint::of(pair);
    let ms = limit(3).as_millis();
    let mut running = create(pair, &format!("positioned=sleep:{ms}"));
    wait_paused(pair, &mut running);
    let name = planned_volume(pair);
    let undo: Option<Vec<&str>> = match pair.storage {
        Storage::Zfs => {
            sh(&["zfs", "snapshot", &name]);
            Some(vec!["zfs", "destroy", &name])
        }
        // Its copy-on-write area was made ahead; without it there is nothing to attach.
        Storage::LvmThick => {
            sh(&["lvremove", "-q", "-f", &name]);
            None
        }
        Storage::LvmThin => {
            let (group, volume) = name.split_once('/').unwrap();
            sh(&["lvcreate", "-q", "-y", "-L", "4m", "-n", volume, group]);
            Some(vec!["lvremove", "-q", "-f", &name])
        }
        _ => {
            std::fs::remove_dir_all(Path::new(&name).parent().unwrap()).unwrap();
            None
        }
    };
    let run = running.wait();
    if let Some(undo) = undo {
        // What isn't ours was left alone, so it can be removed now.
        sh(&undo);
    }
    assert_code_in(&run, &[1]);
    before.assert_nothing_new(pair);
    pair.wait_caught_up();
}

fn leaves_a_stopped_applier_stopped_when_killed(pair: &mut Pair) {
    pair.replica
        .execute(&pair.flavour.replica_statement("STOP", "SQL_THREAD", ""));
    let before = Footprint::of(pair);
    create(pair, "positioned=kill").wait();
    eventually(limit(20), "the watchdog is done", || {
        pair.tool.watchdogs().is_empty()
    });
    recover(pair);
    before.assert_nothing_new(pair);
    assert_eq!(
        pair.replica.sql_threads(),
        [(String::new(), "No".to_owned())]
    );
    pair.replica
        .execute(&pair.flavour.replica_statement("START", "SQL_THREAD", ""));
    pair.wait_caught_up();
}

fn resumes_a_manual_pause_at_its_end(pair: &mut Pair) {
    let before = Footprint::of(pair);
    pair.tool.run(&["pause", &pair.name(), "--for", "3s"]).ok();
    assert_eq!(
        pair.replica.sql_threads(),
        [(String::new(), "No".to_owned())]
    );
    before.assert_threads_come_back(pair, limit(10));
    before.assert_nothing_new(pair);
    pair.wait_caught_up();
}

fn recovers_a_manual_pause_without_watchdog(pair: &mut Pair) {
    let before = Footprint::of(pair);
    pair.tool.run(&["pause", &pair.name(), "--for", "10m"]).ok();
    kill_watchdogs(pair);
    eventually(limit(5), "the watchdog is gone", || {
        pair.tool.watchdogs().is_empty()
    });
    recover(pair);
    before.assert_nothing_new(pair);
    pair.wait_caught_up();
}

/// The state directory on a small file system, its directories made.
fn small_state(pair: &Pair) -> SmallState {
    let state = SmallState::mount(&pair.state_dir());
    recover(pair);
    state
}

fn fails_without_pausing_when_the_state_directory_is_full(pair: &mut Pair) {
    let state = small_state(pair);
    let before = Footprint::of(pair);
    state.fill();
    let run = create(pair, "stopping=kill").wait();
    assert_code_in(&run, &[1]);
    state.empty();
    before.assert_nothing_new(pair);
}

fn fails_without_pausing_when_the_state_directory_is_read_only(pair: &mut Pair) {
    let state = small_state(pair);
    let before = Footprint::of(pair);
    state.remount("ro");
    let run = create(pair, "stopping=kill").wait();
    state.remount("rw");
    assert_code_in(&run, &[1]);
    before.assert_nothing_new(pair);
}

fn resumes_when_the_state_directory_fills_up_in_the_pause(pair: &mut Pair) {
    let state = small_state(pair);
    let before = Footprint::of(pair);
    let mut running = create(pair, "positioned=sleep:2000");
    wait_paused(pair, &mut running);
    // What becomes free is taken at once.
    while !running.has_ended() {
        state.fill();
        sleep(Duration::from_millis(1));
    }
    let run = running.wait();
    assert_code_in(&run, &[1, 5]);
    before.assert_threads_come_back(pair, limit(8));
    pair.wait_caught_up();
    state.empty();
    recover(pair);
    before.assert_nothing_new(pair);
}

fn finishes_a_deletion_that_was_killed(pair: &mut Pair) {
    let before = Footprint::of(pair);
    let first = pair.create(&[]);
    let id = first["id"].as_str().unwrap();
    pair.tool.run(&["snapshot", "delete", id, "--yes"]).ok();
    for place in walk::places(&pair.state_dir(), "delete-", (&[], &INSIDE_DELETE)) {
        let snapshot = pair.create(&[]);
        let id = snapshot["id"].as_str().unwrap();
        let args = ["snapshot", "delete", id, "--yes"];
        assert!(place.kill(&pair.tool, &args), "{place:?} isn't there");
        // Half of it is never shown as whole.
        let shown = pair.list();
        let whole = shown.iter().any(|one| one["state"] == "complete");
        let is_gone = ["volume-deleted", "end:before"].contains(&place.name.as_str());
        assert_eq!(whole, !is_gone, "{shown:?}");
        place.recover(&pair.tool);
        // Until it is committed nothing goes.
        assert_eq!(pair.list().is_empty(), place.committed, "after recover");
        pair.delete_all();
        assert_eq!(pair.volume.kept_of(id), Vec::<String>::new());
        before.assert_nothing_new(pair);
    }
}

/// Between any two system calls that change something.
fn leaves_nothing_when_killed_inside(pair: &mut Pair, command: &str) {
    let before = Footprint::of(pair);
    let name = pair.name();
    let to = pair.base().join("to");
    let directory = to.display().to_string();
    pair.configure(|settings| settings.snapshot = "keep = { last = 1 }".to_owned());
    let strikes = Strikes {
        sample: 3,
        alone: false,
        only: &[],
    };
    let kills = strikes.walk(|strike| {
        let what = strike.what();
        let snapshot = (command != "create").then(|| pair.create(&[]));
        let id = snapshot
            .as_ref()
            .map_or("", |one| one["id"].as_str().unwrap());
        // What retention keeps, whatever happens to the others.
        let newer = (command == "prune").then(|| pair.create(&[]));
        let more: &[&str] = match command {
            "create" => &[&name],
            "delete" => &[id, "--yes"],
            "prune" => &[&name, "--yes"],
            "restore" => {
                sh(&["install", "-d", "-m", "0700", &directory]);
                &[id, "--to", &directory]
            }
            _ => &[id],
        };
        let args = [&["snapshot", command][..], more].concat();
        let run = strike.run(&pair.tool, &args);
        recover(pair);
        before.assert_nothing_left(pair);
        let listed = pair.list();
        for one in &listed {
            assert_eq!(one["state"], "complete", "{what}: {one}");
            assert_ne!(one["proof"], "failed", "{what}: {one}");
        }
        if let Some(newer) = newer {
            let first = listed.first().map(|one| &one["id"]);
            assert_eq!(first, Some(&newer["id"]), "{what}: the newest is gone");
            let pruned = listed.len() == 1;
            assert!(pruned || run.code() != 0, "{what}: nothing was pruned");
        }
        drop(std::fs::remove_dir_all(&to));
        pair.delete_all();
        assert_nothing_half_written(pair, &what);
        run
    });
    println!("{command}: killed {kills} times");
    pair.configure_plain();
}

/// What a killed command left, `recover` swept and `delete` called deleted is really gone.
#[track_caller]
fn assert_nothing_half_written(pair: &Pair, what: &str) {
    assert_eq!(pair.list(), Vec::<Value>::new(), "{what}");
    let kept = pair.volume.kept_dir().map(names_below).unwrap_or_default();
    assert_eq!(kept, Vec::<String>::new(), "{what}");
    let half = half_written(pair.state_dir());
    assert_eq!(half, Vec::<String>::new(), "{what}");
}

fn survives_a_server_crash_in_the_pause(pair: &mut Pair) {
    let before = Footprint::of(pair);
    let mut running = create(pair, "positioned=sleep:3000");
    wait_paused(pair, &mut running);
    pair.replica.kill();
    pair.replica.restart();
    let run = running.wait();
    assert_code_in(&run, &[1]);
    before.assert_nothing_new(pair);
    pair.wait_caught_up();
}

/// STOP waits for it on both flavours, and goes on waiting when its client is gone.
fn gives_up_on_a_transaction_that_outlasts_the_pause(pair: &mut Pair) {
    pair.source
        .execute("CREATE TABLE IF NOT EXISTS lab.slow (id INT PRIMARY KEY, s INT) ENGINE=InnoDB");
    pair.wait_caught_up();
    let before = Footprint::of(pair);
    let mut conn = pair.source.connect();
    conn.query_drop("SET SESSION binlog_format = 'STATEMENT'")
        .unwrap();
    conn.query_drop("REPLACE INTO lab.slow SELECT 1, SLEEP(9)")
        .unwrap();
    eventually(limit(20), "the replica applies the slow statement", || {
        pair.replica
            .rows("SHOW PROCESSLIST")
            .iter()
            .any(|row| row.get("info").is_some_and(|info| info.contains("SLEEP")))
    });
    pair.configure(|settings| settings.max_pause = Duration::from_secs(2));
    let run = create(pair, "").wait();
    assert_code_in(&run, &[1, 5]);
    pair.configure_plain();
    before.assert_threads_come_back(pair, limit(20));
    pair.wait_caught_up();
    if run.code() == 5 {
        recover(pair);
    }
    before.assert_nothing_new(pair);
    assert_eq!(pair.replica.value("SELECT COUNT(*) FROM lab.slow"), "1");
}

fn starts_the_server_when_killed_while_it_is_stopped(pair: &mut Pair) {
    let service = pair.put_under_a_service();
    let before = Footprint::of(pair);
    pair.configure(|settings| settings.snapshot = service);
    let run = create(pair, "taken=kill").wait();
    assert_eq!(run.status.signal(), Some(Signal::SIGKILL as i32));
    eventually(limit(30), "the server is up", || {
        pair.replica.try_connect("root").is_some()
    });
    before.assert_threads_come_back(pair, limit(20));
    pair.wait_caught_up();
    recover(pair);
    before.assert_nothing_new(pair);
}

/// A client that may write in spite of read_only keeps InnoDB writing under the walk.
fn rejects_a_copy_that_innodb_wrote_to(pair: &mut Pair) {
    pair.replica.execute_unlogged(&[
        "CREATE TABLE lab.own (id INT PRIMARY KEY AUTO_INCREMENT, v TEXT) ENGINE=InnoDB".to_owned(),
    ]);
    let before = Footprint::of(pair);
    pair.configure(|settings| settings.max_pause = Duration::from_secs(5));
    let stop = Arc::new(AtomicBool::new(false));
    let (mut conn, told, flavour) = (pair.replica.connect(), stop.clone(), pair.flavour);
    let writer = std::thread::spawn(move || {
        conn.query_drop("SET SESSION sql_log_bin = 0").unwrap();
        if flavour.is_mariadb() {
            // Commits are held off there by the backup lock, changes of rows aren't.
            conn.query_drop("BEGIN").unwrap();
        }
        while !told.load(Ordering::SeqCst) {
            conn.query_drop("INSERT INTO lab.own (v) VALUES (REPEAT('x', 3000))")
                .unwrap();
            sleep(Duration::from_millis(2));
        }
        conn.query_drop("ROLLBACK").unwrap();
    });
    let run = create(pair, "").wait();
    stop.store(true, Ordering::SeqCst);
    writer.join().unwrap();
    pair.configure_plain();
    pair.replica
        .execute_unlogged(&["DROP TABLE lab.own".to_owned()]);
    let run = run.expect_code(1);
    assert!(run.error().1.contains("changed"), "{}", run.stdout);
    before.assert_nothing_new(pair);
    pair.wait_caught_up();
}

fn refuses_when_space_is_short(pair: &mut Pair) {
    let before = Footprint::of(pair);
    let filler = pair.volume.fill_up(150);
    let run = create(pair, "stopping=kill").wait();
    std::fs::remove_file(filler).unwrap();
    run.expect_code(4);
    before.assert_nothing_new(pair);
}

/// No writes come from the source meanwhile: InnoDB of either flavour aborts the whole server, now
/// and then, when a table can't grow (seen on MariaDB 10.11.19 and MySQL 9.7.4).
fn resumes_when_the_volume_fills_up_in_the_pause(pair: &mut Pair) {
    let before = Footprint::of(pair);
    let mut running = create(pair, "positioned=sleep:2500");
    wait_paused(pair, &mut running);
    let filler = pair.volume.fill_up(1);
    let run = running.wait();
    // Back while the volume is still full.
    let back = pair.replica.sql_threads();
    std::fs::remove_file(filler).unwrap();
    assert_code_in(&run, &[0, 1]);
    assert_eq!(back, [(String::new(), "Yes".to_owned())]);
    recover(pair);
    before.assert_nothing_left(pair);
    assert_eq!(pair.list().len(), usize::from(run.code() == 0));
    pair.delete_all();
    pair.wait_caught_up();
}

/// As after a kill of everything while several volumes are frozen; the lease says what may be.
fn thaws_before_anything_else(pair: &mut Pair) {
    let before = Footprint::of(pair);
    let mut running = create(pair, "positioned=sleep:30000");
    wait_paused(pair, &mut running);
    let mut lease = lease(pair);
    let mount = pair.volume.mount.display().to_string();
    lease["freezes"] = serde_json::json!([mount]);
    let path = pair
        .state_dir()
        .join(format!("leases/{}.json", pair.name()));
    std::fs::write(path, lease.to_string()).unwrap();
    kill_watchdogs(pair);
    running.signal(Signal::SIGKILL);
    running.wait();
    sh(&["fsfreeze", "--freeze", &mount]);
    let run = pair.tool.run(&["recover", &pair.name()]);
    // Should it not have been thawed, nothing else on this machine shall hang with it.
    let thawed = try_sh(&["fsfreeze", "--unfreeze", &mount]).is_err();
    assert!(thawed, "still frozen: {}{}", run.stdout, run.stderr);
    assert!(run.ok().stdout.contains("thawed"));
    before.assert_nothing_new(pair);
    pair.wait_caught_up();
}

/// The receiver waits for room that only the applier can make.
fn resumes_when_relay_space_is_full_in_the_pause(pair: &mut Pair) {
    pair.source
        .execute("CREATE TABLE IF NOT EXISTS lab.wide (id INT PRIMARY KEY, v MEDIUMTEXT)");
    pair.wait_caught_up();
    let before = Footprint::of(pair);
    let mut running = create(pair, "positioned=sleep:2500");
    wait_paused(pair, &mut running);
    for id in 0..8 {
        pair.source.execute(&format!(
            "INSERT INTO lab.wide VALUES ({id}, REPEAT('x', 1000000))"
        ));
    }
    running.wait().ok();
    before.assert_nothing_left(pair);
    pair.wait_caught_up();
    assert_eq!(pair.replica.value("SELECT COUNT(*) FROM lab.wide"), "8");
    pair.delete_all();
    before.assert_nothing_new(pair);
}

fn lists_an_overflowed_snapshot_as_invalid(pair: &mut Pair) {
    let before = Footprint::of(pair);
    pair.configure(|settings| settings.snapshot = "cow_size = \"32MiB\"".to_owned());
    let snapshot = pair.create(&[]);
    let id = snapshot["id"].as_str().unwrap();
    let filler = pair.volume.mount.join("filler").display().to_string();
    let of = format!("of={filler}");
    assert_eq!(filling(pair), 0);
    let volume = snapshot["volumes"][0]["name"].as_str().unwrap();
    let used = || -> f64 {
        let percent = sh(&["lvs", "--noheadings", "-o", "snap_percent", volume]);
        percent.trim().parse().unwrap()
    };
    let mut written = 0;
    while used() < 80.0 && written < 60 {
        let seek = format!("seek={written}");
        let dd = ["dd", "if=/dev/urandom", &of, "bs=1M", "count=3", &seek];
        sh(&[&dd[..], &["conv=fsync,notrunc", "status=none"]].concat());
        written += 3;
    }
    assert_ne!(filling(pair), 0, "{} %", used());
    sh(&[
        "dd",
        "if=/dev/urandom",
        &of,
        "bs=1M",
        "count=80",
        "conv=fsync",
        "status=none",
    ]);
    let listed = pair.list();
    assert_eq!(listed[0]["state"], "invalid", "{listed:?}");
    let reason = listed[0]["state_reason"].as_str().unwrap();
    assert!(!reason.is_empty());
    // It isn't the latest good one.
    let latest = format!("latest:{}", pair.name());
    pair.tool.run(&["snapshot", "show", &latest]).expect_code(2);
    pair.tool.run(&["snapshot", "delete", id, "--yes"]).ok();
    std::fs::remove_file(filler).unwrap();
    pair.configure_plain();
    before.assert_nothing_new(pair);
}

/// What `check` says of how full the storage of the replica's snapshots is.
fn filling(pair: &Pair) -> i32 {
    let rule = ["check", &pair.name(), "--rule", "snapshot.storage-filling"];
    pair.tool.run(&rule).code()
}

/// A whole pool that has no room left stops everything on it: health says so before.
fn sees_a_zfs_pool_that_fills(pair: &mut Pair) {
    let before = Footprint::of(pair);
    let snapshot = pair.create(&[]);
    assert_eq!(filling(pair), 0);
    let pool = snapshot["volumes"][0]["origin"].as_str().unwrap();
    let pool = pool.split('/').next().unwrap();
    let filler = pair.volume.mount.join("filler").display().to_string();
    let of = format!("of={filler}");
    let used = || -> f64 {
        let percent = sh(&["zpool", "list", "-Hp", "-o", "capacity", pool]);
        percent.trim().parse().unwrap()
    };
    let mut written = 0;
    while used() < 81.0 && written < 3000 {
        let seek = format!("seek={written}");
        let dd = ["dd", "if=/dev/urandom", &of, "bs=1M", "count=50", &seek];
        sh(&[&dd[..], &["conv=fsync,notrunc", "status=none"]].concat());
        written += 50;
    }
    assert_eq!(filling(pair), 1, "{} %", used());
    std::fs::remove_file(filler).unwrap();
    pair.delete_all();
    before.assert_nothing_new(pair);
}

fn refuses_when_the_thin_pool_is_nearly_full(pair: &mut Pair) {
    let before = Footprint::of(pair);
    pair.create(&[]);
    assert_eq!(filling(pair), 0);
    let group = &pair.volume.name;
    let (pool, filler) = (format!("{group}/pool"), format!("{group}/filler"));
    sh(&[
        "lvcreate", "-q", "-y", "-V", "2g", "--thin", "-n", "filler", &pool,
    ]);
    let used = || -> f64 {
        let percent = sh(&["lvs", "--noheadings", "-o", "data_percent", &pool]);
        percent.trim().parse().unwrap()
    };
    let of = format!("of=/dev/{filler}");
    let mut written = 0;
    while used() < 96.0 && written < 2000 {
        let seek = format!("seek={written}");
        sh(&[
            "dd",
            "if=/dev/zero",
            &of,
            "bs=1M",
            "count=25",
            &seek,
            "conv=fsync,notrunc",
            "status=none",
        ]);
        written += 25;
    }
    let run = create(pair, "stopping=kill").wait();
    let seen = filling(pair);
    sh(&["lvremove", "-q", "-f", &filler]);
    let run = run.expect_code(4);
    assert!(run.error().1.contains("pool"), "{}", run.stdout);
    assert_eq!(seen, 2, "critical");
    pair.delete_all();
    before.assert_nothing_new(pair);
}
