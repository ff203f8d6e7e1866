//! `init`: the first configuration of a pair that is there already.
#![expect(clippy::unwrap_used, reason = "tests")]

#[expect(
    dead_code,
    reason = "shared with the snapshot and fault tests, which use other parts"
)]
#[path = "../lab/mod.rs"]
mod lab;

use nix::sys::signal::Signal;
use std::io::Write;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use lab::limit;
use lab::pair::{Pair, Special};
use lab::runner::{self, Case, Group};
use lab::server::Flavour;
use lab::storage::Storage;
use lab::tool::Tool;
use serde_json::Value;

fn main() -> ExitCode {
    let storages = runner::storages();
    let group = |flavour: Flavour| Group {
        flavour,
        storage: Storage::Btrfs,
        special: Special::default(),
        cases: cases_of(flavour),
    };
    let groups = [Flavour::Mariadb, Flavour::Mysql97, Flavour::Mysql56].map(group);
    let groups = groups
        .into_iter()
        .filter(|group| storages.contains(&group.storage));
    runner::main(groups.collect())
}

fn cases_of(flavour: Flavour) -> Vec<Case> {
    // It has other words for all of it.
    if flavour == Flavour::Mysql56 {
        return cases![false from_the_source_by_who_fetches_from_it];
    }
    let mut cases = cases![
        false from_the_replica_to_a_night,
        false from_the_source_by_who_fetches_from_it,
        false says_which_grants_are_missing,
    ];
    if flavour.is_mariadb() {
        cases.extend(cases![
            false what_does_not_answer_or_refuses_is_one_message,
            false hung_servers_cost_their_time_and_no_more,
            false a_replica_by_an_address_of_elsewhere_is_told,
            false a_server_of_a_container_is_no_server_of_this_host,
            false a_source_that_cannot_be_reached_is_told,
            false overwrites_nothing_and_says_what_differs,
            false asks_on_a_terminal_without_showing_the_password,
        ]);
    }
    cases
}

const PASSWORD: &str = "secret word";

/// A directory for a first configuration, and how the tool is called there.
struct First {
    tool: Tool,
    dir: PathBuf,
    password_file: String,
    state: String,
}

impl First {
    fn new(pair: &Pair, name: &str) -> Self {
        let dir = pair.base().join(format!("first-{name}"));
        drop(std::fs::remove_dir_all(&dir));
        std::fs::create_dir(&dir).unwrap();
        let password_file = private(&dir, "password", &format!("{PASSWORD}\n"));
        Self {
            tool: Tool { base: dir.clone() },
            password_file,
            state: dir.join("state").display().to_string(),
            dir,
        }
    }

    fn args<'a>(&'a self, more: &[&'a str]) -> Vec<&'a str> {
        let mut args = vec![
            "init",
            "--user",
            "understudy",
            "--password-file",
            &self.password_file,
        ];
        args.extend(["--state-dir", &self.state]);
        args.extend(more);
        args
    }

    fn written(&self) -> Vec<String> {
        let files = std::fs::read_dir(&self.dir)
            .unwrap()
            .map(|file| file.unwrap().file_name());
        let mut names: Vec<String> = files
            .map(|name| name.into_string().unwrap())
            .filter(|name| {
                !["password", "state"].contains(&name.as_str())
                    && !name.starts_with("out")
                    && !name.starts_with("err")
            })
            .collect();
        names.sort();
        names
    }
}

fn private(dir: &Path, name: &str, text: &str) -> String {
    let path = dir.join(name);
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
    path.display().to_string()
}

fn servers(init: &Value) -> Vec<Value> {
    init["init"]["servers"].as_array().unwrap().clone()
}

/// But for what stands in a line of its own, to be copied; doctor's part is doctor's.
fn fits(text: &str) {
    let own = text.split("What doctor says:").next().unwrap();
    let is_wide = |line: &&str| line.chars().count() > 80 && !line.starts_with("  GRANT ");
    let wide: Vec<&str> = own.lines().filter(is_wide).collect();
    assert!(wide.is_empty(), "{wide:#?}");
}

fn from_the_replica_to_a_night(pair: &mut Pair) {
    let first = First::new(pair, "replica");
    let socket = pair.replica.socket().display().to_string();
    let dry = first
        .tool
        .run(&first.args(&["--socket", &socket, "--dry-run"]))
        .ok();
    assert!(
        dry.json()["init"]["text"]
            .as_str()
            .unwrap()
            .contains("[pair.lab]")
    );
    assert_eq!(first.written(), Vec::<String>::new());

    let run = first.tool.run(&first.args(&["--socket", &socket])).ok();
    assert!(!format!("{}{}", run.stdout, run.stderr).contains(PASSWORD));
    let init = run.json();
    let found = servers(&init);
    assert_eq!(found.len(), 2, "{init}");
    assert_eq!(
        found[0]["address"],
        format!("127.0.0.1:{}", pair.source.port)
    );
    assert_eq!(found[1]["address"], socket);
    assert_eq!(init["init"]["source"], found[0]["name"]);
    assert_eq!(found[1]["missing_grants"], serde_json::json!([]));
    assert!(!init["init"]["checks"].as_array().unwrap().is_empty());
    let replica = found[1]["name"].as_str().unwrap();
    let timer = init["init"]["nightly"]["timers"][0].as_str().unwrap();
    assert_eq!(
        timer,
        format!("systemctl enable --now understudy@{replica}.timer")
    );
    assert_eq!(first.written(), ["understudy.cnf", "understudy.toml"]);
    for name in first.written() {
        let mode = std::fs::metadata(first.dir.join(name))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    // It is valid as it stands, and so is what its comments offer; and it does.
    first.tool.run(&["config", "check"]).ok();
    let status = first.tool.run(&["status"]).ok().json();
    assert_eq!(status["pairs"][0]["source"], found[0]["name"]);
    let night = first.tool.run(&["run", "--all"]).ok().json();
    let told = &night["run"]["servers"];
    assert_eq!(told.as_array().unwrap().len(), 1, "{night}");
    assert_eq!(told[0]["proof"], "booted");
    let id = told[0]["snapshot"].as_str().unwrap();
    first.tool.run(&["snapshot", "delete", id, "--yes"]).ok();

    by_cron(init["init"]["nightly"]["cron"].as_str().unwrap());
    let nights = first.tool.run(&["history"]).ok().json();
    let runs = &nights["history"]["servers"][0]["runs"];
    assert_eq!(runs.as_array().unwrap().len(), 2, "{nights}");
    assert_eq!(runs[0]["result"], "done", "{nights}");
    let id = runs[0]["snapshot"].as_str().unwrap();
    first.tool.run(&["snapshot", "delete", id, "--yes"]).ok();

    let again = first
        .tool
        .run(&first.args(&["--socket", &socket]))
        .ok()
        .json();
    assert_eq!(again["init"]["differences"], serde_json::json!([]));
    assert_eq!(again["init"]["written"], serde_json::json!([]));
    pair.wait_caught_up();
}

/// A line of /etc/crontab, as cron runs it: by a real /bin/sh, with next to nothing in its environment.
/// It says nothing, or there would be mail every night.
fn by_cron(line: &str) {
    let fields: Vec<&str> = line.splitn(7, ' ').collect();
    assert_eq!(fields[..6], ["0", "2", "*", "*", "*", "root"], "{line}");
    assert!(
        !line.contains('%'),
        "cron would take it for a line end: {line}"
    );
    let mut shell = Command::new("/bin/sh");
    shell.env_clear().envs([
        ("PATH", "/usr/bin:/bin"),
        ("HOME", "/root"),
        ("SHELL", "/bin/sh"),
    ]);
    let ran = shell
        .args(["-c", fields[6]])
        .current_dir("/")
        .output()
        .unwrap();
    assert!(ran.status.success(), "{ran:?}");
    assert!(ran.stdout.is_empty() && ran.stderr.is_empty(), "{ran:?}");
}

fn from_the_source_by_who_fetches_from_it(pair: &mut Pair) {
    let first = First::new(pair, "source");
    let address = format!("127.0.0.1:{}", pair.source.port);
    let run = first.tool.run(&first.args(&["--address", &address])).ok();
    let init = run.json();
    let found = servers(&init);
    assert_eq!(found.len(), 2, "{init}");
    assert_eq!(found[0]["address"], address);
    let at = found[1]["address"].as_str().unwrap();
    assert!(at.ends_with(&format!(":{}", pair.replica.port)), "{at}");
    assert_eq!(init["init"]["notes"], serde_json::json!([]));
    // As people read it.
    let text = First::new(pair, "text");
    let said = text
        .tool
        .text(&text.args(&["--address", &address]), false)
        .ok()
        .stdout;
    assert!(
        said.starts_with("source   ") && said.contains("\nreplica  "),
        "{said}"
    );
    // As wide as it is, in a file; broken into lines on a terminal.
    let again = First::new(pair, "terminal");
    let args = again.args(&["--address", &address]);
    fits(&again.tool.on_terminal(&args, 80, false));
    assert!(
        said.contains("\nwritten  ") && said.contains("What doctor says:"),
        "{said}"
    );
}

fn says_which_grants_are_missing(pair: &mut Pair) {
    pair.source
        .execute("CREATE USER 'poor'@'%' IDENTIFIED BY 'secret word'");
    pair.wait_caught_up();
    let first = First::new(pair, "poor");
    let address = format!("127.0.0.1:{}", pair.replica.port);
    let args = [
        "init",
        "--user",
        "poor",
        "--password-file",
        &first.password_file,
    ];
    let args = [
        &args[..],
        &["--address", &address, "--state-dir", &first.state],
    ]
    .concat();
    let run = first.tool.run(&args).expect_code(4);
    let error = &run.json()["error"];
    let hint = error["hints"][0].as_str().unwrap();
    assert!(
        hint.starts_with("As an administrator: GRANT ") && hint.contains("TO 'poor'@'%';"),
        "{hint}"
    );
    assert_eq!(first.written(), Vec::<String>::new());
    // What it prints is enough to be found, and then to take snapshots.
    let statements = hint.strip_prefix("As an administrator: ").unwrap();
    for statement in statements.split("; ") {
        pair.source.execute(statement.trim_end_matches(';'));
    }
    pair.wait_caught_up();
    let init = first.tool.run(&args).ok().json();
    let found = servers(&init);
    assert_eq!(found.len(), 2, "{init}");
    assert_eq!(found[1]["missing_grants"], serde_json::json!([]), "{init}");
    let night = first.tool.run(&["run", "--all"]).ok().json();
    let id = night["run"]["servers"][0]["snapshot"].as_str().unwrap();
    first.tool.run(&["snapshot", "delete", id, "--yes"]).ok();
    pair.source.execute("DROP USER 'poor'@'%'");
    pair.wait_caught_up();
}

fn what_does_not_answer_or_refuses_is_one_message(pair: &mut Pair) {
    let first = First::new(pair, "refused");
    let address = format!("127.0.0.1:{}", pair.replica.port);
    let wrong = private(&first.dir, "password", "wrong\n");
    let hanging = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = format!("127.0.0.1:{}", hanging.local_addr().unwrap().port());
    for (address, code, words) in [
        (address.as_str(), 1, "Access denied"),
        (&silent, 1, "connect to the server at "),
        ("127.0.0.1:1", 1, "refused"),
        ("a b", 2, "is no address"),
    ] {
        let run = first
            .tool
            .run(&first.args(&["--address", address]))
            .expect_code(code);
        let (_, message) = run.error();
        assert!(message.contains(words), "{message}");
        assert!(
            !message.contains('\n') && run.took < limit(12),
            "{message} {:?}",
            run.took
        );
        assert!(!run.stderr.contains("wrong"), "{}", run.stderr);
    }
    std::fs::set_permissions(&wrong, PermissionsExt::from_mode(0o644)).unwrap();
    first
        .tool
        .run(&first.args(&["--address", &address]))
        .expect_code(3);
    for missing in [
        &["init"][..],
        &["init", "--address", "x"],
        &["init", "--address", "x", "--user", "u"],
        &["init", "--address", "x", "--socket", "/y"],
    ] {
        first.tool.run(missing).expect_code(2);
    }
    assert_eq!(first.written(), Vec::<String>::new());
}

/// Stopped as by a hanging disk: the kernel still takes connections.
fn hung_servers_cost_their_time_and_no_more(pair: &mut Pair) {
    let first = First::new(pair, "hung");
    let address = format!("127.0.0.1:{}", pair.source.port);
    let socket = pair.replica.socket().display().to_string();
    pair.source.signal(Signal::SIGSTOP);
    let asked = first.tool.run(&first.args(&["--address", &address]));
    let written = first.written();
    let other = First::new(pair, "hung-source");
    let beside = other.tool.run(&other.args(&["--socket", &socket]));
    pair.source.signal(Signal::SIGCONT);

    let asked = asked.expect_code(1);
    let (_, message) = asked.error();
    assert!(
        message.contains(&address) && !message.contains('\n'),
        "{message}"
    );
    assert!(asked.stderr.contains("hint: "), "{}", asked.stderr);
    assert!(asked.took < limit(12), "{:?}", asked.took);
    assert_eq!(written, Vec::<String>::new());
    // Its replica answers, and is written down alone.
    let beside = beside.ok();
    let json = beside.json();
    let notes = json["init"]["notes"].to_string();
    assert!(
        notes.contains(&format!(
            "names {address} as its source, which can't be reached"
        )),
        "{notes}"
    );
    assert!(notes.contains("add it by an address that can"), "{notes}");
    assert!(beside.took < limit(30), "{:?}", beside.took);
    pair.wait_caught_up();
}

/// It reports an address of its own network, where nobody here gets an answer.
fn a_replica_by_an_address_of_elsewhere_is_told(pair: &mut Pair) {
    let address = format!("127.0.0.1:{}", pair.source.port);
    pair.replica.restart_with(&[
        "--report-host=192.0.2.1".to_owned(),
        "--report-port=1".to_owned(),
    ]);
    pair.wait_caught_up();
    let first = First::new(pair, "elsewhere");
    let run = first.tool.run(&first.args(&["--address", &address]));
    pair.replica.restart_with(&[]);
    pair.wait_caught_up();
    let run = run.ok();
    let json = run.json();
    assert_eq!(servers(&json).len(), 1, "{json}");
    let notes = json["init"]["notes"].to_string();
    assert!(
        notes.contains("192.0.2.1:1") && notes.contains("add it by an address that can"),
        "{notes}"
    );
    assert!(run.took < limit(30), "{:?}", run.took);
    first.tool.run(&["config", "check"]).ok();
}

/// In a container a machine has another name: its servers run here, and say that they don't.
fn a_server_of_a_container_is_no_server_of_this_host(pair: &mut Pair) {
    let first = First::new(pair, "container");
    let socket = pair.replica.socket().display().to_string();
    let mut contained = Command::new("/usr/bin/unshare");
    contained.args([
        "--uts",
        "/bin/sh",
        "-c",
        "hostname elsewhere && exec \"$@\"",
        "sh",
    ]);
    let run = first
        .tool
        .run_under(contained, &first.args(&["--socket", &socket]))
        .ok();
    let json = run.json();
    assert_eq!(
        json["init"]["nightly"]["timers"],
        serde_json::json!([]),
        "{json}"
    );
    let notes = json["init"]["notes"].to_string();
    assert!(
        notes.contains("container of this host, add a [server.NAME.snapshot] table"),
        "{notes}"
    );
    assert!(
        notes.contains("no replica was found on this host"),
        "{notes}"
    );
}

/// Where this runs, the source's address leads nowhere.
fn a_source_that_cannot_be_reached_is_told(pair: &mut Pair) {
    let first = First::new(pair, "private");
    let socket = pair.replica.socket().display().to_string();
    let args = first.args(&["--socket", &socket]);
    let run = first.tool.text(&args, true).ok();
    let words = run.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    let address = format!("127.0.0.1:{}", pair.source.port);
    assert!(
        words.contains(&format!(
            "names {address} as its source, which can't be reached from here:"
        )),
        "{words}"
    );
    let text = std::fs::read_to_string(first.dir.join("understudy.toml")).unwrap();
    assert!(
        text.contains("\n# [pair.lab]\n") && !text.contains("\n[pair"),
        "{text}"
    );
    first.tool.run(&["config", "check"]).ok();
}

fn overwrites_nothing_and_says_what_differs(pair: &mut Pair) {
    let first = First::new(pair, "differs");
    let address = format!("127.0.0.1:{}", pair.replica.port);
    // An option file with another account.
    let other = private(&first.dir, "understudy.cnf", "[client]\nuser = root\n");
    let run = first
        .tool
        .run(&first.args(&["--address", &address]))
        .expect_code(4);
    assert!(
        run.error().1.contains("with another account"),
        "{:?}",
        run.error()
    );
    assert_eq!(
        std::fs::read_to_string(&other).unwrap(),
        "[client]\nuser = root\n"
    );
    assert_eq!(first.written(), ["understudy.cnf"]);
    // A configuration that knows one of them, and one that isn't there.
    private(
        &first.dir,
        "understudy.cnf",
        &format!("[client]\nuser = understudy\npassword = \"{PASSWORD}\"\n"),
    );
    let text = format!(
        "state_dir = \"{}\"\n[server.mine]\naddress = \"{address}\"\ncredentials = \"{other}\"\n\
         [server.gone]\naddress = \"127.0.0.1:1\"\n",
        first.state
    );
    private(&first.dir, "understudy.toml", &text);
    let json = first
        .tool
        .run(&first.args(&["--address", &address]))
        .ok()
        .json();
    let differences: Vec<&str> = json["init"]["differences"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one.as_str().unwrap())
        .collect();
    assert_eq!(differences.len(), 2, "{json}");
    assert!(
        differences[0].starts_with(&format!("127.0.0.1:{} (", pair.source.port)),
        "{json}"
    );
    assert_eq!(differences[1], "gone is in it, and doesn't answer");
    assert_eq!(
        std::fs::read_to_string(first.dir.join("understudy.toml")).unwrap(),
        text
    );
    let said = first
        .tool
        .text(&first.args(&["--address", &address]), false)
        .ok()
        .stdout;
    assert!(said.contains("stays as it is; it differs:\n"), "{said}");
    // An option file of one's own is used as it is.
    std::fs::remove_file(first.dir.join("understudy.toml")).unwrap();
    let own = [
        "init",
        "--address",
        &address,
        "--credentials",
        &other,
        "--state-dir",
        &first.state,
    ];
    let json = first.tool.run(&own).ok().json();
    assert_eq!(
        json["init"]["written"].as_array().unwrap().len(),
        1,
        "{json}"
    );
}

/// By `script`, which gives it a terminal.
fn asks_on_a_terminal_without_showing_the_password(pair: &mut Pair) {
    let first = First::new(pair, "asked");
    let command = format!(
        "{} --config {}/understudy.toml init --state-dir {}",
        env!("CARGO_BIN_EXE_understudy"),
        first.dir.display(),
        first.state
    );
    let mut child = Command::new("/usr/bin/script")
        .args(["-qec", &command, "/dev/null"])
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    for answer in [
        format!("127.0.0.1:{}", pair.replica.port),
        String::new(),
        PASSWORD.to_owned(),
    ] {
        // What is typed before the question is thrown away.
        std::thread::sleep(limit(1) / 2);
        writeln!(stdin, "{answer}").unwrap();
    }
    let output = child.wait_with_output().unwrap();
    drop(stdin);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}");
    assert!(
        said.contains("Account [understudy]: ") && !said.contains(PASSWORD),
        "{said}"
    );
    assert_eq!(first.written(), ["understudy.cnf", "understudy.toml"]);
    let text = std::fs::read_to_string(first.dir.join("understudy.cnf")).unwrap();
    assert!(text.contains("password = \"secret word\""));
}
