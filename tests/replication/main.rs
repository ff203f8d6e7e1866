//! `setup PAIR`: real servers of both flavours become pairs, and what fails is put back.
#![expect(clippy::unwrap_used, reason = "tests")]

#[expect(
    dead_code,
    reason = "shared with the other integration tests, which use other parts"
)]
#[path = "../lab/mod.rs"]
mod lab;
mod odd_names;
mod ready;

use std::time::Duration;

use lab::couple::{Couple, content};
use lab::left::half_written;
use lab::load::Load;
use lab::program::DataJoint;
use lab::server::{Flavour, flavours};
use lab::small_state::SmallState;
use lab::strikes::{self, Strikes};
use lab::walk;
use lab::{eventually, limit};
use understudy::sys::failpoint::{INSIDE_CLONE, INSIDE_DUMP, INSIDE_EXCHANGE};

/// Two servers, the source with data that nothing but a test changes.
fn filled(flavour: Flavour) -> Couple {
    let couple = Couple::start(flavour);
    couple.fill(false);
    couple.source.execute("ALTER EVENT lab.e DISABLE");
    couple
}

/// A set-up that is at `place`, for so many milliseconds.
fn held_at(couple: &Couple, place: &str, ms: u32, way: &str) -> lab::tool::Running {
    let mut running = couple.tool.spawn_at(
        &format!("{place}=sleep:{ms}"),
        &["setup", "lab", "--provision", way],
    );
    running.wait_at(place);
    running
}

/// Waits until the replica has what the source wrote up to now.
#[track_caller]
fn wait_equal(couple: &Couple) {
    couple.source.execute("INSERT INTO lab.ping VALUES ()");
    let highest = "SELECT MAX(id) FROM lab.ping";
    let wanted = couple.source.value(highest);
    eventually(limit(20), "the replica follows", || {
        couple.replica.value(highest) == wanted
    });
}

#[test]
fn makes_a_pair_of_two_fresh_servers_by_replication_alone() {
    for flavour in flavours() {
        let couple = Couple::start(flavour);
        couple.fill(true);
        let planned = couple.setup(&["--dry-run"]).ok().json();
        assert_eq!(planned["setup"]["provision"], "none");
        assert_eq!(planned["setup"]["steps"][0]["result"], "would-change");
        assert!(couple.replica.channels().is_empty(), "a dry run linked");
        couple.replica.execute("SET GLOBAL read_only = ON");
        let doctor = couple.tool.run(&["doctor"]).expect_code(4).stdout;
        assert!(doctor.contains("nobody follows"), "{doctor}");
        assert!(!doctor.contains("doesn't answer"), "{doctor}");
        couple.replica.execute("SET GLOBAL read_only = OFF");
        let made = couple.setup(&[]).ok().json();
        assert_eq!(made["setup"]["provision"], "none");
        assert_eq!(
            Couple::steps(&made),
            [
                "account: changed",
                "table: changed",
                "link: changed",
                "read-only: changed",
                "net-timeout: changed",
                "start: changed",
                "catch-up: verified",
                "verify: verified",
            ]
        );
        couple.source.execute("ALTER EVENT lab.e DISABLE");
        wait_equal(&couple);
        couple.assert_equal();
        couple.assert_nothing_in_hand();
    }
}

/// What no run of the tool may ever show.
#[track_caller]
fn assert_no_secret(couple: &Couple) {
    let file = std::fs::read_to_string(couple.password_file()).unwrap();
    let line = file
        .lines()
        .find(|line| line.starts_with("password"))
        .unwrap();
    let password = line.trim_start_matches("password=").trim_matches('"');
    assert_eq!(password.len(), 32, "{line}");
    let found = std::process::Command::new("grep")
        .args([
            "-rl",
            "--exclude-dir=sdata",
            "--exclude-dir=pdata",
            "--",
            password,
        ])
        .arg(couple.base())
        .output()
        .unwrap();
    let found = String::from_utf8(found.stdout).unwrap();
    assert_eq!(found.trim(), couple.password_file().display().to_string());
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::metadata(couple.password_file())
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn loads_a_dump_while_others_write_and_is_already_so_the_second_time() {
    for flavour in flavours() {
        let couple = Couple::start(flavour);
        couple.fill(true);
        couple.setup(&["--provision", "dump"]).expect_code(4);
        couple.source.execute("ALTER TABLE lab.m ENGINE=InnoDB");
        couple.source.execute("TRUNCATE lab.t");
        // Nothing of it comes from the binary log.
        couple.source.execute("FLUSH BINARY LOGS");
        let load = Load::start(&couple.source, Duration::from_millis(5));
        std::thread::sleep(Duration::from_millis(300));
        couple.replica.execute("SET GLOBAL event_scheduler = ON");
        let made = couple.setup(&["--provision", "dump"]).ok().json();
        std::thread::sleep(Duration::from_millis(300));
        load.stop();
        // It was off while the events weren't parked yet, and no longer.
        let scheduler = couple.replica.value("SELECT @@GLOBAL.event_scheduler");
        assert_eq!(scheduler, "ON");
        assert_eq!(made["setup"]["provision"], "dump");
        assert_no_secret(&couple);
        wait_equal(&couple);
        // The replica keeps its events from running; the source's goes on, so it is ended first.
        let status = couple
            .replica
            .value("SELECT STATUS FROM information_schema.EVENTS");
        assert!(status.ends_with("SIDE_DISABLED"), "{status}");
        couple.source.execute("ALTER EVENT lab.e DISABLE");
        wait_equal(&couple);
        couple.assert_equal();
        let users = "SELECT COUNT(*) FROM mysql.user WHERE User = 'worker'";
        assert_eq!(couple.replica.value(users), "1");
        assert!(couple.replica.try_connect("root").is_some());
        let grants = |server: &lab::server::Server| {
            [
                "SHOW GRANTS FOR 'worker'@'localhost'",
                "SHOW GRANTS FOR 'apprentice'@'localhost'",
                "SHOW GRANTS FOR zookeeper",
                "SHOW CREATE USER 'apprentice'@'localhost'",
            ]
            .map(|statement| format!("{:?}", server.rows(statement)))
        };
        assert_eq!(grants(&couple.replica), grants(&couple.source));

        let gtid = couple.replica.gtid();
        let before = (couple.state(&couple.source), couple.state(&couple.replica));
        for more in [&[][..], &["--provision", "dump"]] {
            let again = couple.setup(more).ok().json();
            let steps = Couple::steps(&again);
            let changed: Vec<&String> = steps.iter().filter(|s| s.contains("changed")).collect();
            assert!(changed.is_empty(), "{steps:?}");
            assert!(steps.contains(&"verify: verified".to_owned()), "{steps:?}");
        }
        wait_equal(&couple);
        assert_ne!(couple.replica.gtid(), gtid, "no marker was written through");
        let strip = |state: Vec<String>| -> Vec<String> {
            // The ping and the marker are writes.
            let mut state = state;
            state.pop();
            state.retain(|line| !line.contains("`ping`") && !line.contains("`marker`"));
            state
        };
        let after = (couple.state(&couple.source), couple.state(&couple.replica));
        assert_eq!(strip(after.0), strip(before.0));
        assert_eq!(strip(after.1), strip(before.1));
        couple.assert_nothing_in_hand();
        assert_read_only(&couple);
    }
}

/// A dump would end at each of them, after everything before it.
#[test]
fn finds_what_a_dump_would_stumble_over_before_it_begins() {
    for flavour in flavours() {
        let couple = Couple::start(flavour);
        for statement in [
            "CREATE DATABASE lab",
            "CREATE TABLE lab.t (id INT PRIMARY KEY) ENGINE=InnoDB",
            "CREATE TABLE lab.gone (id INT PRIMARY KEY) ENGINE=InnoDB",
            "CREATE TABLE lab.crashed (id INT PRIMARY KEY) ENGINE=MyISAM",
            "INSERT INTO lab.t VALUES (1), (2)",
            "INSERT INTO lab.crashed VALUES (1), (2)",
            "CREATE VIEW lab.good AS SELECT id FROM lab.t",
            "CREATE VIEW lab.`odd ``view` AS SELECT id FROM lab.gone",
            "CREATE DEFINER = 'nobody'@'nowhere' PROCEDURE lab.p() SELECT 1",
            "CREATE EVENT lab.`endless;;name` ON SCHEDULE EVERY 1 YEAR DO SELECT 1",
            "CREATE EVENT lab.endless_text ON SCHEDULE EVERY 1 YEAR DO SELECT ';;'",
            "CREATE EVENT lab.`odd ``;\nevent` ON SCHEDULE EVERY 1 YEAR DO SELECT ';'",
            "DROP TABLE lab.gone",
            "FLUSH TABLES",
        ] {
            couple.source.execute(statement);
        }
        let index = couple.source.data_dir.join("lab/crashed.MYI");
        std::fs::write(&index, "no index of MyISAM's").unwrap();
        couple.source.execute("FLUSH BINARY LOGS");
        let seen = || (couple.source.gtid(), couple.state(&couple.replica));
        let before = seen();
        let dump = ["--provision", "dump", "--lock-source"];
        let refused = couple.setup(&dump).expect_code(4).json()["error"].to_string();
        for words in [
            "lab.odd `view",
            "--skip-invalid-views",
            "lab.crashed",
            "REPAIR TABLE",
            "lab.endless;;name, lab.endless_text",
        ] {
            assert!(refused.contains(words), "{words}: {refused}");
        }
        assert!(!refused.contains("lab.good"), "{refused}");
        let skip = [&dump[..], &["--skip-invalid-views"]].concat();
        let refused = couple.setup(&skip).expect_code(4).json()["error"].to_string();
        assert!(refused.contains("lab.crashed"), "{refused}");
        assert_eq!(seen(), before);

        couple.source.execute("DROP TABLE lab.crashed");
        couple.source.execute("DROP EVENT lab.`endless;;name`");
        couple.source.execute("DROP EVENT lab.endless_text");
        for more in [&["--dry-run"][..], &[]] {
            let made = couple.setup(&[&skip[..], more].concat()).ok().json();
            let warnings = made["setup"]["warnings"].to_string();
            assert!(warnings.contains("invalid-views"), "{warnings}");
            assert!(warnings.contains("routine lab.p"), "{warnings}");
        }
        let views = "SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_TYPE = 'VIEW' \
                     AND TABLE_SCHEMA = 'lab'";
        assert_eq!(couple.replica.rows(views).len(), 1);
        assert_eq!(couple.replica.value("SELECT COUNT(*) FROM lab.good"), "2");
        couple.assert_nothing_in_hand();
    }
}

#[track_caller]
fn assert_read_only(couple: &Couple) {
    let read_only = couple.replica.value("SELECT @@GLOBAL.read_only");
    assert_eq!(read_only, "1");
    if couple.flavour == Flavour::Mysql97 {
        let value = couple.replica.value("SELECT @@GLOBAL.super_read_only");
        assert_eq!(value, "1");
        let kept = "SELECT COUNT(*) FROM performance_schema.persisted_variables \
                    WHERE VARIABLE_NAME = 'super_read_only'";
        assert_eq!(couple.replica.value(kept), "1");
    }
}

#[test]
fn a_killed_or_failed_set_up_is_put_back() {
    for flavour in flavours() {
        let couple = filled(flavour);
        couple.replica.execute("SET GLOBAL read_only = ON");
        let sums = |server| {
            let mut state = couple.state(server);
            // Accounts that come and go leave transactions on the source.
            if std::ptr::eq(server, &couple.source) {
                state.pop();
            }
            state
        };
        let before = (sums(&couple.source), sums(&couple.replica));
        let other = filled(flavour);
        other.replica.execute("SET GLOBAL read_only = ON");
        other.setup(&["--provision", "dump"]).ok();
        let places = walk::places(&other.state_dir(), "setup-", (&INSIDE_DUMP, &[]));
        assert!(places.len() > 25, "{places:?}");
        for place in places.iter().filter(|place| !place.committed) {
            let args = ["setup", "lab", "--provision", "dump"];
            assert!(place.kill(&couple.tool, &args), "{place:?} isn't there");
            let left = couple.tool.run(&["recover", "--dry-run"]).ok().json();
            assert_eq!(left["recovered"][0]["server"], "rep", "{place:?}");
            place.recover(&couple.tool);
            let place = &place.name;
            assert_eq!(sums(&couple.source), before.0, "{place}: the source");
            assert_eq!(sums(&couple.replica), before.1, "{place}: the replica");
            assert!(!couple.password_file().exists(), "{place}: the password");
            couple.assert_nothing_in_hand();
        }
        // Stopped by a signal, it puts back by itself.
        let running = held_at(&couple, "setup-flowing", 500, "dump");
        running.signal(nix::sys::signal::Signal::SIGINT);
        running.wait().expect_code(1);
        assert_eq!(sums(&couple.replica), before.1, "interrupted");
        // And what was killed doesn't stand in the way of the next one, which recovers it first.
        couple
            .setup_at("link:in=kill", &["--provision", "dump"])
            .expect_code(-1);
        couple.setup(&["--provision", "dump"]).ok();
        wait_equal(&couple);
        couple.assert_equal();
    }
}

/// Between any two system calls that change something, of it and of the recovery after it: as
/// before, or done.
#[test]
fn a_set_up_killed_inside_a_step_is_put_back_or_done() {
    const SETUP: [&str; 4] = ["setup", "lab", "--provision", "dump"];
    for flavour in flavours() {
        // What the servers are told differs by flavour; how it is put back doesn't.
        if flavour == Flavour::Mysql97 && !strikes::every_one() {
            continue;
        }
        let mut couple = filled(flavour);
        let mut before = both(&couple);
        for killed in [None, Some("link:in=kill")] {
            let strikes = Strikes {
                sample: if killed.is_none() { 2 } else { 1 },
                alone: true,
                only: &[],
            };
            let kills = strikes.walk(|strike| {
                let what = format!("{killed:?}, {}", strike.what());
                let run = match killed {
                    None => strike.run(&couple.tool, &SETUP),
                    Some(place) => {
                        couple.tool.run_at(place, &SETUP).expect_code(-1);
                        strike.run(&couple.tool, &["recover"])
                    }
                };
                couple.tool.run(&["recover"]).ok();
                couple.assert_nothing_in_hand();
                let half = half_written(couple.state_dir());
                assert_eq!(half, Vec::<String>::new(), "{what}");
                if killed.is_some() || couple.replica.channels().is_empty() {
                    let after = both(&couple);
                    assert_eq!(after.0, before.0, "{what}: the source");
                    assert_eq!(after.1, before.1, "{what}: the replica");
                    assert!(!couple.password_file().exists(), "{what}: the password");
                    assert!(killed.is_some() || run.code() != 0, "{what}: not set up");
                } else {
                    assert_read_only(&couple);
                    let again = couple.setup(&[]).ok().json();
                    let steps = format!("{:?}", Couple::steps(&again));
                    assert!(!steps.contains("changed"), "{what}: {steps}");
                    wait_equal(&couple);
                    couple.assert_equal();
                    couple = filled(flavour);
                    before = both(&couple);
                }
                run
            });
            println!("{} setup, {killed:?}: killed {kills} times", flavour.name());
        }
    }
}

/// As by dump; here the server is stopped, its data exchanged, and started again.
#[test]
fn a_set_up_by_clone_killed_inside_a_step_is_put_back_or_done() {
    const SETUP: [&str; 4] = ["setup", "lab", "--provision", "clone"];
    for flavour in flavours() {
        if flavour == Flavour::Mysql97 && !strikes::is_thorough() {
            continue;
        }
        let fresh = || {
            let mut couple = Couple::start(flavour);
            couple.fill(true);
            couple.source.execute("ALTER EVENT lab.e DISABLE");
            couple.put_under_a_service();
            couple
        };
        let mut couple = fresh();
        let mut before = both(&couple);
        let strikes = Strikes {
            sample: 1,
            alone: true,
            only: &["rename", "renameat2", "unlink", "mkdir", "sendto"],
        };
        let kills = strikes.walk(|strike| {
            let what = strike.what();
            let run = strike.run(&couple.tool, &SETUP);
            couple.tool.run(&["recover"]).ok();
            couple.assert_nothing_in_hand();
            let half = half_written(couple.state_dir());
            assert_eq!(half, Vec::<String>::new(), "{what}");
            for name in ["pdata.understudy-new", "pdata.understudy-before"] {
                assert!(!couple.base().join(name).exists(), "{what}: {name}");
            }
            let (after, has_link) = (both(&couple), !couple.replica.channels().is_empty());
            if has_link {
                assert_read_only(&couple);
                let again = couple.setup(&[]).ok().json();
                let steps = format!("{:?}", Couple::steps(&again));
                assert!(!steps.contains("changed"), "{what}: {steps}");
                wait_equal(&couple);
                couple.assert_equal();
                couple = fresh();
                before = both(&couple);
            } else {
                assert_eq!(after.0, before.0, "{what}: the source");
                assert_eq!(after.1, before.1, "{what}: the replica");
                assert!(!couple.password_file().exists(), "{what}: the password");
                assert_ne!(run.code(), 0, "{what}: not set up");
            }
            println!(
                "{} clone, {what}: {}",
                flavour.name(),
                if has_link { "done" } else { "put back" }
            );
            run
        });
        println!("{} clone: killed {kills} times", flavour.name());
    }
}

#[test]
fn refuses_what_could_not_replicate_and_changes_nothing() {
    for flavour in flavours() {
        let couple = filled(flavour);
        let before = (couple.state(&couple.source), couple.state(&couple.replica));
        let mut cases = vec![
            (
                "src",
                "SET GLOBAL binlog_format = 'STATEMENT'",
                "SET GLOBAL binlog_format = 'ROW'",
                "binlog_format",
            ),
            (
                "src",
                "SET GLOBAL read_only = ON",
                "SET GLOBAL read_only = OFF",
                "read-only",
            ),
            (
                "rep",
                "SET GLOBAL max_allowed_packet = 1048576",
                "SET GLOBAL max_allowed_packet = @@session.max_allowed_packet",
                "max_allowed_packet",
            ),
            (
                "rep",
                "SET GLOBAL server_id = 11",
                "SET GLOBAL server_id = 12",
                "server_id",
            ),
        ];
        if flavour == Flavour::Mysql97 {
            cases.push((
                "rep",
                "SET GLOBAL gtid_mode = ON_PERMISSIVE",
                "SET GLOBAL gtid_mode = ON",
                "gtid_mode",
            ));
        }
        for (on, spoil, cure, word) in cases {
            let server = if on == "src" {
                &couple.source
            } else {
                &couple.replica
            };
            let size = couple.replica.value("SELECT @@GLOBAL.max_allowed_packet");
            server.execute(spoil);
            let run = couple.setup(&[]).expect_code(4);
            let (kind, message) = run.error();
            assert_eq!(kind, "refused");
            assert!(message.contains(word), "{spoil}: {message}");
            assert!(!run.json()["error"]["hints"][0].as_str().unwrap().is_empty());
            server.execute(&cure.replace("@@session.max_allowed_packet", &size));
        }
        couple.tool.run(&["setup", "nowhere"]).expect_code(2);
        couple.setup(&["--replica", "src"]).expect_code(2);
        couple.setup(&["--provision", "magic"]).expect_code(2);
        assert_eq!(couple.state(&couple.source), before.0);
        assert_eq!(couple.state(&couple.replica), before.1);
        assert!(!couple.password_file().exists());
    }
}

#[test]
fn a_replica_with_data_of_its_own_is_kept_unless_told() {
    for flavour in flavours() {
        let couple = filled(flavour);
        couple.replica.execute("CREATE DATABASE mine");
        couple
            .replica
            .execute("CREATE TABLE mine.t (id INT PRIMARY KEY)");
        couple.replica.execute("INSERT INTO mine.t VALUES (1)");
        let before = content(&couple.replica);
        for more in [
            &[][..],
            &["--provision", "none"],
            &["--provision", "dump"],
            // Nobody was there to be asked.
            &["--provision", "dump", "--replace"],
        ] {
            let (kind, message) = couple.setup(more).expect_code(4).error();
            assert_eq!(kind, "refused");
            assert!(message.contains("mine"), "{message}");
        }
        assert_eq!(content(&couple.replica), before);
        // Killed after that, the loss is told.
        couple
            .setup_at(
                "setup-flowing=kill",
                &["--provision", "dump", "--replace", "--yes"],
            )
            .expect_code(-1);
        let recovered = couple.tool.run(&["recover"]).ok();
        assert!(
            recovered.stdout.contains("schema mine"),
            "{}",
            recovered.stdout
        );
        couple.replica.execute("CREATE DATABASE mine");
        couple
            .setup(&["--provision", "dump", "--replace", "--yes"])
            .ok();
        wait_equal(&couple);
        couple.assert_equal();
        // A transaction of its own later on.
        couple.replica.execute("SET GLOBAL read_only = OFF");
        couple.replica.execute("CREATE DATABASE stray");
        let (_, message) = couple.setup(&[]).expect_code(4).error();
        assert!(message.contains("never had"), "{message}");
        couple
            .setup(&["--provision", "dump", "--replace", "--yes"])
            .ok();
        wait_equal(&couple);
        couple.assert_equal();
        assert_read_only(&couple);
    }
}

#[test]
fn purged_logs_need_a_provisioning() {
    for flavour in flavours() {
        let couple = filled(flavour);
        couple.source.execute("FLUSH BINARY LOGS");
        let last = couple.source.rows("SHOW BINARY LOGS").pop().unwrap();
        // MariaDB keeps a log until InnoDB has written what it holds.
        eventually(limit(30), "the logs are purged", || {
            couple
                .source
                .execute(&format!("PURGE BINARY LOGS TO '{}'", last["log_name"]));
            couple.source.rows("SHOW BINARY LOGS").len() == 1
        });
        let run = couple.setup(&[]).expect_code(4);
        assert!(run.stdout.contains("--provision dump"), "{}", run.stdout);
        couple.setup(&["--provision", "dump"]).ok();
        wait_equal(&couple);
        couple.assert_equal();
    }
}

#[test]
fn names_of_one_case_only_are_refused() {
    for flavour in flavours() {
        // MySQL keeps what a data directory was made with.
        if flavour == Flavour::Mysql97 {
            continue;
        }
        let couple = Couple::start_with(flavour, &[], &["--lower-case-table-names=1"]);
        let (_, message) = couple.setup(&[]).expect_code(4).error();
        assert!(message.contains("lower_case_table_names"), "{message}");
        assert!(couple.replica.channels().is_empty());
    }
}

/// The source's state but for its position, and the replica's.
fn both(couple: &Couple) -> (Vec<String>, Vec<String>) {
    let mut source = couple.state(&couple.source);
    source.pop();
    (source, couple.state(&couple.replica))
}

#[test]
fn clones_and_puts_a_killed_clone_back() {
    for flavour in flavours() {
        let mut couple = Couple::start(flavour);
        couple.fill(true);
        couple.source.execute("ALTER EVENT lab.e DISABLE");
        let (_, message) = couple
            .setup(&["--provision", "clone"])
            .expect_code(4)
            .error();
        assert!(
            message.contains("starts rep again") || message.contains("service"),
            "{message}"
        );
        couple.put_under_a_service();
        // The replica gets the source's accounts, ours among them.
        let ours = |what: &str| vec![what.replace("US", "'understudy'@'%'")];
        let source = &couple.source;
        source.execute_unlogged(&ours("REVOKE RELOAD ON *.* FROM US"));
        let (_, message) = couple
            .setup(&["--provision", "clone"])
            .expect_code(4)
            .error();
        assert!(message.contains("may do less"), "{message}");
        source.execute_unlogged(&ours("GRANT RELOAD ON *.* TO US"));
        let before = both(&couple);
        let places: Vec<&str> = match flavour {
            Flavour::Mysql97 => INSIDE_CLONE.to_vec(),
            Flavour::Mariadb | Flavour::MariadbOther | Flavour::Mysql56 => INSIDE_EXCHANGE.to_vec(),
        };
        for place in places.iter().chain(&["link:in", "commit:before"]) {
            couple
                .setup_at(&format!("{place}=kill"), &["--provision", "clone"])
                .expect_code(-1);
            couple.tool.run(&["recover"]).ok();
            let after = both(&couple);
            assert_eq!(after.0, before.0, "{place}: the source");
            assert_eq!(after.1, before.1, "{place}: the replica");
            couple.assert_nothing_in_hand();
        }
        // Done, and killed before what was moved aside has gone: that stays done.
        couple
            .setup_at("commit:after=kill", &["--provision", "clone"])
            .expect_code(-1);
        let told = couple.tool.run(&["recover", "--dry-run"]).ok().json();
        let aside = told.to_string().contains("pdata.understudy-before");
        assert_eq!(aside, flavour == Flavour::Mariadb, "{told}");
        couple.tool.run(&["recover"]).ok();
        couple.assert_nothing_in_hand();
        for name in ["pdata.understudy-new", "pdata.understudy-before"] {
            assert!(!couple.base().join(name).exists(), "{name}");
        }
        wait_equal(&couple);
        let again = couple.setup(&[]).ok().json();
        assert!(!format!("{:?}", Couple::steps(&again)).contains("changed"));
        let replace = ["--provision", "clone", "--replace", "--yes"];
        let made = couple.setup(&replace).ok().json();
        assert_eq!(made["setup"]["provision"], "clone");
        wait_equal(&couple);
        couple.assert_equal();
        assert_read_only(&couple);
        let left = "SELECT COUNT(*) FROM mysql.user WHERE User = 'understudy_clone'";
        assert_eq!(couple.source.value(left), "0");
        assert_eq!(couple.replica.value(left), "0");
        let again = couple.setup(&[]).ok().json();
        assert!(!format!("{:?}", Couple::steps(&again)).contains("changed"));
        for name in ["pdata.understudy-new", "pdata.understudy-before"] {
            assert!(!couple.base().join(name).exists(), "{name}");
        }
    }
}

/// They come with the files, enabled, and a replica that ran them would write by itself.
#[test]
fn a_clone_never_runs_its_sources_events() {
    for flavour in flavours() {
        let mut couple = Couple::start_with(flavour, &[], &["--event-scheduler=ON"]);
        couple.fill(false);
        couple.put_under_a_service();
        let before = couple.state(&couple.replica);
        let (_, message) = couple
            .setup(&["--provision", "clone"])
            .expect_code(4)
            .error();
        assert!(message.contains("events"), "{message}");
        // By hand it is off until the restart that comes.
        couple.replica.execute("SET GLOBAL event_scheduler = OFF");
        couple.setup(&["--provision", "clone"]).expect_code(4);
        couple.replica.execute("SET GLOBAL event_scheduler = ON");
        assert_eq!(couple.state(&couple.replica), before);

        let mut couple = Couple::start_with(flavour, &[], &["--event-scheduler=OFF"]);
        couple.fill(false);
        couple.put_under_a_service();
        couple.setup(&["--provision", "clone"]).ok();
        let status = "SELECT STATUS FROM information_schema.EVENTS";
        let status = couple.replica.value(status);
        assert!(status.ends_with("SIDE_DISABLED"), "{status}");
        couple.source.execute("ALTER EVENT lab.e DISABLE");
        wait_equal(&couple);
        couple.assert_equal();
    }
}

#[test]
fn a_snapshot_takes_the_place_of_the_replicas_data() {
    for flavour in flavours() {
        let mut couple = filled(flavour);
        couple.put_under_a_service();
        couple.of_source = format!(
            "[server.src.snapshot]\nbackend = \"copy\"\ndirectory = \"{}\"",
            couple.base().join("kept").display()
        );
        std::fs::create_dir(couple.base().join("kept")).unwrap();
        couple.configure();
        couple
            .tool
            .run(&["snapshot", "create", "src", "--allow-source"])
            .ok();
        couple
            .source
            .execute("INSERT INTO lab.t VALUES (-5, 'later')");
        couple.replica.execute("CREATE DATABASE mine");
        couple
            .setup(&["--provision", "snapshot:latest:src"])
            .expect_code(4);
        let before = both(&couple);
        for place in [
            "setup-restored",
            "setup-aside",
            "setup-exchanged",
            "link:in",
        ] {
            couple
                .setup_at(
                    &format!("{place}=kill"),
                    &["--provision", "snapshot:latest:src", "--replace", "--yes"],
                )
                .expect_code(-1);
            couple.tool.run(&["recover"]).ok();
            assert_eq!(both(&couple), before, "{place}");
        }
        couple
            .setup(&["--provision", "snapshot:latest:src", "--replace", "--yes"])
            .ok();
        wait_equal(&couple);
        couple.assert_equal();
        assert_read_only(&couple);
    }
}

/// The same from a snapshot that is a dump: it is loaded beside, and what came takes the place.
#[test]
fn a_dump_takes_the_place_of_the_replicas_data() {
    for flavour in flavours() {
        let mut couple = filled(flavour);
        couple.put_under_a_service();
        couple.of_source = format!(
            "[server.src.snapshot]\nbackend = \"dump\"\ndirectory = \"{}\"",
            couple.base().join("kept").display()
        );
        std::fs::create_dir(couple.base().join("kept")).unwrap();
        couple.configure();
        let create = ["snapshot", "create", "src", "--allow-source"];
        couple.tool.run(&create).ok();
        couple
            .source
            .execute("INSERT INTO lab.t VALUES (-5, 'later')");
        couple.replica.execute("CREATE DATABASE mine");
        let before = both(&couple);
        let args = ["--provision", "snapshot:latest:src", "--replace", "--yes"];
        couple
            .setup_at("setup-restored=kill", &args)
            .expect_code(-1);
        couple.tool.run(&["recover"]).ok();
        assert_eq!(both(&couple), before);
        couple.setup(&args).ok();
        wait_equal(&couple);
        couple.assert_equal();
        assert_read_only(&couple);
    }
}

/// A CA, and a certificate of it for 127.0.0.1, in PEM files that any server may read.
fn certificates(dir: &std::path::Path) {
    let path = |name: &str| dir.join(name).display().to_string();
    let (ca_key, ca, key, csr, cert, san) = (
        path("ca.key"),
        path("ca.pem"),
        path("key.pem"),
        path("csr.pem"),
        path("cert.pem"),
        path("san"),
    );
    std::fs::write(&san, "subjectAltName=IP:127.0.0.1\n").unwrap();
    lab::sh(&[
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=lab ca",
        "-keyout",
        &ca_key,
        "-out",
        &ca,
    ]);
    lab::sh(&[
        "openssl", "req", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=db1", "-keyout", &key,
        "-out", &csr,
    ]);
    lab::sh(&[
        "openssl",
        "x509",
        "-req",
        "-in",
        &csr,
        "-CA",
        &ca,
        "-CAkey",
        &ca_key,
        "-CAcreateserial",
        "-days",
        "2",
        "-extfile",
        &san,
        "-out",
        &cert,
    ]);
}

#[test]
fn tls_of_the_source_is_the_links_too() {
    for flavour in flavours() {
        let dir = tempfile::tempdir().unwrap();
        certificates(dir.path());
        let arg =
            |option: &str, name: &str| format!("--{option}={}", dir.path().join(name).display());
        let args = [
            arg("ssl-ca", "ca.pem"),
            arg("ssl-cert", "cert.pem"),
            arg("ssl-key", "key.pem"),
        ];
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let mut couple = Couple::start_with(flavour, &args, &args);
        couple.fill(false);
        couple.source.execute("ALTER EVENT lab.e DISABLE");
        couple.of_source = format!(
            "tls = \"verify-full\"\ntls_ca = \"{}\"",
            dir.path().join("ca.pem").display()
        );
        couple.configure();
        couple.setup(&["--provision", "dump"]).ok();
        wait_equal(&couple);
        couple.assert_equal();
        let status = couple.replica.rows(flavour.replica_status()).remove(0);
        let get = |name: &str| {
            let value = status.get(&format!("source_{name}"));
            value
                .or(status.get(&format!("master_{name}")))
                .cloned()
                .unwrap_or_default()
        };
        assert_eq!(get("ssl_allowed"), "Yes");
        assert_eq!(get("ssl_verify_server_cert"), "Yes");
        assert!(get("ssl_ca_file").ends_with("ca.pem"), "{status:?}");
        let required = couple
            .source
            .value("SELECT ssl_type FROM mysql.user WHERE User = 'understudy_repl'");
        assert_eq!(required, "ANY");
        assert!(
            !format!("{:?}", Couple::steps(&couple.setup(&[]).ok().json())).contains("changed")
        );
    }
}

#[test]
fn a_lost_password_is_renewed_and_two_replicas_are_set_up() {
    for flavour in flavours() {
        let mut couple = filled(flavour);
        let start = lab::server::Start {
            server_id: 13,
            ..lab::server::Start::default()
        };
        let base = couple.base().to_owned();
        let mut third =
            lab::server::Server::fresh(flavour, &base.join("tdata"), &base.join("t"), start);
        third.restart();
        third.execute_unlogged(&lab::couple::account());
        couple.more = format!(
            "[server.third]\nsocket = \"{}\"\ncredentials = \"{}\"\n\
             [pair.three]\nsource = \"src\"\nreplicas = [\"rep\", \"third\"]",
            third.socket().display(),
            base.join("db.cnf").display()
        );
        couple.configure();
        let made = couple.tool.run(&["setup", "three"]).ok().json();
        let replicas = made["setup"]["replicas"].as_array().unwrap();
        assert_eq!(replicas.len(), 2);
        assert_eq!(replicas[1]["replica"], "third");
        assert_eq!(replicas[1]["steps"][0]["result"], "already-so");
        assert!(made["setup"].get("steps").is_none());

        let file = couple.state_dir().join("accounts/three.cnf");
        let old = std::fs::read_to_string(&file).unwrap();
        std::fs::remove_file(&file).unwrap();
        let again = couple
            .tool
            .run(&["setup", "three", "--replica", "rep"])
            .ok()
            .json();
        let steps = Couple::steps(&again);
        assert_eq!(steps[0], "account: changed");
        assert_eq!(steps[2], "link: changed");
        assert!(warnings(&again).contains(&"password-renewed".to_owned()));
        assert_ne!(std::fs::read_to_string(&file).unwrap(), old);
        // The other one's link is told so, too, once it can't log in any more.
        let stop = flavour.replica_statement("STOP", "IO_THREAD", "");
        third.execute(&stop);
        couple.tool.run(&["setup", "three"]).ok();
        wait_equal(&couple);
        couple.assert_equal();
    }
}

#[test]
fn what_cannot_be_put_back_yet_needs_an_operator() {
    for flavour in flavours() {
        let mut couple = filled(flavour);
        let before = both(&couple);
        couple.setup_at("link:in=kill", &[]).expect_code(-1);
        couple.source.shut_down();
        let (kind, message) = couple.tool.run(&["recover", "rep"]).expect_code(5).error();
        assert_eq!(kind, "needs-operator");
        assert!(message.contains("src"), "{message}");
        assert!(
            couple.replica.channels().is_empty(),
            "the replica's part is put back"
        );
        couple.source.restart();
        couple.tool.run(&["recover", "rep"]).ok();
        assert_eq!(both(&couple), before);
        // While one works, another one waits outside.
        let mut running = couple
            .tool
            .spawn_at("operation-begun=sleep:1500", &["setup", "lab"]);
        running.wait_at("operation-begun");
        couple.setup(&[]).expect_code(6);
        running.wait().ok();
    }
}

/// What a set-up that was put back leaves as it was. Accounts that come and go leave transactions on
/// the source.
fn but_for_transactions(couple: &Couple) -> (Vec<String>, Vec<String>) {
    let (mut source, replica) = both(couple);
    source.pop();
    (source, replica)
}

#[test]
fn a_state_directory_that_fills_up_leaves_both_servers_as_they_were() {
    for flavour in flavours() {
        let couple = filled(flavour);
        let before = but_for_transactions(&couple);
        let state = SmallState::mount(&couple.state_dir());
        couple.tool.run(&["recover"]).ok();
        state.fill();
        couple.setup(&["--provision", "dump"]).expect_code(1);
        assert_eq!(but_for_transactions(&couple), before, "full from the start");
        state.empty();
        for place in ["operation-begun", "setup-flowing"] {
            let mut running = held_at(&couple, place, 800, "dump");
            // What becomes free is taken at once.
            while !running.has_ended() {
                state.fill();
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
            let code = running.wait().status.code();
            assert!(matches!(code, Some(1 | 5)), "{place}: {code:?}");
            state.empty();
            couple.tool.run(&["recover"]).ok();
            assert_eq!(but_for_transactions(&couple), before, "full at {place}");
            couple.assert_nothing_in_hand();
        }
        couple.setup(&["--provision", "dump"]).ok();
        wait_equal(&couple);
    }
}

#[test]
fn what_fails_at_the_very_end_is_put_back_too() {
    for flavour in flavours() {
        let couple = filled(flavour);
        let before = but_for_transactions(&couple);
        let running = held_at(&couple, "setup-marked", 1000, "dump");
        let journal = std::fs::read_dir(couple.state_dir().join("journal"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .find(|path| path.is_file())
            .unwrap();
        // Its own directory can't be removed.
        let work = couple
            .state_dir()
            .join("work")
            .join(journal.file_stem().unwrap());
        let held = work.join("held");
        let state = SmallState::mount(&held);
        running.wait().expect_code(1);
        drop(state);
        std::fs::remove_dir_all(&work).unwrap();
        assert_eq!(but_for_transactions(&couple), before);
        couple.assert_nothing_in_hand();
    }
}

#[test]
fn a_source_that_hangs_holds_an_interrupted_set_up_for_a_while_only() {
    for flavour in flavours() {
        let couple = filled(flavour);
        let before = but_for_transactions(&couple);
        let running = held_at(&couple, "setup-flowing", 500, "dump");
        couple.source.signal(nix::sys::signal::Signal::SIGSTOP);
        running.signal(nix::sys::signal::Signal::SIGINT);
        let run = running.wait();
        couple.source.signal(nix::sys::signal::Signal::SIGCONT);
        let (kind, message) = run.expect_code(5).error();
        assert_eq!(kind, "needs-operator");
        assert!(message.contains("src"), "{message}");
        assert_eq!(both(&couple).1, before.1, "the replica's part is put back");
        couple.tool.run(&["recover"]).ok();
        assert_eq!(but_for_transactions(&couple), before);
        couple.assert_nothing_in_hand();
    }
}

#[test]
fn a_source_that_dies_holds_up_its_own_part_only_and_nothing_is_undone_twice() {
    let ways = [
        (Flavour::Mysql97, "clone", "setup-cloning"),
        (Flavour::Mysql97, "dump", "setup-flowing"),
        (Flavour::Mariadb, "dump", "setup-flowing"),
    ];
    for (flavour, way, place) in ways {
        if !flavours().contains(&flavour) {
            continue;
        }
        let mut couple = filled(flavour);
        couple.put_under_a_service();
        let before = but_for_transactions(&couple);
        let running = held_at(&couple, place, 800, way);
        couple.source.kill();
        let (kind, message) = running.wait().expect_code(5).error();
        assert_eq!(kind, "needs-operator", "{way}");
        assert!(message.contains("src"), "{way}: {message}");
        assert_eq!(couple.state(&couple.replica), before.1, "{way}");
        // In the meantime somebody goes on with the replica.
        couple.replica.execute("CREATE DATABASE lab");
        couple
            .replica
            .execute("CREATE TABLE lab.kept (id INT PRIMARY KEY)");
        couple.source.restart();
        couple.tool.run(&["recover"]).ok();
        let kept = "SELECT COUNT(*) FROM information_schema.TABLES \
                    WHERE TABLE_SCHEMA = 'lab' AND TABLE_NAME = 'kept'";
        assert_eq!(
            couple.replica.value(kept),
            "1",
            "{way}: it was undone twice"
        );
        assert_eq!(but_for_transactions(&couple).0, before.0, "{way}");
        couple.assert_nothing_in_hand();
    }
}

#[test]
fn a_datajoint_pipeline_runs_through_a_pair() {
    for flavour in flavours() {
        let couple = filled(flavour);
        for statement in [
            "CREATE USER 'lab'@'%' IDENTIFIED BY 'lab at work'",
            "GRANT ALL ON `lab\\_%`.* TO 'lab'@'%'",
        ] {
            couple.source.execute(statement);
        }
        let run = |datajoint: &DataJoint, what: &str, server: &lab::server::Server| {
            let port = server.port.to_string();
            datajoint.said(couple.base(), "pipeline.py", &[what, &port])
        };
        let datajoints = lab::program::datajoints();
        let before: Vec<String> = datajoints
            .iter()
            .map(|own| run(own, "write", &couple.source))
            .collect();
        couple.setup(&["--provision", "dump"]).ok();
        for (datajoint, before) in datajoints.iter().zip(before) {
            assert!(before.lines().count() > 20, "{before}");
            // What comes later goes through the pair that setup made.
            let after = run(datajoint, "extend", &couple.source);
            assert!(after.lines().count() > before.lines().count());
            wait_equal(&couple);
            assert_eq!(run(datajoint, "show", &couple.replica), after);
        }
        couple.assert_equal();
    }
}

fn warnings(report: &serde_json::Value) -> Vec<String> {
    let warnings = report["setup"]["warnings"].as_array().unwrap();
    warnings
        .iter()
        .map(|warning| warning["rule"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn a_locked_source_is_dumped_to_a_replica_without_a_binary_log() {
    for flavour in flavours() {
        let couple = Couple::start_with(flavour, &[], &["--skip-log-bin"]);
        couple.fill(true);
        couple.source.execute("ALTER EVENT lab.e DISABLE");
        couple.source.execute("TRUNCATE lab.t");
        let load = Load::start(&couple.source, Duration::from_millis(5));
        let run = couple.setup(&["--provision", "dump", "--lock-source"]).ok();
        load.stop();
        assert!(warnings(&run.json()).contains(&"not-promotable".to_owned()));
        wait_equal(&couple);
        couple.assert_equal();
        // And put back there, too.
        couple
            .setup_at(
                "setup-positioned=kill",
                &["--provision", "dump", "--replace", "--yes", "--lock-source"],
            )
            .expect_code(-1);
        couple.tool.run(&["recover"]).ok();
        assert_eq!(content(&couple.replica).len(), 0);
    }
}

/// Takes from the tool's account on `server` all but what `grants` prints for it.
fn may_only_what_is_printed(server: &lab::server::Server, couple: &Couple, words: &str) {
    let printed = couple.tool.run(&["grants", "src"]).ok().json();
    let accounts = printed["grants"]["accounts"].as_array().unwrap();
    let is_it = |entry: &&serde_json::Value| entry["for"].as_str().unwrap().contains(words);
    let entry = accounts.iter().find(is_it).unwrap();
    let mut statements =
        vec!["REVOKE ALL PRIVILEGES, GRANT OPTION FROM 'understudy'@'%'".to_owned()];
    let printed = entry["statements"].as_array().unwrap();
    statements.extend(printed.iter().skip(1).map(|one| {
        one.as_str()
            .unwrap()
            .trim_end_matches(';')
            .replace("'understudy_setup'@'localhost'", "'understudy'@'%'")
    }));
    server.execute_unlogged(&statements);
}

/// docs/PAIRS.md says what the account on the source needs.
#[test]
fn the_printed_grants_do() {
    for flavour in flavours() {
        let couple = filled(flavour);
        may_only_what_is_printed(&couple.source, &couple, "this server is the source");
        may_only_what_is_printed(&couple.replica, &couple, "this server is the replica");
        couple.setup(&["--provision", "dump"]).ok();
        wait_equal(&couple);
        couple.assert_equal();
    }
}

/// Its statements are the old ones; no client programs of it are in the lab, so by replication alone.
#[test]
fn makes_a_pair_of_old_servers() {
    let flavour = Flavour::Mysql56;
    if let Some(missing) = flavour.missing() {
        assert!(std::env::var_os("CI").is_none(), "{missing}");
        return;
    }
    let couple = Couple::start(flavour);
    couple.source.drop_anonymous();
    couple.replica.drop_anonymous();
    for statement in lab::load::tables(flavour) {
        couple.source.execute(&statement);
    }
    couple.setup_at("start:in=kill", &[]).expect_code(-1);
    couple.tool.run(&["recover"]).ok();
    assert!(couple.replica.channels().is_empty());
    couple.setup(&[]).ok();
    wait_equal(&couple);
    assert_eq!(couple.replica.value("SELECT @@GLOBAL.read_only"), "1");
    let again = couple.setup(&[]).ok().json();
    assert!(!format!("{:?}", Couple::steps(&again)).contains("changed"));
}

#[test]
fn a_newer_replica_follows_an_older_source_and_not_the_other_way_round() {
    let home = Flavour::Mariadb
        .home()
        .parent()
        .unwrap()
        .join("mariadb-next");
    if !home.join(".complete").exists() {
        assert!(
            std::env::var_os("CI").is_none(),
            "{} is missing",
            home.display()
        );
        eprintln!("\n!!! MariaDB of two versions is SKIPPED: scripts/lab/mysql mariadb-next\n");
        return;
    }
    for provision in ["none", "dump"] {
        let couple = Couple::start_across(Flavour::Mariadb, &[], &[], Some(&home));
        let version = |server: &lab::server::Server| server.value("SELECT @@version");
        assert_ne!(version(&couple.source), version(&couple.replica));
        couple.fill(false);
        couple.source.execute("ALTER EVENT lab.e DISABLE");
        couple.setup(&["--provision", provision]).ok();
        wait_equal(&couple);
        let sums = |server: &lab::server::Server| {
            server
                .rows("CHECKSUM TABLE lab.t, lab.c, lab.audit, lab.ping, `odd ``name`.`t.1`")
                .iter()
                .map(|row| row["checksum"].clone())
                .collect::<Vec<_>>()
        };
        assert_eq!(sums(&couple.replica), sums(&couple.source));
        couple.setup(&["--provision", "snapshot:x"]).ok();
        if provision == "dump" {
            // The other way round, on the same two servers.
            let path = couple.base().join("understudy.toml");
            let text = std::fs::read_to_string(&path).unwrap();
            let turned = text.replace(
                "source = \"src\"\nreplicas = [\"rep\"]",
                "source = \"rep\"\nreplicas = [\"src\"]",
            );
            assert_ne!(text, turned);
            std::fs::write(&path, turned).unwrap();
            let (_, message) = couple.setup(&[]).expect_code(4).error();
            assert!(message.contains("older than its source"), "{message}");
            std::fs::write(&path, text).unwrap();
            let skews = || {
                let status = couple.tool.run(&["status", "lab"]).ok().json();
                status.to_string().contains("pair.version-skew")
            };
            assert!(!skews());
            turn_by_hand(&couple);
            assert!(skews());
        }
    }
}

/// Makes the source follow its replica, as nobody should.
fn turn_by_hand(couple: &Couple) {
    couple.replica.execute("STOP ALL SLAVES");
    couple.replica.execute("RESET SLAVE ALL");
    couple.replica.execute("SET GLOBAL read_only = 0");
    couple
        .replica
        .execute("CREATE USER turned@'127.0.0.1' IDENTIFIED BY 'lab'");
    couple
        .replica
        .execute("GRANT REPLICATION SLAVE ON *.* TO turned@'127.0.0.1'");
    couple.source.execute(&format!(
        "SET GLOBAL gtid_slave_pos = '{}'",
        couple.replica.value("SELECT @@GLOBAL.gtid_binlog_pos")
    ));
    couple.source.execute(&format!(
        "CHANGE MASTER TO MASTER_HOST = '127.0.0.1', MASTER_PORT = {}, MASTER_USER = 'turned', \
         MASTER_PASSWORD = 'lab', MASTER_USE_GTID = slave_pos",
        couple.replica.port
    ));
    couple.source.execute("SET GLOBAL read_only = 1");
    couple.source.execute("START SLAVE");
    eventually(limit(20), "the older one follows", || {
        couple
            .source
            .channels()
            .iter()
            .any(|(_, io, _)| io == "Yes")
    });
}

#[test]
fn a_clone_in_full_flow_is_ended_and_put_back() {
    let flavour = Flavour::Mysql97;
    if !flavours().contains(&flavour) {
        return;
    }
    let mut couple = filled(flavour);
    couple
        .source
        .execute("CREATE TABLE lab.big (id INT PRIMARY KEY, b VARBINARY(16000))");
    let bytes = "CONCAT(RANDOM_BYTES(1000), RANDOM_BYTES(1000), RANDOM_BYTES(1000), \
                 RANDOM_BYTES(1000), REPEAT('x', 12000))";
    for round in 0..12 {
        couple.source.execute(&format!(
            "INSERT INTO lab.big SELECT id + {round} * 10000000, {bytes} FROM lab.t"
        ));
    }
    couple.put_under_a_service();
    let before = both(&couple);
    let clones = "SELECT COUNT(*) FROM information_schema.PROCESSLIST \
                  WHERE INFO LIKE 'CLONE INSTANCE%'";
    // A donor that was left while it sent waits five minutes for its receiver.
    let sending = "SELECT COUNT(*) FROM information_schema.PROCESSLIST \
                   WHERE USER = 'understudy_clone' AND COMMAND = 'clone'";
    for (signal, after_ms) in [
        (nix::sys::signal::Signal::SIGKILL, 0),
        (nix::sys::signal::Signal::SIGINT, 0),
        (nix::sys::signal::Signal::SIGINT, 15),
        (nix::sys::signal::Signal::SIGINT, 30),
    ] {
        let running = couple
            .tool
            .spawn(&["setup", "lab", "--provision", "clone"], &[]);
        eventually(limit(60), "the clone runs", || {
            couple.replica.value(clones) == "1" && couple.source.value(sending) != "0"
        });
        std::thread::sleep(Duration::from_millis(after_ms));
        running.signal(signal);
        match signal {
            nix::sys::signal::Signal::SIGINT => drop(running.wait().expect_code(1)),
            _ => {
                running.wait().expect_code(-1);
                couple.tool.run(&["recover"]).ok();
            }
        }
        assert_eq!(both(&couple), before, "{signal}");
        couple.assert_nothing_in_hand();
    }
    couple.setup(&["--provision", "clone"]).ok();
    wait_equal(&couple);
    couple.assert_equal();
}
