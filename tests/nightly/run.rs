//! `run`: the whole night in one command.

use std::os::unix::fs::PermissionsExt;

use nix::sys::signal::Signal;

use super::lab::pair::Pair;
use super::lab::runner::Case;
use super::lab::server::Flavour;
use super::{history, of_replica, start_over};
use crate::cases;

pub fn cases(flavour: Flavour) -> Vec<Case> {
    let mut cases = cases![
        false runs_the_night,
        false looks_at_tables_when_they_are_due,
        false puts_back_what_was_left_and_prunes_by_the_rules,
    ];
    // What doesn't depend on the server's flavour.
    if flavour.is_mariadb() {
        cases.extend(cases![
            false a_second_run_ends_quietly,
            false a_killed_run_is_told_by_who_comes_next,
            false a_server_that_fails_keeps_no_other_from_its_night,
            false deletes_nothing_after_a_bad_night,
            false a_dry_run_changes_nothing,
            false says_what_is_wrong_in_how_it_is_called,
        ]);
    }
    cases
}

fn runs_the_night(pair: &mut Pair) {
    start_over(pair);
    let name = pair.name();
    let run = pair.tool.run(&["run", &name]).ok();
    let told = of_replica(pair, &run.json());
    assert_eq!(told["result"], "done", "{told}");
    assert_eq!(told["exit"], 0);
    assert_eq!(told["level"], "boot");
    assert_eq!(told["proof"], "booted");
    assert_eq!(told["manifest"]["label"], "nightly");
    assert_eq!(told["kept"], 1);
    // btrfs doesn't tell what a snapshot takes up, and unknown isn't 0.
    assert!(told["kept_bytes"].is_null(), "{told}");
    assert!(told["pause_ms"].is_u64() && told["verify_ms"].as_u64() > Some(0));
    pair.wait_caught_up();
    let kept = pair.list();
    assert_eq!(kept.len(), 1);
    assert_eq!(kept[0]["id"], told["snapshot"]);
    // The same stands in the history, for its owner only.
    let lines = history(pair, &name);
    assert_eq!(lines.len(), 1);
    for key in [
        "version", "snapshot", "pause_ms", "proof", "result", "began",
    ] {
        assert_eq!(lines[0][key], told[key], "{key}");
    }
    let path = pair
        .state_dir()
        .join("history")
        .join(format!("{name}.jsonl"));
    let mode = std::fs::metadata(path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    // As people read it, on an ordinary terminal.
    let text = pair.tool.text(&["run", &name], false).ok().stdout;
    assert!(text.starts_with(&format!("{name}: done in ")), "{text}");
    assert!(
        text.contains("  proof     boot (as every night): a server came up on it, in"),
        "{text}"
    );
    pair.wait_caught_up();
}

fn looks_at_tables_when_they_are_due(pair: &mut Pair) {
    start_over(pair);
    let name = pair.name();
    let told = |rhythm: &str| {
        pair.configure(|settings| settings.snapshot = rhythm.to_owned());
        let run = pair.tool.run(&["run", &name]).ok();
        of_replica(pair, &run.json())
    };
    let first = told("verify_tables_every = \"7d\"");
    assert_eq!(
        (first["level"].as_str(), first["proof"].as_str()),
        (Some("tables"), Some("checked"))
    );
    assert!(first["tables"].as_u64() > Some(0), "{first}");
    // Also when its manifest is gone: the history knows.
    pair.delete_all();
    let second = told("verify_tables_every = \"7d\"");
    assert_eq!(second["level"], "boot", "{second}");
    let unproven = told("verify = \"nothing\"");
    assert_eq!(
        (unproven["level"].as_str(), unproven["proof"].as_str()),
        (None, Some("taken"))
    );
    pair.wait_caught_up();
}

fn puts_back_what_was_left_and_prunes_by_the_rules(pair: &mut Pair) {
    start_over(pair);
    let name = pair.name();
    let old = pair.create(&["--verify"])["id"]
        .as_str()
        .unwrap()
        .to_owned();
    pair.configure(|settings| settings.snapshot = "keep = { last = 1 }".to_owned());
    let run = pair
        .tool
        .run_at("sealed=kill", &["snapshot", "create", &name]);
    assert!(run.status.code().is_none(), "{run:?}");
    let run = pair.tool.run(&["run", &name]).ok();
    let told = of_replica(pair, &run.json());
    assert!(!told["recovered"].as_array().unwrap().is_empty(), "{told}");
    assert_eq!(told["pruned"], serde_json::json!([old]), "{told}");
    assert_eq!(told["kept"], 1);
    assert_eq!(pair.list().len(), 1);
    pair.wait_caught_up();
}

/// Also while the first one proves, which holds no server.
fn a_second_run_ends_quietly(pair: &mut Pair) {
    start_over(pair);
    let name = pair.name();
    let mut first = pair.tool.spawn_at("run-taken=stop", &["run", &name]);
    first.wait_at("run-taken");
    let second = pair.tool.run(&["run", "--all"]);
    let told = of_replica(pair, &second.json());
    assert_eq!(
        (told["result"].as_str(), told["exit"].as_u64()),
        (Some("busy"), Some(6))
    );
    let second = pair.tool.run(&["run", &name]).expect_code(6);
    assert_eq!(second.error().0, "busy");
    assert_eq!(second.stderr.lines().count(), 2, "{}", second.stderr);
    assert!(second.stderr.contains(": run, pid "), "{}", second.stderr);
    assert_eq!(pair.list().len(), 1);
    first.signal(Signal::SIGCONT);
    first.wait().ok();
    // And while it is paused on purpose.
    pair.tool.run(&["pause", &name, "--for", "5m"]).ok();
    let run = pair.tool.run(&["run", &name]).expect_code(6);
    assert_eq!(of_replica(pair, &run.json())["step"], "snapshot");
    pair.tool.run(&["resume", &name]).ok();
    pair.wait_caught_up();
}

/// Killed between its parts: what comes next goes on, the history tells it, and whoever is to hear of
/// failures and of what is well again hears of it.
fn a_killed_run_is_told_by_who_comes_next(pair: &mut Pair) {
    start_over(pair);
    let name = pair.name();
    let told = super::told::recorded(pair);
    let kill = |place: &str| {
        let run = pair.tool.run_at(&format!("{place}=kill"), &["run", &name]);
        assert!(run.status.code().is_none(), "{place}: {run:?}");
        assert_eq!(told(), "", "{place}: nobody was left to tell");
    };
    let words = |count: usize| {
        let past = history(pair, &name);
        let last = past.iter().rev().take(count);
        last.map(|record| record["result"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    let good = |heard: &str| {
        pair.tool.run(&["run", &name]).ok();
        assert_eq!(told(), heard);
    };
    good("S");
    // Who puts back at boot, or after a unit that failed, tells it.
    kill("run-recovered");
    assert_eq!(words(1), ["done"]);
    pair.tool.run(&["recover", &name, "--dry-run"]).ok();
    assert_eq!(told(), "", "a dry run tells nobody");
    pair.tool.run(&["recover"]).ok();
    assert_eq!(
        (words(2), told()),
        (vec!["failed".to_owned(), "done".to_owned()], "F".to_owned())
    );
    pair.tool.run(&["recover"]).ok();
    assert_eq!(told(), "", "once");
    good("RS");
    // Else the next run.
    for place in ["run-taken", "run-proven", "run-pruned"] {
        kill(place);
        good("FRS");
        assert_eq!(words(2), ["done", "failed"], "{place}");
    }
    let interrupted = history(pair, &name).into_iter().rev().nth(1).unwrap();
    let message = interrupted["error"]["message"].as_str().unwrap();
    assert!(message.contains("never ended: it was killed"), "{message}");
    assert_eq!(interrupted["step"], "run");
    let text = pair.tool.text(&["history", &name], false).ok().stdout;
    assert!(text.contains("\n      run: the run of "), "{text}");
    // As far as the history it came: only that it was good is told late.
    let before = history(pair, &name).len();
    kill("run-kept");
    assert_eq!(
        (words(1), history(pair, &name).len()),
        (vec!["done".to_owned()], before + 1)
    );
    pair.tool.run(&["recover"]).ok();
    assert_eq!(
        (told(), history(pair, &name).len()),
        ("S".to_owned(), before + 1)
    );
    // And killed while it tells of it: told twice is better than never.
    kill("run-taken");
    pair.tool.run_at("run-settled=kill", &["recover"]);
    assert_eq!(
        (told(), words(1)),
        (String::new(), vec!["failed".to_owned()])
    );
    good("FRS");
    // What goes on isn't interrupted.
    let mut first = pair.tool.spawn_at("run-taken=stop", &["run", &name]);
    first.wait_at("run-taken");
    pair.tool.run(&["recover", &name]).ok();
    pair.tool.run(&["run", &name]).expect_code(6);
    assert_eq!(told(), "");
    first.signal(Signal::SIGCONT);
    first.wait().ok();
    assert_eq!(told(), "S");
    assert!(pair.list().len() > 5, "none was lost");
    pair.configure_plain();
    pair.wait_caught_up();
}

fn a_server_that_fails_keeps_no_other_from_its_night(pair: &mut Pair) {
    start_over(pair);
    pair.configure(|settings| {
        settings.more = "[server.aa]\naddress = \"127.0.0.1:1\"\n[server.aa.snapshot]\n\
                         [server.ab]\naddress = \"127.0.0.1:1\"\ncredentials = \"/nonexistent\"\n\
                         [server.ab.snapshot]\n[server.zz]\naddress = \"127.0.0.1:1\"\n"
            .to_owned();
    });
    let run = pair.tool.run(&["run", "--all"]).expect_code(1);
    let json = run.json();
    let servers = json["run"]["servers"].as_array().unwrap();
    let results: Vec<_> = servers
        .iter()
        .map(|server| {
            (
                server["server"].as_str().unwrap(),
                server["result"].as_str().unwrap(),
            )
        })
        .collect();
    let (name, source) = (pair.name(), pair.source_name());
    // Not zz, which has no table of snapshots; of a source none is taken.
    assert_eq!(
        results,
        [
            ("aa", "failed"),
            ("ab", "config"),
            (&name, "done"),
            (&source, "refused")
        ]
    );
    assert_eq!(run.error().0, "failed");
    assert!(
        run.error().1.starts_with("aa: connect to aa at "),
        "{:?}",
        run.error()
    );
    let failed = &history(pair, "aa")[0];
    assert_eq!(failed["error"]["kind"], "failed");
    assert!(
        failed["error"]["hints"].as_array().unwrap().len() == 1,
        "{failed}"
    );
    let text = pair
        .tool
        .text(&["run", "--all"], false)
        .expect_code(1)
        .stdout;
    assert!(text.contains("aa: failed at snapshot, after "), "{text}");
}

fn deletes_nothing_after_a_bad_night(pair: &mut Pair) {
    start_over(pair);
    let name = pair.name();
    for _ in 0..2 {
        pair.create(&[]);
    }
    let service = format!("[server.{name}.service]\nserver_binary = \"/bin/false\"\n");
    pair.configure(|settings| {
        settings.snapshot = format!("keep = {{ last = 1 }}\n{service}");
    });
    let run = pair.tool.run(&["run", &name]);
    assert_ne!(run.code(), 0);
    let told = of_replica(pair, &run.json());
    assert_eq!(told["step"], "verify", "{told}");
    assert_eq!(told["pruned"], serde_json::json!([]));
    assert_eq!(pair.list().len(), 3);
    pair.wait_caught_up();
}

fn a_dry_run_changes_nothing(pair: &mut Pair) {
    start_over(pair);
    let name = pair.name();
    let run = pair.tool.run(&["run", &name, "--dry-run"]).ok();
    let plan = &run.json()["plan"]["servers"][0];
    assert_eq!(plan["level"], "boot");
    assert_eq!(plan["backend"], "btrfs");
    assert_eq!(plan["prune"], serde_json::json!([]));
    pair.tool.text(&["run", &name, "-n"], false).ok();
    assert!(pair.list().is_empty());
    assert!(history(pair, &name).is_empty());
    let refused = pair.tool.run(&["run", &pair.source_name(), "-n"]);
    refused.expect_code(4);
}

fn says_what_is_wrong_in_how_it_is_called(pair: &mut Pair) {
    start_over(pair);
    for args in [&["run"][..], &["run", "x", "--all"], &["run", "nobody"]] {
        pair.tool.run(args).expect_code(2);
    }
}
