//! What Prometheus reads: of `check`, and of `run` in a file for node_exporter's textfile collector.
//!
//! The two have no metric in common: the collector refuses one that stands in two files.

use std::time::Duration;

use jiff::Timestamp;

use super::exposition::{Exposition, Metric};
use crate::health::Severity;
use crate::health::report::{PairReport, ServerReport};
use crate::nightly::history::History;
use crate::snapshot::manifest::Proof;

/// All of them; docs/METRICS.md has the same.
pub const METRICS: &[Metric] = &[
    ("understudy_build_info", "The version of understudy."),
    (
        "understudy_check_success",
        "Whether the check could be made at all.",
    ),
    (
        "understudy_check_severity",
        "The worst finding: 0 OK, 1 warning, 2 critical, 3 unknown.",
    ),
    (
        "understudy_finding_severity",
        "Each finding by its rule: 0 info, 1 warning, 2 critical, 3 unknown.",
    ),
    ("understudy_server_up", "Whether the server answers."),
    (
        "understudy_server_role",
        "The role that the server has now.",
    ),
    (
        "understudy_server_read_only",
        "Whether the server refuses writes of clients.",
    ),
    (
        "understudy_replica_io_running",
        "Whether the replica receives, on all channels.",
    ),
    (
        "understudy_replica_sql_running",
        "Whether the replica applies, on all channels.",
    ),
    (
        "understudy_replica_lag_seconds",
        "How far the replica is behind, beyond its delay on purpose.",
    ),
    (
        "understudy_replica_delay_seconds",
        "How far the replica is kept behind on purpose.",
    ),
    (
        "understudy_snapshot_age_seconds",
        "The age of the newest good snapshot.",
    ),
    (
        "understudy_proof_age_seconds",
        "The age of the newest proof that a snapshot is good.",
    ),
    (
        "understudy_disk_free_bytes",
        "Room on the disk of the server's data.",
    ),
    (
        "understudy_run_success",
        "Whether the last run did all that it was there for.",
    ),
    (
        "understudy_run_exit_code",
        "The exit code of the last run, without those that found another at work.",
    ),
    (
        "understudy_run_timestamp_seconds",
        "When the last run ended.",
    ),
    (
        "understudy_run_success_timestamp_seconds",
        "When the last good run ended.",
    ),
    (
        "understudy_run_proof_timestamp_seconds",
        "When the last run that proved its snapshot ended.",
    ),
    (
        "understudy_run_duration_seconds",
        "How long the last run took.",
    ),
    (
        "understudy_run_pause_seconds",
        "How long the replica stood still for the last run's snapshot.",
    ),
    (
        "understudy_run_proof_duration_seconds",
        "How long the last run's proof took.",
    ),
    (
        "understudy_run_snapshots_kept",
        "Whole snapshots after the last run.",
    ),
    (
        "understudy_run_snapshots_bytes",
        "What the server's snapshots held altogether after the last run.",
    ),
];

/// When not even the configuration could be read.
pub fn failed_check() -> String {
    let mut exposition = Exposition::of(METRICS);
    exposition.add("understudy_check_success", &[], Some(0.0));
    exposition.text()
}

/// Of a check, and of the runs where no file has them.
pub fn of_check(reports: &[PairReport], runs: &[(String, History)], now: Timestamp) -> String {
    let mut exposition = Exposition::of(METRICS);
    let version = [("version", env!("CARGO_PKG_VERSION"))];
    exposition.add("understudy_build_info", &version, Some(1.0));
    exposition.add("understudy_check_success", &[], Some(1.0));
    for report in reports {
        let pair = report.name.as_deref().unwrap_or_default();
        for server in &report.servers {
            add_server(&mut exposition, pair, server, now);
        }
        let labels = [("pair", pair), ("server", "")];
        if report.name.is_some() {
            add_findings(&mut exposition, &labels, &report.findings);
        }
    }
    for (server, history) in runs {
        add_runs(&mut exposition, server, history);
    }
    exposition.text()
}

/// Of the runs alone.
pub fn of_runs(runs: &[(String, History)]) -> String {
    let mut exposition = Exposition::of(METRICS);
    for (server, history) in runs {
        add_runs(&mut exposition, server, history);
    }
    exposition.text()
}

fn add_server(exposition: &mut Exposition, pair: &str, server: &ServerReport, now: Timestamp) {
    let labels = [("pair", pair), ("server", server.name.as_str())];
    let truth = |is_so: bool| f64::from(u8::from(is_so));
    let seconds = |ms: u64| Duration::from_millis(ms).as_secs_f64();
    let age = |time: &Option<String>| {
        let time: Timestamp = time.as_ref()?.parse().ok()?;
        Some(now.duration_since(time).as_secs_f64().max(0.0))
    };
    let mut add = |name, value| exposition.add(name, &labels, value);
    add("understudy_server_up", Some(truth(server.reachable)));
    add("understudy_server_read_only", server.read_only.map(truth));
    add(
        "understudy_replica_io_running",
        server.io_running.map(truth),
    );
    add(
        "understudy_replica_sql_running",
        server.sql_running.map(truth),
    );
    add("understudy_replica_lag_seconds", server.lag_ms.map(seconds));
    add(
        "understudy_replica_delay_seconds",
        server.delay_ms.map(seconds),
    );
    add(
        "understudy_snapshot_age_seconds",
        age(&server.last_snapshot_time),
    );
    add("understudy_proof_age_seconds", age(&server.last_proof_time));
    add(
        "understudy_disk_free_bytes",
        server.disk_free_bytes.map(|bytes| bytes as f64),
    );
    let role = serde_json::json!(server.role);
    let role = [
        labels[0],
        labels[1],
        ("role", role.as_str().unwrap_or_default()),
    ];
    exposition.add("understudy_server_role", &role, Some(1.0));
    add_findings(exposition, &labels, &server.findings);
}

fn add_findings(
    exposition: &mut Exposition,
    labels: &[(&str, &str); 2],
    findings: &[crate::health::Finding],
) {
    let worst = findings.iter().map(|finding| finding.severity).max();
    exposition.add(
        "understudy_check_severity",
        labels,
        Some(worst.map_or(0.0, code)),
    );
    let mut rules: Vec<&str> = findings.iter().map(|finding| finding.rule).collect();
    rules.sort_unstable();
    rules.dedup();
    for rule in rules {
        // A rule may speak of several things; one sample may stand for them.
        let of_rule = findings.iter().filter(|finding| finding.rule == rule);
        let worst = of_rule.map(|finding| finding.severity).max();
        let labels = [labels[0], labels[1], ("rule", rule)];
        exposition.add("understudy_finding_severity", &labels, worst.map(code));
    }
}

/// As the plug-ins' exit codes.
fn code(severity: Severity) -> f64 {
    match severity {
        Severity::Info => 0.0,
        Severity::Warning => 1.0,
        Severity::Critical => 2.0,
        Severity::Unknown => 3.0,
    }
}

fn add_runs(exposition: &mut Exposition, server: &str, history: &History) {
    let labels = [("server", server)];
    let tried = || {
        history
            .records
            .iter()
            .rev()
            .filter(|record| !record.is_busy())
    };
    let Some(last) = tried().next() else { return };
    let ended = |text: &str| Some(text.parse::<Timestamp>().ok()?.as_millisecond() as f64 / 1000.0);
    let seconds = |ms: u64| Duration::from_millis(ms).as_secs_f64();
    let good = tried().find(|record| record.is_done());
    let proven = tried().find(|record| record.is_done() && record.proof >= Some(Proof::Booted));
    let is_done = f64::from(u8::from(last.is_done()));
    let mut add = |name, value| exposition.add(name, &labels, value);
    add("understudy_run_success", Some(is_done));
    add("understudy_run_exit_code", Some(f64::from(last.exit)));
    add("understudy_run_timestamp_seconds", ended(&last.ended));
    add(
        "understudy_run_success_timestamp_seconds",
        good.and_then(|run| ended(&run.ended)),
    );
    add(
        "understudy_run_proof_timestamp_seconds",
        proven.and_then(|run| ended(&run.ended)),
    );
    add(
        "understudy_run_duration_seconds",
        Some(seconds(last.took_ms)),
    );
    add("understudy_run_pause_seconds", last.pause_ms.map(seconds));
    add(
        "understudy_run_proof_duration_seconds",
        last.verify_ms.map(seconds),
    );
    add(
        "understudy_run_snapshots_kept",
        last.kept.map(|kept| kept as f64),
    );
    add(
        "understudy_run_snapshots_bytes",
        last.kept_bytes.map(|bytes| bytes as f64),
    );
}

#[cfg(test)]
mod tests {
    use super::METRICS;

    /// Every metric that the documents use is one, and every one is documented.
    #[test]
    fn documents_and_metrics_are_the_same() {
        let docs = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/");
        let read = |name: &str| std::fs::read_to_string(format!("{docs}{name}")).unwrap();
        let page = read("METRICS.md");
        for (name, help) in METRICS {
            assert!(
                page.contains(&format!("| `{name}`")),
                "{name} isn't in METRICS.md"
            );
            assert!(help.ends_with('.') && name.starts_with("understudy_"));
        }
        let used = [
            page,
            read("examples/understudy.rules.yml"),
            read("examples/grafana-dashboard.json"),
        ];
        for text in used {
            let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            for word in words.filter(|word| word.starts_with("understudy_") && word.len() > 11) {
                let known = METRICS.iter().any(|(name, _)| *name == word);
                assert!(known, "{word} is no metric");
            }
        }
    }
}
