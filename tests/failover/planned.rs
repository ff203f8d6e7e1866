//! Planned changes of roles: there and back, and what holds one up.

use crate::lab;
use crate::lab::program;
use crate::lab::server::{Flavour, flavours};
use crate::lab::trio::{Trio, Watch, Writer};
use crate::steps::assert_steps;

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
        trio.revive("a");
        assert_eq!(trio.server("a").value(running), "1", "it was a source");
        trio.tool.run(&["rejoin", "a"]).ok();
        trio.assert_source("b", &["a"]);
        assert_eq!(trio.server("a").value(running), "0", "after a rejoin");
        if !flavour.is_mariadb() {
            let closed = trio.server("a").value("SELECT @@GLOBAL.super_read_only");
            assert_eq!(closed, "1", "after a rejoin");
        }
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
        assert_steps("switchover", &report);
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
