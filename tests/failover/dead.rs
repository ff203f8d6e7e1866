//! The source is dead: who takes over, what keeps it off, what is lost.

use crate::lab;
use crate::lab::program;
use crate::lab::server::flavours;
use crate::lab::trio::{Trio, Watch, Writer};

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
