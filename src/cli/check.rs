//! `check [PAIR|SERVER]`: for Nagios, Icinga, Zabbix, cron.
//!
//! Exit codes and output are the monitoring plug-ins' (monitoring-plugins.org, development
//! guidelines): one line with performance data behind `|`, then a line per finding.

use std::process::ExitCode;
use std::time::Duration;

use serde_json::json;

use super::failure::Failure;
use super::metrics;
use super::session::with_plain_context;
use super::status;
use super::ui::{self, Ui};
use super::{Cli, Output};
use crate::health::finding::Finding;
use crate::health::report::{self, PairReport, ServerReport};
use crate::health::{Limits, Look, Picture, Severity, observe, rules};
use crate::nightly::history::{self, History};
use crate::snapshot::Context;
use crate::snapshot::keep::catalog::Storage;
use crate::sys::clock;

/// Judge a pair or server for a monitoring system
///
/// Prints one line with performance data, then a line per finding. Exit codes are the monitoring
/// plug-ins': 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN; so too for a mistake in the configuration (3).
/// Without a name every server of the configuration is judged. With --output prometheus it prints metrics
/// for Prometheus instead (docs/METRICS.md), with the same exit codes.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A pair or a server
    name: Option<String>,

    /// Only this rule, by its name in docs/RULES.md; may be given several times
    #[arg(long = "rule", value_name = "NAME", value_parser = rule_name)]
    rules: Vec<String>,

    /// A replica that is so far behind is a warning
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = humantime::parse_duration)]
    warning_lag: Duration,

    /// And here critical
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = humantime::parse_duration)]
    critical_lag: Duration,

    /// A newest good snapshot so old is a warning
    #[arg(long, value_name = "DURATION", default_value = "26h", value_parser = humantime::parse_duration)]
    warning_snapshot_age: Duration,

    /// And here critical
    #[arg(long, value_name = "DURATION", default_value = "50h", value_parser = humantime::parse_duration)]
    critical_snapshot_age: Duration,

    /// A newest proof so old is a warning
    #[arg(long, value_name = "DURATION", default_value = "8d", value_parser = humantime::parse_duration)]
    warning_proof_age: Duration,

    /// And here critical
    #[arg(long, value_name = "DURATION", default_value = "15d", value_parser = humantime::parse_duration)]
    critical_proof_age: Duration,

    /// How long all servers together may take to answer
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = humantime::parse_duration)]
    timeout: Duration,
}

fn rule_name(text: &str) -> Result<String, String> {
    match rules::RULES.iter().any(|rule| rule.name == text) {
        true => Ok(text.to_owned()),
        false => {
            let names: Vec<&str> = rules::RULES.iter().map(|rule| rule.name).collect();
            Err(format!(
                "no rule is called that; there are {}",
                names.join(", ")
            ))
        }
    }
}

/// The monitoring plug-ins' exit codes.
fn code(severity: Option<Severity>) -> u8 {
    match severity {
        None | Some(Severity::Info) => 0,
        Some(Severity::Warning) => 1,
        Some(Severity::Critical) => 2,
        Some(Severity::Unknown) => 3,
    }
}

fn word(severity: Option<Severity>) -> &'static str {
    match severity {
        None | Some(Severity::Info) => "OK",
        Some(Severity::Warning) => "WARNING",
        Some(Severity::Critical) => "CRITICAL",
        Some(Severity::Unknown) => "UNKNOWN",
    }
}

/// Never fails otherwise than as a plug-in does.
pub fn run(cli: &Cli, ui: &Ui, args: &Args) -> ExitCode {
    let limits = Limits {
        warning_lag: args.warning_lag,
        critical_lag: args.critical_lag,
        warning_snapshot_age: args.warning_snapshot_age,
        critical_snapshot_age: args.critical_snapshot_age,
        warning_proof_age: args.warning_proof_age,
        critical_proof_age: args.critical_proof_age,
    };
    let for_prometheus = cli.output == Output::Prometheus;
    let mut runs = Vec::new();
    let judged = with_plain_context(cli, |ctx| {
        let reports = look(ctx, args, limits)?;
        if for_prometheus && ctx.config.metrics_file.is_none() {
            runs = histories(ctx, &reports);
        }
        Ok(reports)
    });
    match judged {
        Ok(reports) if for_prometheus => {
            let worst = findings(&reports).first().map(|finding| finding.severity);
            ui::print_text(&metrics::of_check(&reports, &runs, clock::now()));
            ExitCode::from(code(worst))
        }
        Err(failure) if for_prometheus => {
            ui.failure(&failure);
            ui::print_text(&metrics::failed_check());
            ExitCode::from(code(Some(Severity::Unknown)))
        }
        Ok(reports) => {
            let findings = findings(&reports);
            let worst = findings.first().map(|finding| finding.severity);
            let document = json!({
                "check": {"status": word(worst), "code": code(worst), "pairs": reports},
            });
            ui.result(&document, || render(&reports, &limits));
            ExitCode::from(code(worst))
        }
        Err(failure) => {
            let message = failure.message.replace(['\n', '|'], " ");
            let document = failure.json();
            ui.result(&document, || {
                let mut lines = vec![format!("UNDERSTUDY UNKNOWN - {message}")];
                lines.extend(failure.hints.iter().map(|hint| hint.replace('|', " ")));
                lines.join("\n")
            });
            ExitCode::from(code(Some(Severity::Unknown)))
        }
    }
}

/// What ran on the servers that are judged; one whose history can't be read has none.
fn histories(ctx: &Context, reports: &[PairReport]) -> Vec<(String, History)> {
    let servers = reports.iter().flat_map(|report| &report.servers);
    let read = |server: &ServerReport| {
        let history = history::read(&ctx.state, &server.name).ok()?;
        Some((server.name.clone(), history))
    };
    servers.filter_map(read).collect()
}

/// A mistake on the command line, as a plug-in says it.
pub fn usage(message: &str) -> ExitCode {
    let message = plain(message.trim_start_matches("error: ").trim());
    ui::print_text(&format!("UNDERSTUDY UNKNOWN - {message}"));
    ExitCode::from(code(Some(Severity::Unknown)))
}

/// What is judged: a pair; a server beside the others of its pair; or everything.
fn look(ctx: &Context, args: &Args, limits: Limits) -> Result<Vec<PairReport>, Failure> {
    let (wanted, only) = match &args.name {
        None => (status::every_pair(ctx), None),
        Some(name) if ctx.config.pairs.contains_key(name) => (
            vec![(Some(name.clone()), status::pair_named(ctx, name)?)],
            None,
        ),
        Some(name) => {
            ctx.server(name)?;
            let pair = ctx.config.pair_of(name);
            let servers = match pair {
                Some(pair) => status::pair_named(ctx, &pair.name)?,
                None => vec![name.clone()],
            };
            (
                vec![(pair.map(|pair| pair.name.clone()), servers)],
                Some(name),
            )
        }
    };
    let look = Look {
        limit: args.timeout,
        storage: Some(Storage::Known),
    };
    let judge = |(name, servers): &(Option<String>, Vec<String>)| {
        let view = observe(ctx, name.as_deref(), servers, &look)?;
        let mut report = report::report(&Picture::of(&view, limits), &args.rules);
        if let Some(only) = only {
            report.servers.retain(|server| server.name == *only);
            report.findings.clear();
        }
        Ok(report)
    };
    match wanted.as_slice() {
        [one] => Ok(vec![judge(one)?]),
        several => std::thread::scope(|scope| {
            let judged: Vec<_> = several
                .iter()
                .map(|one| scope.spawn(|| judge(one)))
                .collect();
            judged
                .into_iter()
                .map(|judged| match judged.join() {
                    Ok(report) => report,
                    Err(panic) => std::panic::resume_unwind(panic),
                })
                .collect()
        }),
    }
}

/// The worst first.
fn findings(reports: &[PairReport]) -> Vec<&Finding> {
    let mut findings: Vec<&Finding> = reports.iter().flat_map(PairReport::all_findings).collect();
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    findings
}

fn render(reports: &[PairReport], limits: &Limits) -> String {
    let findings = findings(reports);
    let worst = findings.first().map(|finding| finding.severity);
    let faults: Vec<&&Finding> = findings
        .iter()
        .filter(|finding| finding.severity > Severity::Info)
        .collect();
    let summary = match faults.as_slice() {
        [] => reports.iter().map(healthy).collect::<Vec<_>>().join("; "),
        [first] => first.message.clone(),
        [first, rest @ ..] => format!("{} (and {} more)", first.message, rest.len()),
    };
    let servers = reports.iter().flat_map(|report| &report.servers);
    let data: Vec<String> = servers
        .flat_map(|server| performance(server, limits))
        .collect();
    let mut lines = vec![format!(
        "UNDERSTUDY {} - {}{}",
        word(worst),
        plain(&summary),
        match data.is_empty() {
            true => String::new(),
            false => format!(" | {}", data.join(" ")),
        }
    )];
    lines.extend(findings.iter().map(|finding| {
        format!(
            "{} {}: {}",
            word(Some(finding.severity).filter(|severity| *severity > Severity::Info)),
            finding.rule,
            plain(&finding.message)
        )
    }));
    lines.join("\n")
}

/// The bar begins performance data, wherever it stands.
fn plain(text: &str) -> String {
    text.replace('|', "/").replace('\n', " ")
}

fn healthy(report: &PairReport) -> String {
    let servers: Vec<String> = report
        .servers
        .iter()
        .map(|server| match server.lag_ms {
            Some(ms) => format!("{} replica, {}", server.name, ui::lag(ms, server.delay_ms)),
            None if report.source.as_ref() == Some(&server.name) => {
                format!("{} source", server.name)
            }
            None => format!("{} answers", server.name),
        })
        .collect();
    match &report.name {
        Some(name) => format!("{name}: {}", servers.join(", ")),
        None => servers.join(", "),
    }
}

/// `db2_lag=0.120s;60;300;0`: label, value, unit, warning, critical, minimum.
fn performance(server: &ServerReport, limits: &Limits) -> Vec<String> {
    let mut data = Vec::new();
    let label = |what: &str| format!("'{}_{what}'", server.name);
    if let Some(ms) = server.lag_ms {
        data.push(format!(
            "{}={:.3}s;{};{};0",
            label("lag"),
            Duration::from_millis(ms).as_secs_f64(),
            limits.warning_lag.as_secs_f64(),
            limits.critical_lag.as_secs_f64()
        ));
    }
    if let Some(ms) = server.delay_ms.filter(|ms| *ms > 0) {
        let delay_s = Duration::from_millis(ms).as_secs_f64();
        data.push(format!("{}={delay_s:.3}s;;;0", label("delay")));
    }
    let ages = [
        (
            "snapshot_age",
            &server.last_snapshot_time,
            limits.warning_snapshot_age,
            limits.critical_snapshot_age,
        ),
        (
            "proof_age",
            &server.last_proof_time,
            limits.warning_proof_age,
            limits.critical_proof_age,
        ),
    ];
    for (what, time, warning, critical) in ages {
        let time = time
            .as_ref()
            .and_then(|time| time.parse::<jiff::Timestamp>().ok());
        if let Some(time) = time {
            let age = clock::now().duration_since(time).as_secs().max(0);
            data.push(format!(
                "{}={age}s;{};{};0",
                label(what),
                warning.as_secs(),
                critical.as_secs()
            ));
        }
    }
    if let Some(bytes) = server.disk_free_bytes {
        data.push(format!("{}={bytes}B;;;0", label("disk_free")));
    }
    data
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_the_plug_ins() {
        let codes = [
            (None, 0),
            (Some(Severity::Info), 0),
            (Some(Severity::Warning), 1),
            (Some(Severity::Critical), 2),
            (Some(Severity::Unknown), 3),
        ];
        for (severity, wanted) in codes {
            assert_eq!(code(severity), wanted);
        }
    }

    #[test]
    fn a_bar_in_a_message_begins_no_performance_data() {
        assert_eq!(plain("a|b\nc"), "a/b c");
    }
}
