//! What would go wrong is refused, and nothing is changed; who is chosen, and who is turned.

use crate::lab;
use crate::lab::server::flavours;
use crate::lab::trio::Trio;

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
