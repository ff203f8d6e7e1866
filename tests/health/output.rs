//! What monitoring systems read.

use std::io::Write;
use std::process::{Command, Stdio};

use super::*;
use crate::lab::runner::Case;

pub fn cases() -> Vec<Case> {
    crate::cases![
        false monitoring_plugin_reads_the_performance_data,
        false check_of_one_server_is_its_own,
        false everything_works_with_the_printed_grants,
    ]
}

/// Read by Monitoring::Plugin, the plug-ins' own library: label, value, unit, warning, critical.
fn performance_data(line: &str) -> Vec<[String; 5]> {
    let (_, data) = line.split_once('|').unwrap();
    let script = "use Monitoring::Plugin::Performance; local $/; my $text = <STDIN>; \
                  my @all = Monitoring::Plugin::Performance->parse_perfstring($text); \
                  die 'unreadable' unless @all; \
                  for my $p (@all) { print join(\"\\t\", $p->label, $p->value, $p->uom // '', \
                  $p->warning // '', $p->critical // ''), \"\\n\" }";
    let mut child = Command::new("/usr/bin/perl")
        .args(["-e", script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(data.as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{line}");
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines()
        .map(|line| {
            let fields: Vec<String> = line.split('\t').map(str::to_owned).collect();
            fields.try_into().unwrap()
        })
        .collect()
}

fn monitoring_plugin_reads_the_performance_data(pair: &mut Pair) {
    close(pair);
    is_silent(pair);
    pair.create(&[]);
    let run = pair
        .tool
        .text(&["check", &pair_name(pair)], false)
        .expect_code(0);
    let lines: Vec<&str> = run.stdout.lines().collect();
    assert_eq!(lines.len(), 1, "{}", run.stdout);
    assert!(lines[0].starts_with("UNDERSTUDY OK - "), "{}", run.stdout);
    let data = performance_data(lines[0]);
    let of = |label: &str| {
        let label = format!("{}_{label}", pair.name());
        data.iter()
            .find(|entry| entry[0] == label)
            .unwrap_or_else(|| panic!("{label} in {data:?}"))
    };
    assert_eq!(of("lag")[2..], ["s", "60", "300"]);
    assert_eq!(of("snapshot_age")[2..], ["s", "93600", "180000"]);
    assert_eq!(of("disk_free")[2], "B");

    threads(pair, "STOP", "SQL_THREAD");
    threads(pair, "STOP", "IO_THREAD");
    let run = pair
        .tool
        .text(&["check", &pair_name(pair)], false)
        .expect_code(2);
    threads(pair, "START", "IO_THREAD");
    threads(pair, "START", "SQL_THREAD");
    let lines: Vec<&str> = run.stdout.lines().collect();
    assert!(
        lines[0].starts_with("UNDERSTUDY CRITICAL - "),
        "{}",
        run.stdout
    );
    assert_eq!(lines.len(), 3, "{}", run.stdout);
    for line in &lines[1..] {
        assert!(
            line.starts_with("CRITICAL replica.") && !line.contains('|'),
            "{line}"
        );
    }
    performance_data(lines[0]);
    pair.wait_caught_up();
    pair.delete_all();
}

fn check_of_one_server_is_its_own(pair: &mut Pair) {
    close(pair);
    threads(pair, "STOP", "SQL_THREAD");
    pair.tool.run(&["check", &pair.name()]).expect_code(2);
    pair.tool
        .run(&["check", &pair.source_name()])
        .expect_code(0);
    threads(pair, "START", "SQL_THREAD");
    pair.wait_caught_up();
    pair.tool.run(&["check", &pair.name()]).expect_code(0);
    pair.tool.run(&["check"]).expect_code(0);
}

/// Every command with just what `grants` prints for it, on fresh accounts.
fn everything_works_with_the_printed_grants(pair: &mut Pair) {
    close(pair);
    let_roles_move(pair);
    let (name, source, pair_name) = (pair.name(), pair.source_name(), pair_name(pair));
    // There is something to read: a heartbeat table, which SELECT on it needs on MySQL.
    pair.tool.run(&["heartbeat", &source, "--for", "1s"]).ok();
    let printed = pair
        .tool
        .run(&["grants", &source, "--host", "%"])
        .ok()
        .json();
    let accounts = printed["grants"]["accounts"].as_array().unwrap();
    let option_file = pair.base().join("db.cnf");
    let dumps = pair.base().join("dumps");
    std::fs::create_dir_all(&dumps).unwrap();
    let with_dumps = format!("directory = \"{}\"\n", dumps.display());
    let commands: [(&str, Vec<Vec<&str>>); 4] = [
        (
            "understudy_monitor",
            vec![vec!["status", &pair_name], vec!["check", &pair_name]],
        ),
        (
            "understudy_heartbeat",
            vec![vec!["heartbeat", &source, "--for", "1s"]],
        ),
        (
            "understudy_snapshot",
            vec![
                vec!["doctor", &pair_name],
                vec!["snapshot", "create", &name],
                vec!["pause", &name],
                vec!["resume", &name],
                vec!["recover", &name],
                vec!["snapshot", "verify", &name],
            ],
        ),
        (
            "understudy_dump",
            vec![
                vec!["snapshot", "create", &name, "--backend", "dump"],
                vec!["snapshot", "verify", &name],
            ],
        ),
    ];
    for (account, commands) in commands {
        let entry = accounts
            .iter()
            .find(|entry| entry["account"] == account)
            .unwrap();
        for statement in entry["statements"].as_array().unwrap() {
            let statement = statement.as_str().unwrap().replace('…', "pa55 Word");
            pair.source.execute(statement.trim_end_matches(';'));
        }
        pair.wait_caught_up();
        if account == "understudy_dump" && pair.volume.directory().is_none() {
            pair.configure(|settings| settings.snapshot = with_dumps.clone());
        }
        let text = format!("[client]\nuser = {account}\npassword = \"pa55 Word\"\n");
        std::fs::write(&option_file, text).unwrap();
        for command in commands {
            let latest;
            let mut args = command.clone();
            if command[..2] == ["snapshot", "verify"] {
                latest = format!("latest:{name}");
                args[2] = &latest;
            }
            let run = pair.tool.run(&args).ok();
            if command[0] == "status" {
                let status = run.json()["pairs"][0].clone();
                assert_eq!(findings(&status), [], "{status}");
                assert_eq!(status["state"], "healthy");
            }
        }
        pair.source.execute(&format!("DROP USER '{account}'@'%'"));
        pair.configure(|_| {});
    }
    pair.wait_caught_up();
    pair.delete_all();
    pair.configure_plain();
}
