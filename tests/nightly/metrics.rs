//! What Prometheus reads, by Prometheus' own promtool.

use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, Stdio};

use super::lab::pair::Pair;
use super::lab::program::lab_program;
use super::lab::runner::Case;
use super::lab::server::Flavour;
use super::{of_replica, start_over};
use crate::cases;

pub fn cases(flavour: Flavour) -> Vec<Case> {
    let mut cases = cases![false prometheus_reads_the_check_and_the_file_of_runs];
    if flavour.is_mariadb() {
        cases.extend(cases![
            false a_directory_of_metrics_that_is_not_there_fails_no_run,
            false the_examples_are_valid,
            false only_check_has_metrics,
        ]);
    }
    cases
}

/// promtool parses it and has nothing to say about names, units and help.
fn promtool_reads(text: &str) {
    let mut child = Command::new(lab_program("promtool"))
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && said.is_empty(), "{said}\n{text}");
}

/// Name with labels, and value.
fn samples(text: &str) -> BTreeMap<String, f64> {
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| {
            let (name, value) = line.rsplit_once(' ').unwrap();
            (name.to_owned(), value.parse().unwrap())
        })
        .collect()
}

fn names(samples: &BTreeMap<String, f64>) -> Vec<&str> {
    samples
        .keys()
        .map(|key| key.split('{').next().unwrap())
        .collect()
}

fn prometheus_reads_the_check_and_the_file_of_runs(pair: &mut Pair) {
    start_over(pair);
    let name = pair.name();
    let run = pair.tool.run(&["run", &name]).ok();
    let told = of_replica(pair, &run.json());
    let check = ["check", &name, "--output", "prometheus"];
    let text = pair.tool.text(&check, false);
    let both = samples(&text.stdout);
    promtool_reads(&text.stdout);
    let pair_name = name.trim_start_matches("rep-");
    let of = |metric: &str| both[&format!("{metric}{{pair=\"{pair_name}\",server=\"{name}\"}}")];
    assert_eq!(
        f64::from(text.code()),
        of("understudy_check_severity"),
        "{}",
        text.stdout
    );
    assert_eq!(of("understudy_server_up"), 1.0);
    assert_eq!(of("understudy_replica_sql_running"), 1.0);
    assert!(of("understudy_replica_lag_seconds") < 60.0);
    assert!(of("understudy_snapshot_age_seconds") < 600.0);
    assert!(of("understudy_proof_age_seconds") < 600.0);
    assert!(of("understudy_disk_free_bytes") > 1e6);
    let of_run = |metric: &str| both[&format!("understudy_run_{metric}{{server=\"{name}\"}}")];
    assert_eq!(of_run("success"), 1.0);
    assert_eq!(
        of_run("pause_seconds"),
        told["pause_ms"].as_f64().unwrap() / 1000.0
    );
    assert_eq!(of_run("snapshots_kept"), 1.0);

    // With a file, the runs stand there, and the check has none of them.
    let file = pair.base().join("metrics").join("u.prom");
    std::fs::create_dir(file.parent().unwrap()).unwrap();
    let line = format!("metrics_file = \"{}\"\n", file.display());
    let config = pair.base().join("understudy.toml");
    let configuration = line + &std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, configuration).unwrap();
    // The source, of which none is taken, is in the file too, whichever ran last.
    pair.tool.run(&["run", &pair.source_name()]).expect_code(4);
    let first = std::fs::metadata(&file).unwrap();
    pair.tool.run(&["run", &name]).ok();
    let second = std::fs::metadata(&file).unwrap();
    assert_ne!(first.ino(), second.ino(), "it is replaced whole");
    assert_eq!(second.permissions().mode() & 0o777, 0o644);
    let left = std::fs::read_dir(file.parent().unwrap()).unwrap().count();
    assert_eq!(left, 1, "nothing beside it");
    let written = std::fs::read_to_string(&file).unwrap();
    promtool_reads(&written);
    let runs = samples(&written);
    assert_eq!(
        runs[&format!(
            "understudy_run_exit_code{{server=\"{}\"}}",
            pair.source_name()
        )],
        4.0
    );
    assert_eq!(
        runs[&format!("understudy_run_success{{server=\"{name}\"}}")],
        1.0
    );
    let checked = samples(&pair.tool.text(&check, false).stdout);
    let common = names(&checked)
        .into_iter()
        .find(|name| names(&runs).contains(name));
    assert_eq!(
        common, None,
        "the collector refuses one that stands in two files"
    );
    std::fs::remove_dir_all(file.parent().unwrap()).unwrap();
    pair.wait_caught_up();
}

fn a_directory_of_metrics_that_is_not_there_fails_no_run(pair: &mut Pair) {
    start_over(pair);
    let config = pair.base().join("understudy.toml");
    let configuration = std::fs::read_to_string(&config).unwrap();
    let line = "metrics_file = \"/nonexistent/u.prom\"\n".to_owned();
    std::fs::write(&config, line + &configuration).unwrap();
    let run = pair.tool.run(&["run", &pair.name()]).ok();
    let told = of_replica(pair, &run.json());
    let why = "the metrics weren't written: ";
    assert!(
        told["not_told"][0].as_str().unwrap().starts_with(why),
        "{told}"
    );
    assert!(
        run.stderr.contains(why) && run.stderr.contains("/nonexistent/"),
        "{}",
        run.stderr
    );
}

fn the_examples_are_valid(_pair: &mut Pair) {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/examples");
    let output = Command::new(lab_program("promtool"))
        .args(["check", "rules"])
        .arg(examples.join("understudy.rules.yml"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    // A dashboard is its queries, and Prometheus has to understand each: as rules of its own.
    let text = std::fs::read_to_string(examples.join("grafana-dashboard.json")).unwrap();
    let dashboard: serde_json::Value = serde_json::from_str(&text).unwrap();
    let panels = dashboard["panels"].as_array().unwrap().iter();
    let targets = panels.flat_map(|panel| panel["targets"].as_array().unwrap());
    let rules: Vec<serde_json::Value> = targets
        .map(|target| serde_json::json!({"record": "q", "expr": target["expr"]}))
        .enumerate()
        .map(|(number, mut rule)| {
            rule["record"] = format!("q{number}").into();
            rule
        })
        .collect();
    assert!(rules.len() > 5);
    let file = serde_json::json!({"groups": [{"name": "g", "rules": rules}]});
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("q.yml");
    std::fs::write(&path, file.to_string()).unwrap();
    let output = Command::new(lab_program("promtool"))
        .args(["check", "rules"])
        .arg(&path)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
}

fn only_check_has_metrics(pair: &mut Pair) {
    start_over(pair);
    let run = pair
        .tool
        .text(&["status", "--output", "prometheus"], false)
        .expect_code(2);
    assert!(run.stdout.is_empty(), "{}", run.stdout);
    std::fs::write(pair.base().join("understudy.toml"), "colour = 1\n").unwrap();
    let run = pair
        .tool
        .text(&["check", "--output", "prometheus"], false)
        .expect_code(3);
    promtool_reads(&run.stdout);
    assert_eq!(
        samples(&run.stdout),
        BTreeMap::from([("understudy_check_success".to_owned(), 0.0)])
    );
    assert!(run.stderr.contains("unknown key"), "{}", run.stderr);
    pair.configure_plain();
}
