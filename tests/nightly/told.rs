//! `[notify]`: programs, a webhook, a dead man's switch and mail; and what becomes of the job when
//! they hang or fail.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use super::lab::pair::Pair;
use super::lab::runner::Case;
use super::lab::server::Flavour;
use super::lab::{eventually, limit};
use super::receiver::{Manner, Receiver};
use super::{of_replica, start_over};
use crate::cases;

pub fn cases(flavour: Flavour) -> Vec<Case> {
    match flavour.is_mariadb() {
        true => cases![
            false tells_failure_recovery_and_success_in_every_way,
            false what_hangs_or_refuses_fails_no_job,
            false a_busy_server_is_nobody_s_business,
            false says_when_an_address_is_open_to_others,
        ],
        false => Vec::new(),
    }
}

/// Never in a log, an error, or the history.
const TOKEN: &str = "T0KEN-hunter2";

fn program(pair: &Pair, name: &str, text: &str) -> PathBuf {
    let path = pair.base().join(name);
    std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    path
}

fn notify(pair: &Pair, lines: &str) {
    pair.configure(|settings| settings.more = format!("[notify]\ntimeout = \"1s\"\n{lines}"));
    let file = pair.base().join("understudy.toml");
    std::fs::set_permissions(file, PermissionsExt::from_mode(0o600)).unwrap();
}

/// From now on the events are recorded; what it gives says which there were since it was last asked, by
/// their first letters in their order, those of one run by the alphabet.
pub fn recorded(pair: &Pair) -> impl Fn() -> String + use<> {
    let path = pair.base().join("told");
    drop(std::fs::remove_file(&path));
    let recorder = program(
        pair,
        "record",
        &format!("echo $1 >>{}; cat >/dev/null", path.display()),
    );
    let recorder = recorder.display();
    notify(
        pair,
        &format!(
            "on_failure = [\"{recorder}\", \"F\"]\non_success = [\"{recorder}\", \"S\"]\n\
             on_recovery = [\"{recorder}\", \"R\"]\n"
        ),
    );
    move || {
        let text = taken(&path).replace('\n', "");
        // A recovery is a success as well, and both are told at once.
        text.replace("SR", "RS")
    }
}

/// What a recorder has written, which is then gone.
fn taken(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    drop(std::fs::remove_file(path));
    text
}

fn tells_failure_recovery_and_success_in_every_way(pair: &mut Pair) {
    start_over(pair);
    let name = pair.name();
    let base = pair.base().display().to_string();
    let recorder = program(
        pair,
        "record",
        &format!(
            "echo \"$1 $UNDERSTUDY_EVENT $UNDERSTUDY_SERVER $UNDERSTUDY_EXIT $UNDERSTUDY_SUMMARY\" \
             >>{base}/told\ncat >{base}/$1.json"
        ),
    );
    let sendmail = program(
        pair,
        "sendmail",
        &format!("echo \"$@\" >{base}/mail; cat >>{base}/mail"),
    );
    let receiver = Receiver::start(Manner::Answers(200));
    let recorder = recorder.display();
    notify(
        pair,
        &format!(
            "on_failure = [\"{recorder}\", \"F\"]\non_success = [\"{recorder}\", \"S\"]\n\
             on_recovery = [\"{recorder}\", \"R\"]\nwebhook = \"{}\"\nping = \"{}\"\n\
             mail = \"root, dba@lab.example\"\nsendmail = \"{}\"\n",
            receiver.address(&format!("/hook/{TOKEN}?x=1")),
            receiver.address(&format!("/ping/{TOKEN}?rid=2")),
            sendmail.display()
        ),
    );
    let ping = |behind: &str| format!("/ping/{TOKEN}{behind}?rid=2");
    // The order of a webhook and the end of the ping is certain, that of the start isn't.
    let of = |wanted: &str, all: &[(String, String)]| {
        let of = all.iter().filter(|(path, _)| path.starts_with(wanted));
        of.cloned().collect::<Vec<_>>()
    };
    let paths =
        |all: &[(String, String)]| all.iter().map(|(path, _)| path.clone()).collect::<Vec<_>>();

    // A failure.
    let run = pair.tool.run(&["run", &pair.source_name()]);
    assert_eq!(run.code(), 4, "{run:?}");
    let got = receiver.take();
    assert_eq!(paths(&of("/ping", &got)), [ping("/start"), ping("/fail")]);
    let [(path, body)] = &of("/hook", &got)[..] else {
        panic!("{got:?}")
    };
    assert_eq!(path, &format!("/hook/{TOKEN}?x=1"));
    let body: Value = serde_json::from_str(body).unwrap();
    super::lab::contract::hold_as("notify", &body);
    assert_eq!(body["event"], "failure");
    assert_eq!(body["version"], 1);
    assert_eq!(body["server"], pair.source_name().as_str());
    assert_eq!(body["run"]["error"]["kind"], "refused");
    assert!(
        body["text"]
            .as_str()
            .unwrap()
            .contains(": snapshot refused: "),
        "{body}"
    );
    let told = taken(&pair.base().join("told"));
    assert!(
        told.starts_with(&format!("F failure {} 4 ", pair.source_name())),
        "{told}"
    );
    let json: Value = serde_json::from_str(&taken(&pair.base().join("F.json"))).unwrap();
    assert_eq!(json, body);
    let mail = taken(&pair.base().join("mail"));
    assert!(
        mail.starts_with("-t -oi\nTo: root, dba@lab.example\nSubject: understudy on "),
        "{mail}"
    );
    assert!(
        mail.contains(" failed\n") && mail.contains("\n  hint: "),
        "{mail}"
    );

    // The replica never failed: a success, of which no mail tells.
    let run = pair.tool.run(&["run", &name]).ok();
    assert_eq!(
        of_replica(pair, &run.json())["not_told"],
        serde_json::json!([])
    );
    let got = receiver.take();
    assert_eq!(paths(&of("/ping", &got)), [ping("/start"), ping("")]);
    let body: Value = serde_json::from_str(&of("/hook", &got)[0].1).unwrap();
    super::lab::contract::hold_as("notify", &body);
    assert_eq!(body["event"], "success");
    assert_eq!(body["run"]["proof"], "booted");
    assert!(taken(&pair.base().join("told")).starts_with("S success "));
    assert_eq!(taken(&pair.base().join("mail")), "");

    // It fails twice, and is well again.
    let usual = pair.settings.lock().unwrap().backend.clone();
    pair.configure(|settings| settings.backend = "zfs".to_owned());
    for _ in 0..2 {
        let run = pair.tool.run(&["run", &name]);
        assert_ne!(run.code(), 0, "{run:?}");
        assert!(taken(&pair.base().join("told")).starts_with("F failure "));
    }
    pair.configure(|settings| settings.backend = usual);
    receiver.take();
    pair.tool.run(&["run", &name]).ok();
    let body: Value = serde_json::from_str(&of("/hook", &receiver.take())[0].1).unwrap();
    super::lab::contract::hold_as("notify", &body);
    assert_eq!(body["event"], "recovery");
    let told = taken(&pair.base().join("told"));
    let mut words: Vec<&str> = told.lines().map(|line| &line[..2]).collect();
    words.sort_unstable();
    assert_eq!(words, ["R ", "S "]);
    assert!(taken(&pair.base().join("mail")).contains(" well again\n"));
    pair.wait_caught_up();
}

fn what_hangs_or_refuses_fails_no_job(pair: &mut Pair) {
    start_over(pair);
    let name = pair.name();
    let base = pair.base().display().to_string();
    let hanging = program(
        pair,
        "hang",
        &format!("trap '' TERM\necho $$ >{base}/pid\nsleep 300 & wait; sleep 300"),
    );
    let failing = program(pair, "fail", "echo it went wrong >&2; exit 3");
    let (hangs, drips) = (
        Receiver::start(Manner::Hangs),
        Receiver::start(Manner::Drips),
    );
    notify(
        pair,
        &format!(
            "on_success = [\"{}\"]\nwebhook = \"{}\"\nping = \"{}\"\n",
            hanging.display(),
            hangs.address(&format!("/{TOKEN}")),
            drips.address(&format!("/{TOKEN}")),
        ),
    );
    let run = pair.tool.run(&["run", &name]).ok();
    assert!(run.took < limit(15), "{:?}", run.took);
    let told = of_replica(pair, &run.json());
    assert_eq!(told["result"], "done");
    let lines: Vec<&str> = told["not_told"]
        .as_array()
        .unwrap()
        .iter()
        .map(|line| line.as_str().unwrap())
        .collect();
    assert_eq!(lines.len(), 4, "{lines:?}");
    for line in [
        format!(
            "on_success wasn't told of the success of {name}: {} didn't end within 1s and was killed",
            hanging.display()
        ),
        format!("webhook wasn't told of the success of {name}: no answer within 1s"),
        "ping wasn't told of the start: no answer within 1s".to_owned(),
        "ping wasn't told of the success: no answer within 1s".to_owned(),
    ] {
        assert!(lines.contains(&line.as_str()), "{line}\n{lines:?}");
        assert!(run.stderr.contains(&line), "{}", run.stderr);
    }
    // It is gone, and what it has started.
    let pid: i32 = std::fs::read_to_string(pair.base().join("pid"))
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    eventually(limit(5), "the program is gone", || {
        !Path::new(&format!("/proc/{pid}")).exists()
    });
    assert!(super::lab::try_sh(&["pgrep", "-r", "R,S,D", "-g", &pid.to_string()]).is_err());

    let refuses = Receiver::start(Manner::Answers(302));
    notify(
        pair,
        &format!(
            "on_success = [\"{}\"]\nwebhook = \"{}\"\nping = \"http://127.0.0.1:1/{TOKEN}\"\n\
             mail = \"root\"\nmail_events = [\"success\"]\nsendmail = \"/nonexistent/sendmail\"\n",
            failing.display(),
            refuses.address(&format!("/{TOKEN}")),
        ),
    );
    let text = pair.tool.text(&["-vv", "run", &name], false).ok();
    for line in [
        format!(
            "{} ended with exit status: 3: it went wrong",
            failing.display()
        ),
        "it answered 302, a redirect, which isn't followed".to_owned(),
        "Connection refused".to_owned(),
        "/nonexistent/sendmail".to_owned(),
    ] {
        assert!(text.stderr.contains(&line), "{line}\n{}", text.stderr);
    }
    let history = pair.tool.run(&["history", &name]).ok();
    for said in [
        &run.stdout,
        &run.stderr,
        &text.stdout,
        &text.stderr,
        &history.stdout,
    ] {
        assert!(!said.contains(TOKEN), "{said}");
    }
    pair.wait_caught_up();
}

fn a_busy_server_is_nobody_s_business(pair: &mut Pair) {
    start_over(pair);
    let name = pair.name();
    let receiver = Receiver::start(Manner::Answers(200));
    notify(
        pair,
        &format!("webhook = \"{0}\"\nping = \"{0}\"\n", receiver.address("/")),
    );
    pair.tool.run(&["pause", &name, "--for", "5m"]).ok();
    pair.tool.run(&["run", &name]).expect_code(6);
    std::thread::sleep(Duration::from_millis(100));
    let told = receiver.take();
    assert!(told.iter().all(|(path, _)| path == "/start"), "{told:?}");
    pair.tool.run(&["resume", &name]).ok();
    pair.wait_caught_up();
}

fn says_when_an_address_is_open_to_others(pair: &mut Pair) {
    start_over(pair);
    notify(
        pair,
        &format!("webhook = \"https://hooks.example/{TOKEN}\"\non_failure = [\"/nonexistent\"]\n"),
    );
    let file = pair.base().join("understudy.toml");
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o644)).unwrap();
    let open = pair.tool.run(&["config", "check"]).expect_code(3).error().1;
    assert!(
        open.contains("webhook may hold a token, and others may read this file"),
        "{open}"
    );
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).unwrap();
    let private = pair.tool.run(&["config", "check"]).expect_code(3).error().1;
    assert!(private.contains("cannot run /nonexistent"), "{private}");
    assert!(!private.contains("may hold a token"), "{private}");
    assert!(!(open + &private).contains(TOKEN));
}
