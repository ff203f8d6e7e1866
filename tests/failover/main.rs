//! Moving roles, on real pairs and trios: each test is a story. Given, fault, when, expect.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod channels;
#[expect(
    dead_code,
    reason = "shared with the other integration tests, which use other parts"
)]
#[path = "../lab/mod.rs"]
mod lab;
mod look;
mod salvage;
mod semi_sync;
mod stories;
mod told;

use lab::program;
use lab::server::{Flavour, flavours};
use lab::trio::{Trio, Watch, Writer};
use lab::walk;
use serde_json::json;

/// Given a trio and a client that writes without a pause, when roles move there and back, expect that
/// nothing acknowledged is lost, that two are never writable, and that everybody follows.
#[test]
fn switches_over_and_back_under_load() {
    for flavour in flavours() {
        let trio = Trio::start(flavour, 3);
        let watch = Watch::start(&trio);
        let writer = Writer::start(&trio, 0);
        writer.wait_more(50);
        let planned = trio
            .tool
            .run(&["switchover", "lab", "--to", "b", "--dry-run"])
            .ok()
            .json();
        assert_eq!(planned["failover"]["new_source"], "b");
        assert!(trio.is_writable("a"));
        for (to, others) in [("b", ["a", "c"]), ("c", ["a", "b"]), ("a", ["b", "c"])] {
            let report = trio.switchover(to).ok().json()["failover"].clone();
            assert_eq!(report["result"], "done", "{report}");
            assert_eq!(report["new_source"], to);
            assert_eq!(report["lost"]["transactions"], 0);
            assert_eq!(report["repointed"].as_array().unwrap().len(), 2, "{report}");
            let outage = report["write_outage_ms"].as_u64().unwrap();
            assert!(outage < 5000, "{report}");
            eprintln!(
                "{} to {to}: nobody could write for {outage} ms",
                flavour.name()
            );
            writer.wait_more(50);
            let _ = others;
        }
        let (acknowledged, gap) = writer.end();
        watch.end();
        eprintln!("{}: the client's longest gap {gap:?}", flavour.name());
        trio.assert_source("a", &["b", "c"]);
        for id in acknowledged {
            assert!(trio.has("a", id), "{id} was acknowledged and is lost");
        }
        let status = trio.status();
        assert_eq!(status["pairs"][0]["source"], "a", "{status}");
    }
}

/// Given a pair, when the tool is killed at any place of a switchover, the recovery after each of its
/// acts as well, expect roles as before or as after.
#[test]
fn a_killed_switchover_is_undone_or_carried_through() {
    for flavour in flavours() {
        let trio = Trio::start(flavour, 2);
        trio.switchover("b").ok();
        trio.switchover("a").ok();
        let inside: (&[&str], &[&str]) = (&["fence:in", "wait:in"], &["open:in"]);
        let (mut from, mut to) = ("a", "b");
        for place in walk::places(&trio.state_dir(), "switchover-", inside) {
            let args = ["switchover", "lab", "--to", to, "--yes"];
            let watch = Watch::start(&trio);
            if !place.kill(&trio.tool, &args) {
                panic!("{place:?} isn't there");
            }
            place.recover(&trio.tool);
            watch.end();
            if place.committed {
                std::mem::swap(&mut from, &mut to);
            }
            eprintln!("{}: killed at {}", flavour.name(), place.name);
            trio.assert_source(from, &[to]);
        }
    }
}

/// Given a trio under load, when its source is killed and a failover asked for, expect that it is
/// refused until somebody says that the source stays off; then that what any replica had is there,
/// that a receipt is kept, and that the old source comes back closed.
#[test]
fn fails_over_from_a_dead_source_and_takes_it_back() {
    for flavour in flavours() {
        let mut trio = Trio::start(flavour, 3);
        let refused = trio.failover(&["--unfenced"]).expect_code(4).error();
        assert!(refused.1.contains("answers"), "{refused:?}");
        let writer = Writer::start(&trio, 0);
        writer.wait_more(100);
        trio.servers[0].kill();
        let (_, message) = trio.failover(&[]).expect_code(4).error();
        assert!(message.contains("can't be reached"), "{message}");
        assert!(!trio.is_writable("b") && !trio.is_writable("c"));
        let planned = trio.failover(&["--dry-run"]).ok().json();
        assert_eq!(planned["failover"]["old_source"], "a");
        let report = trio.failover(&["--unfenced"]).ok().json()["failover"].clone();
        assert_eq!(report["result"], "done", "{report}");
        assert_eq!(report["lost"]["known"], true, "{report}");
        let source = report["new_source"].as_str().unwrap().to_owned();
        let other = if source == "b" { "c" } else { "b" };
        writer.wait_more(50);
        let (acknowledged, _) = writer.end();
        trio.assert_source(&source, &[other]);
        let missing = acknowledged.iter().filter(|id| !trio.has(&source, **id));
        let missing = u64::try_from(missing.count()).unwrap();
        // One may have been written that nobody was told of any more.
        let lost = report["lost"]["transactions"].as_u64().unwrap();
        assert!(
            (missing..=missing + 1).contains(&lost),
            "{missing} missing: {report}"
        );
        let (_, message) = trio.failover(&["--unfenced"]).expect_code(4).error();
        assert!(
            message.contains("last failover") || message.contains("answers"),
            "{message}"
        );

        // It comes back, and takes writes as its option file says.
        trio.servers[0].spawn();
        trio.servers[0].wait_ready();
        assert!(trio.is_writable("a"));
        let run = trio.tool.run(&["rejoin", "a"]);
        assert!(!trio.is_writable("a"), "closed whatever comes then");
        if run.code() == 0 {
            trio.assert_source(&source, &[other, "a"]);
        } else {
            // What it had sent to nobody.
            let (_, message) = run.expect_code(4).error();
            assert!(message.contains("transactions that"), "{message}");
        }
    }
}

/// Given a pair at rest whose source is killed, when the failover is killed at any place, expect it
/// undone or carried through; and the old source, with nothing of its own, rejoins.
#[test]
fn a_killed_failover_is_undone_or_carried_through() {
    for flavour in flavours() {
        let mut trio = Trio::start(flavour, 2);
        let args = [
            "failover",
            "lab",
            "--unfenced",
            "--confirm",
            "0s",
            "--again",
            "--yes",
        ];
        let mut places = None;
        let mut turn = 0;
        loop {
            let (from, to) = [("a", "b"), ("b", "a")][turn % 2];
            trio.wait_same(from, to);
            // What it never sent is brought in from its binary logs.
            let stop = flavour.replica_statement("STOP", "IO_THREAD", "");
            trio.server(to).execute(&stop);
            let unsent = 1_000_000 * (1 + u64::try_from(turn).unwrap());
            let insert = format!("INSERT INTO lab.w VALUES ({unsent})");
            trio.server(from).execute(&insert);
            trio.kill(from);
            match &mut places {
                None => {
                    trio.tool.run(&args).ok();
                    let all = walk::places(
                        &trio.state_dir(),
                        "failover-",
                        (&[], &["bring:after", "open:in"]),
                    );
                    places = Some(all.into_iter());
                }
                Some(places) => {
                    let Some(place) = places.next() else { break };
                    assert!(place.kill(&trio.tool, &args), "{place:?} isn't there");
                    place.recover(&trio.tool);
                    eprintln!("{}: killed at {}", flavour.name(), place.name);
                    assert_eq!(trio.is_writable(to), place.committed, "{place:?}");
                    if !place.committed {
                        assert_eq!(
                            trio.status()["pairs"][0]["receipts"],
                            json!([]),
                            "{place:?}"
                        );
                        trio.tool.run(&args).ok();
                    }
                }
            }
            trio.assert_source(to, &[]);
            assert!(trio.has(to, unsent));
            trio.revive(from);
            trio.tool.run(&["rejoin", from]).ok();
            trio.assert_source(to, &[from]);
            turn += 1;
        }
    }
}

#[test]
fn repoints_a_replica_and_back() {
    for flavour in flavours() {
        let trio = Trio::start(flavour, 3);
        trio.servers[0].execute("INSERT INTO lab.w VALUES (1)");
        trio.assert_source("a", &["b", "c"]);
        trio.tool.run(&["repoint", "c", "--to", "b"]).ok();
        trio.servers[0].execute("INSERT INTO lab.w VALUES (2)");
        lab::eventually(lab::limit(20), "it comes through b", || trio.has("c", 2));
        assert!(trio.follows("c", "b"));
        let (_, message) = trio
            .tool
            .run(&["repoint", "b", "--to", "c"])
            .expect_code(4)
            .error();
        assert!(message.contains("each other"), "{message}");
        trio.tool.run(&["repoint", "c", "--to", "a"]).ok();
        trio.assert_source("a", &["b", "c"]);
        trio.tool.run(&["repoint", "c", "--to", "c"]).expect_code(4);
        trio.tool.run(&["repoint", "a", "--to", "b"]).expect_code(4);
    }
}

/// What stands against it is said, with exit 4, and nothing is changed.
#[test]
fn refuses_what_would_go_wrong() {
    for flavour in flavours() {
        let trio = Trio::start(flavour, 3);
        let refused = |args: &[&str], word: &str| {
            let run = trio.tool.run(&[args, &["--yes"]].concat()).expect_code(4);
            let (_, message) = run.error();
            assert!(message.contains(word), "{args:?}: {message}");
            trio.assert_source("a", &["b", "c"]);
        };
        refused(&["switchover", "lab", "--to", "a"], "is the source already");
        refused(
            &["switchover", "lab", "--to", "d"],
            "isn't a server of this pair",
        );
        refused(&["rejoin", "a"], "which server");
        trio.tool
            .run(&["switchover", "nopair", "--yes"])
            .expect_code(2);

        // A delayed one is no candidate; another one is.
        trio.set_delay("b", 3600);
        refused(&["switchover", "lab", "--to", "b"], "behind on purpose");
        let planned = trio
            .tool
            .run(&["switchover", "lab", "--dry-run"])
            .ok()
            .json();
        assert_eq!(planned["failover"]["new_source"], "c", "{planned}");
        trio.set_delay("b", 0);

        // One that somebody wrote to.
        trio.write_at("c", "CREATE DATABASE stray");
        let errant = ["switchover", "lab", "--to", "c", "--yes"];
        let (_, message) = trio.tool.run(&errant).expect_code(4).error();
        assert!(message.contains("transactions of its own"), "{message}");

        // Two that can be written to: never chosen between.
        trio.server("c").execute("SET GLOBAL read_only = OFF");
        for command in ["switchover", "failover"] {
            let run = trio.tool.run(&[command, "lab", "--yes"]).expect_code(4);
            let (_, message) = run.error();
            assert!(message.contains("can all be written to"), "{message}");
        }
    }
}

/// Given a table lock that an idle client holds, when the fence can't be had in time, expect that it
/// is taken away: clients write on the old source as before.
#[test]
fn takes_the_fence_away_when_it_cannot_be_had() {
    for flavour in flavours() {
        let trio = Trio::start(flavour, 2);
        let mut holder = trio.server("a").connect();
        lab::server::try_rows(&mut holder, "LOCK TABLES lab.w WRITE").unwrap();
        let run = trio.switchover("b");
        if run.code() != 0 {
            run.expect_code(1);
            assert!(trio.is_writable("a") && !trio.is_writable("b"));
            lab::server::try_rows(&mut holder, "UNLOCK TABLES").unwrap();
            trio.assert_source("a", &["b"]);
            trio.switchover("b").ok();
        }
        trio.assert_source("b", &["a"]);
    }
}

/// Given enabled events on the source, when roles move there and back, and when it dies, expect that
/// they are enabled on the source alone, each time; and that a disabled one stays so.
#[test]
fn events_run_on_the_source_alone() {
    for flavour in flavours() {
        let mut trio = Trio::start(flavour, 2);
        trio.server("a").execute(
            "CREATE EVENT lab.tick ON SCHEDULE EVERY 1 HOUR DO INSERT IGNORE INTO lab.w VALUES (1)",
        );
        trio.server("a").execute(
            "CREATE EVENT lab.off ON SCHEDULE EVERY 1 HOUR DISABLE DO INSERT INTO lab.w VALUES (2)",
        );
        let state = |trio: &Trio, name: &str| {
            trio.server(name).value(
                "SELECT GROUP_CONCAT(CONCAT(EVENT_NAME, ' ', STATUS, ' ', DEFINER, ' ', SQL_MODE) \
                 ORDER BY 1) FROM information_schema.EVENTS WHERE EVENT_NAME = 'tick'",
            )
        };
        let before = state(&trio, "a");
        assert!(before.contains("tick ENABLED"), "{before}");
        for (to, from) in [("b", "a"), ("a", "b")] {
            trio.switchover(to).ok();
            trio.assert_source(to, &[from]);
            assert_eq!(state(&trio, to), before, "on the source");
            let running = "SELECT COUNT(*) FROM information_schema.EVENTS WHERE STATUS = 'ENABLED'";
            assert_eq!(trio.server(to).value(running), "1", "on the source");
            assert_eq!(trio.server(from).value(running), "0", "on the replica");
        }
        trio.status();
        trio.kill("a");
        trio.failover(&["--unfenced"]).ok();
        let running = "SELECT COUNT(*) FROM information_schema.EVENTS WHERE STATUS = 'ENABLED'";
        assert_eq!(state(&trio, "b"), before, "after a failover");
        assert_eq!(trio.server("b").value(running), "1", "after a failover");
    }
}

/// Given a pause by hand on the candidate, when roles are to move, expect that it is ended and that
/// they move; and given another tool at it, exit 6.
#[test]
fn ends_a_pause_and_waits_for_nobody() {
    for flavour in flavours() {
        let trio = Trio::start(flavour, 2);
        trio.tool.run(&["pause", "b", "--for", "5m"]).ok();
        // What would keep it from being looked at as a candidate is ours.
        let args = ["switchover", "lab", "--to", "b", "--yes"];
        let run = trio.tool.run(&args);
        if run.code() != 0 {
            let (_, message) = run.expect_code(4).error();
            assert!(message.contains("applier"), "{message}");
            trio.tool.run(&["resume", "b"]).ok();
            trio.tool.run(&args).ok();
        }
        trio.assert_source("b", &["a"]);
        let back = ["switchover", "lab", "--to", "a", "--yes"];
        let mut first = trio.tool.spawn_at("approach:before=sleep:2000", &back);
        first.wait_at("approach:before");
        trio.tool.run(&back).expect_code(6);
        first.wait().ok();
        trio.assert_source("a", &["b"]);
    }
}

/// Given clients behind a real HAProxy and a file that names their server, when roles move, expect
/// both to lead to the new source.
#[test]
fn clients_are_led_to_the_new_source() {
    for flavour in flavours() {
        let mut trio = Trio::start(flavour, 2);
        let base = trio.tool.base.clone();
        let port = {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            listener.local_addr().unwrap().port()
        };
        let [a, b] = ["a", "b"].map(|name| trio.server(name).port);
        let text = format!(
            "global\n stats socket {0}/admin.sock level admin\n\
             defaults\n mode tcp\n timeout connect 2s\n timeout client 1h\n timeout server 1h\n\
             frontend clients\n bind 127.0.0.1:{port}\n default_backend one\n\
             backend one\n server current 127.0.0.1:{a}\n",
            base.display()
        );
        let config = base.join("haproxy.cfg");
        program::write(&config, &text, 0o600);
        let args = ["-db", "-f", config.to_str().unwrap()];
        let haproxy = program::lab_program("haproxy");
        let _process = program::start(&haproxy, &args, &base.join("haproxy.log"));
        lab::eventually(lab::limit(10), "HAProxy", || {
            std::os::unix::net::UnixStream::connect(base.join("admin.sock")).is_ok()
        });
        let file = base.join("dj_local_conf.json");
        let text = format!("{{\"database.host\": \"127.0.0.1\", \"database.port\": {a}}}");
        program::write(&file, &text, 0o640);
        trio.more = format!(
            "[[pair.lab.reroute]]\nway = \"haproxy\"\nsocket = \"{0}/admin.sock\"\nbackend = \"one\"\n\
             server = \"current\"\nthrough = \"127.0.0.1:{port}\"\n\
             [[pair.lab.reroute]]\nway = \"file\"\npath = \"{1}\"\nformat = \"json\"\n\
             key = \"database.host\"\nport_key = \"database.port\"\n",
            base.display(),
            file.display()
        );
        trio.configure();
        let report = trio.switchover("b").ok().json()["failover"].clone();
        assert_eq!(report["result"], "done", "{report}");
        let steps = report["steps"].to_string();
        assert!(steps.contains("reached through"), "{steps}");
        trio.assert_source("b", &["a"]);
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(text.contains(&b.to_string()), "{text}");

        // A way that can't be: refused before anything moves.
        trio.more = trio.more.replace("dj_local_conf", "nowhere");
        trio.configure();
        let run = trio.switchover("a");
        assert!(matches!(run.code(), 3 | 4), "{run:?}");
        trio.assert_source("b", &["a"]);
    }
}

/// For `scripts/bench failover`: switchovers under a load that the replica can follow, beside the bare
/// statements on open connections of the same pair, by turns. From the last accepted write on the one
/// server to the first on the other, in ms; and the gap that the client saw.
#[test]
#[ignore = "a measurement, run by scripts/bench failover"]
fn measures_switchovers() {
    let rounds: usize = std::env::var("UNDERSTUDY_BENCH_ROUNDS").map_or(10, |n| n.parse().unwrap());
    for flavour in flavours() {
        let trio = Trio::start(flavour, 2);
        let (mut from, mut to) = ("a", "b");
        let (mut ours, mut bare, mut gaps) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..rounds {
            let writer = Writer::start(&trio, trio.highest(from));
            writer.wait_more(100);
            let report = trio.switchover(to).ok().json()["failover"].clone();
            writer.wait_more(100);
            let (_, gap) = writer.end();
            ours.push(report["write_outage_ms"].as_f64().unwrap());
            gaps.push(gap.as_secs_f64() * 1000.0);
            std::mem::swap(&mut from, &mut to);
            trio.assert_source(from, &[to]);
            // Never to the other one, which is open for a moment only.
            let writer = Writer::start_at(&[from], &trio, trio.highest(from));
            writer.wait_more(100);
            bare.push(trio.switch_bare(from, to).as_secs_f64() * 1000.0);
            writer.end();
        }
        for (what, mut all) in [("ours", ours), ("bare", bare), ("client's gap", gaps)] {
            all.sort_by(f64::total_cmp);
            println!(
                "{} {what}: median {:.1} ms, {:.1} to {:.1}, {} rounds",
                flavour.name(),
                all[all.len() / 2],
                all[0],
                all[all.len() - 1],
                all.len()
            );
        }
    }
}

/// For `scripts/bench failover`: from the command to its end, the source killed, nothing to be applied,
/// `--confirm 0s`.
#[test]
#[ignore = "a measurement, run by scripts/bench failover"]
fn measures_failovers() {
    let rounds: usize = std::env::var("UNDERSTUDY_BENCH_ROUNDS").map_or(10, |n| n.parse().unwrap());
    for flavour in flavours() {
        let mut trio = Trio::start(flavour, 2);
        let args = [
            "failover",
            "lab",
            "--unfenced",
            "--confirm",
            "0s",
            "--again",
            "--yes",
        ];
        let (mut from, mut to) = ("a", "b");
        let mut all = Vec::new();
        for _ in 0..rounds.min(10) {
            trio.wait_same(from, to);
            trio.kill(from);
            let run = trio.tool.run(&args).ok();
            all.push(run.took.as_secs_f64() * 1000.0);
            trio.revive(from);
            trio.tool.run(&["rejoin", from]).ok();
            std::mem::swap(&mut from, &mut to);
        }
        all.sort_by(f64::total_cmp);
        println!(
            "{} failover: median {:.0} ms, {:.0} to {:.0}, {} rounds",
            flavour.name(),
            all[all.len() / 2],
            all[0],
            all[all.len() - 1],
            all.len()
        );
    }
}

/// Given a switchover whose source is closed, when the candidate or the source dies or hangs at that
/// moment, expect that clients write on the old source again as soon as it is there.
#[test]
fn a_server_that_dies_in_the_moment_leaves_the_old_source_as_it_was() {
    use nix::sys::signal::Signal;
    let args = ["switchover", "lab", "--to", "b", "--yes"];
    for flavour in flavours() {
        let mut trio = Trio::start(flavour, 2);
        let mut run = trio.tool.spawn_at("fence:in=sleep:1500", &args);
        run.wait_at("fence:in");
        trio.kill("b");
        run.wait().expect_code(1);
        assert!(trio.is_writable("a"), "the candidate was killed");
        trio.revive("b");
        trio.close_again("b");
        trio.assert_source("a", &["b"]);

        let mut run = trio.tool.spawn_at("fence:in=sleep:1500", &args);
        run.wait_at("fence:in");
        trio.server("b").signal(Signal::SIGSTOP);
        let run = run.wait();
        trio.server("b").signal(Signal::SIGCONT);
        run.expect_code(1);
        assert!(trio.is_writable("a"), "the candidate hung");
        trio.assert_source("a", &["b"]);

        let mut run = trio.tool.spawn_at("fence:in=sleep:1500", &args);
        run.wait_at("fence:in");
        trio.kill("a");
        run.wait().expect_code(5);
        assert!(!trio.is_writable("b"), "the source was killed");
        trio.revive("a");
        trio.tool.run(&["recover"]).ok();
        trio.assert_source("a", &["b"]);
    }
}

/// Given a client with all privileges that writes in a loop, when roles move, expect that the old
/// source takes nothing of it unseen: MySQL holds it, MariaDB's read_only doesn't, and that is told.
#[test]
fn a_client_with_all_privileges_is_held_or_told() {
    for flavour in flavours() {
        let trio = Trio::start(flavour, 2);
        trio.server("a")
            .execute("GRANT ALL PRIVILEGES ON *.* TO 'writer'@'%'");
        let writer = Writer::start(&trio, 0);
        writer.wait_more(50);
        let run = trio.switchover("b");
        let (_, _) = writer.end();
        let code = run.code();
        let errant = trio.status().to_string();
        let strayed = errant.contains("replica.errant-gtids");
        match code {
            0 => assert!(!strayed, "unseen: {errant}"),
            5 => {
                assert!(flavour.is_mariadb(), "MySQL holds everybody");
                assert!(run.stdout.contains("transactions of its own"), "{run:?}");
            }
            _ => panic!("{run:?}"),
        }
    }
}

/// Given a replica that is to be turned, and one that lost its link and is open, when the command is
/// killed at any place, expect it where it was or where it should be; a second try ends it.
#[test]
fn a_killed_repoint_or_rejoin_is_undone_or_carried_through() {
    for flavour in flavours() {
        let trio = Trio::start(flavour, 3);
        let turn = ["repoint", "c", "--to", "b"];
        trio.tool.run(&turn).ok();
        trio.tool.run(&["repoint", "c", "--to", "a"]).ok();
        for place in walk::places(&trio.state_dir(), "repoint-", (&[], &[])) {
            assert!(place.kill(&trio.tool, &turn), "{place:?} isn't there");
            place.recover(&trio.tool);
            trio.assert_source("a", &["b", "c"]);
        }

        let open = || {
            let server = trio.server("b");
            let word = if flavour.is_mariadb() {
                "SLAVE"
            } else {
                "REPLICA"
            };
            server.execute(&format!("STOP {word}"));
            server.execute(&format!("RESET {word} ALL"));
            if !flavour.is_mariadb() {
                server.execute("SET GLOBAL super_read_only = OFF");
            }
            server.execute("SET GLOBAL read_only = OFF");
        };
        open();
        trio.tool.run(&["rejoin", "b"]).ok();
        for place in walk::places(&trio.state_dir(), "rejoin-", (&[], &[])) {
            open();
            assert!(
                place.kill(&trio.tool, &["rejoin", "b"]),
                "{place:?} isn't there"
            );
            place.recover(&trio.tool);
            if !place.committed {
                trio.tool.run(&["rejoin", "b"]).ok();
            }
            trio.assert_source("a", &["b", "c"]);
        }
    }
}

/// Given a trio whose configuration says who may become the source, when roles move, expect that it
/// is kept to: equals by `prefer`, nobody of `never`, and those turned that weren't chosen.
#[test]
fn chooses_as_the_configuration_says() {
    for flavour in flavours() {
        let mut trio = Trio::start(flavour, 3);
        let configure = |trio: &mut Trio, lines: &str| {
            trio.more = format!("[pair.lab.failover]\nconfirm = \"1s\"\n{lines}\n");
            trio.configure();
        };
        let chosen = |trio: &Trio, command: &str| {
            let run = trio.tool.run(&[command, "lab", "--dry-run"]).ok();
            run.json()["failover"]["new_source"].clone()
        };
        let refused = |trio: &Trio, args: &[&str], word: &str| {
            let run = trio.tool.run(&[args, &["--yes"]].concat()).expect_code(4);
            let (_, message) = run.error();
            assert!(message.contains(word), "{args:?}: {message}");
        };
        assert_eq!(chosen(&trio, "switchover"), "b");
        configure(&mut trio, "prefer = [\"c\"]");
        assert_eq!(chosen(&trio, "switchover"), "c");
        configure(&mut trio, "never = [\"b\"]");
        assert_eq!(chosen(&trio, "switchover"), "c");
        let to_b = ["switchover", "lab", "--to", "b"];
        refused(&trio, &to_b, "b never becomes the source");

        trio.wait_same("a", "b");
        trio.wait_same("a", "c");
        trio.kill("a");
        let to_b = ["failover", "lab", "--unfenced", "--to", "b"];
        refused(&trio, &to_b, "b never becomes the source");
        configure(&mut trio, "");
        assert_eq!(chosen(&trio, "failover"), "b");
        configure(&mut trio, "prefer = [\"c\"]");
        assert_eq!(chosen(&trio, "failover"), "c");
        configure(&mut trio, "never = [\"b\"]");
        let since = std::time::Instant::now();
        let run = trio.tool.run(&["failover", "lab", "--unfenced", "--yes"]);
        let report = run.ok().json()["failover"].clone();
        assert!(
            since.elapsed() < std::time::Duration::from_secs(5),
            "{report}"
        );
        assert_eq!(report["repointed"], serde_json::json!(["b"]), "{report}");
        trio.assert_source("c", &["b"]);

        // The next one, while `a` is still away.
        trio.wait_same("c", "b");
        trio.kill("c");
        configure(&mut trio, "cooldown = \"1h\"");
        refused(&trio, &["failover", "lab", "--unfenced"], "last failover");
        configure(&mut trio, "cooldown = \"1ms\"");
        trio.failover(&["--unfenced", "--to", "b"]).ok();
        assert!(trio.is_writable("b"));
    }
}

/// Given a trio at rest whose source is killed, when one is named, expect that the other follows it.
#[test]
fn turns_the_one_that_was_not_named() {
    for flavour in flavours() {
        let mut trio = Trio::start(flavour, 3);
        trio.wait_same("a", "b");
        trio.wait_same("a", "c");
        trio.kill("a");
        trio.failover(&["--unfenced", "--to", "c"]).ok();
        trio.assert_source("c", &["b"]);
    }
}

/// Given a fence program in the configuration, when it fails, isn't there, or says what isn't so,
/// expect a refusal with its words and everything as before. When it turns the hung source off, expect
/// that a failover needs no --unfenced, and that two are never writable.
#[test]
fn a_fence_turns_the_hung_source_off() {
    for flavour in flavours() {
        let mut trio = Trio::start(flavour, 2);
        let script = trio.tool.base.join("fence");
        let seen = trio.tool.base.join("fenced");
        trio.more = format!(
            "[pair.lab.failover]\nconfirm = \"1s\"\nfence = [{:?}, \"now\"]\n",
            script.display().to_string()
        );
        trio.configure();
        let args = ["failover", "lab", "--yes"];
        let refused = |trio: &Trio, word: &str| {
            let (_, message) = trio.tool.run(&args).expect_code(4).error();
            assert!(message.contains(word), "{message}");
            assert!(!trio.is_writable("b"), "{word}");
        };
        trio.wait_same("a", "b");
        trio.kill("a");
        refused(&trio, "isn't there");
        program::write(
            &script,
            "#!/bin/sh\necho no power switch >&2\nexit 3\n",
            0o700,
        );
        refused(&trio, "(no power switch)");
        let planned = trio.tool.run(&["failover", "lab", "--dry-run"]).ok().stdout;
        assert!(planned.contains("switches a off"), "{planned}");
        trio.revive("a");
        trio.assert_source("a", &["b"]);

        if flavour.is_mariadb() {
            // Each look at a hung server takes its time; it is the same code for both.
            trio.server("a").signal(nix::sys::signal::Signal::SIGSTOP);
            program::write(&script, "#!/bin/sh\nexit 0\n", 0o700);
            refused(&trio, "still listens");
            trio.server("a").signal(nix::sys::signal::Signal::SIGCONT);
            trio.assert_source("a", &["b"]);
        }
        trio.wait_same("a", "b");

        let watch = Watch::start(&trio);
        trio.server("a").signal(nix::sys::signal::Signal::SIGSTOP);
        let text = format!(
            "#!/bin/sh\necho \"$1 $UNDERSTUDY_PAIR $UNDERSTUDY_SERVER $UNDERSTUDY_ADDRESS\" > {}\n\
             kill -9 {}\necho the outlet is dark\n",
            seen.display(),
            trio.server("a").pid()
        );
        program::write(&script, &text, 0o700);
        let report = trio.tool.run(&args).ok().json()["failover"].clone();
        assert_eq!(report["result"], "done", "{report}");
        assert!(
            report["steps"].to_string().contains("the outlet is dark"),
            "{report}"
        );
        let told = std::fs::read_to_string(&seen).unwrap();
        let port = trio.server("a").port;
        assert_eq!(told, format!("now lab a 127.0.0.1:{port}\n"));
        trio.assert_source("b", &[]);
        trio.kill("a");
        watch.end();
        trio.revive("a");
        trio.tool.run(&["rejoin", "a"]).ok();
        trio.assert_source("b", &["a"]);
    }
}

/// Given a source that is killed with transactions that it sent to nobody, when its binary logs can be
/// read here, expect that the receipt counts them, that they are kept as SQL, and that a limit holds.
#[test]
fn tells_what_was_lost_and_keeps_it() {
    use std::os::unix::fs::PermissionsExt;
    for flavour in flavours() {
        let mut trio = Trio::start(flavour, 2);
        trio.status();
        // Relay logs of a time when it was a replica are none of its own.
        trio.switchover("b").ok();
        trio.switchover("a").ok();
        trio.wait_same("a", "b");
        let stop = flavour.replica_statement("STOP", "IO_THREAD", "");
        trio.server("b").execute(&stop);
        for id in 101..104 {
            trio.server("a")
                .execute(&format!("INSERT INTO lab.w VALUES ({id})"));
        }
        trio.kill("a");
        let refused = trio
            .failover(&["--unfenced", "--no-salvage", "--max-loss", "2"])
            .expect_code(4);
        let (_, message) = refused.error();
        assert!(
            message.contains("3 transactions would be lost"),
            "{message}"
        );
        assert!(!trio.is_writable("b"));
        let kept = |name: &std::ffi::OsStr| name.to_string_lossy().contains(".sql");
        let left = std::fs::read_dir(trio.state_dir().join("receipts")).unwrap();
        assert!(
            !left
                .into_iter()
                .any(|entry| kept(&entry.unwrap().file_name()))
        );

        let report = trio
            .failover(&["--unfenced", "--no-salvage", "--max-loss", "3"])
            .ok()
            .json();
        let lost = report["failover"]["lost"].clone();
        assert_eq!(lost["known"], true, "{report}");
        assert_eq!(lost["transactions"], 3, "{report}");
        let export = std::path::PathBuf::from(lost["export"].as_str().unwrap());
        assert_eq!(
            export.metadata().unwrap().permissions().mode() & 0o777,
            0o600
        );
        let text = std::fs::read_to_string(&export).unwrap();
        let gtid = lost["gtid"].as_str().unwrap();
        let receipt = std::fs::read_to_string(export.with_extension("json")).unwrap();
        assert!(receipt.contains(gtid), "{receipt}");
        assert!(!trio.has("b", 101));
        if flavour.is_mariadb() {
            assert!(text.contains(gtid), "{text}");
            continue;
        }
        let command = format!(
            "{} --no-defaults -uroot -S {} < {}",
            trio.server("b").program.with_file_name("mysql").display(),
            trio.server("b").socket().display(),
            export.display()
        );
        lab::sh(&["sh", "-c", &command]);
        assert!((101..104).all(|id| trio.has("b", id)));
        trio.revive("a");
        trio.tool.run(&["rejoin", "a"]).ok();
        trio.assert_source("b", &["a"]);
        assert!(export.exists());
    }
}

/// Given a switchover past its commit, when the candidate dies before it is opened, or the tool and
/// then the old source do, expect that `recover` opens the candidate, and that the other one is closed.
#[test]
fn what_dies_between_commit_and_opening_leaves_one_source() {
    let args = ["switchover", "lab", "--to", "b", "--yes"];
    for flavour in flavours() {
        let mut trio = Trio::start(flavour, 2);
        let mut run = trio.tool.spawn_at("commit:after=sleep:1500", &args);
        run.wait_at("commit:after");
        trio.kill("b");
        run.wait().expect_code(5);
        assert!(!trio.is_writable("a"));
        trio.revive("b");
        trio.tool.run(&["recover"]).ok();
        trio.assert_source("b", &["a"]);

        let back = ["switchover", "lab", "--to", "a", "--yes"];
        trio.tool.run_at("commit:after=kill", &back).expect_code(-1);
        trio.kill("b");
        trio.revive("b");
        let watch = Watch::start(&trio);
        trio.tool.run(&["recover"]).ok();
        watch.end();
        trio.assert_source("a", &["b"]);
    }
}

/// Given roles that have moved, when both servers restart, expect them as they were left: MySQL keeps
/// that by itself.
#[test]
fn roles_outlive_a_restart_where_the_server_can_keep_them() {
    let flavour = Flavour::Mysql97;
    if !flavours().contains(&flavour) {
        return;
    }
    // Servers of the lab start with --no-defaults, which leaves what is persisted unread.
    let trio = Trio::start(flavour, 2);
    let kept = "SELECT COUNT(*) FROM performance_schema.persisted_variables \
                WHERE VARIABLE_NAME IN ('read_only', 'super_read_only') AND VARIABLE_VALUE = 'ON'";
    for (to, from) in [("b", "a"), ("a", "b")] {
        trio.switchover(to).ok();
        assert_eq!(trio.server(to).value(kept), "0", "{to} would start closed");
        assert_eq!(
            trio.server(from).value(kept),
            "2",
            "{from} would start open"
        );
    }
}

/// Given a state directory that is full when roles are to be committed, expect that they don't move,
/// and that a later `recover` doesn't think so either.
#[test]
fn a_full_disk_at_the_commit_leaves_roles_as_they_were() {
    for flavour in flavours() {
        let trio = Trio::start(flavour, 2);
        // So many that what remains doesn't fit into what is left of the journal's last page.
        for number in 0..30 {
            trio.server("a").execute(&format!(
                "CREATE EVENT lab.e{number} ON SCHEDULE EVERY 1 HOUR DO INSERT IGNORE INTO lab.w VALUES (1)"
            ));
        }
        let state = trio.state_dir();
        let aside = trio.tool.base.join("aside");
        let copy = |from: &std::path::Path, to: &std::path::Path| {
            lab::sh(&[
                "cp",
                "-a",
                &format!("{}/.", from.display()),
                &to.display().to_string(),
            ]);
        };
        std::fs::create_dir(&aside).unwrap();
        copy(&state, &aside);
        let small = lab::small_state::SmallState::mount(&state);
        copy(&aside, &state);
        let args = ["switchover", "lab", "--to", "b", "--yes"];
        let mut run = trio.tool.spawn_at("wait:in=sleep:1000", &args);
        run.wait_at("wait:in");
        small.fill();
        let run = run.wait();
        assert!(matches!(run.code(), 1 | 5), "{run:?}");
        assert!(trio.is_writable("a") && !trio.is_writable("b"));
        small.empty();
        trio.tool.run(&["recover"]).ok();
        trio.assert_source("a", &["b"]);
        trio.switchover("b").ok();
        trio.assert_source("b", &["a"]);
    }
}
