//! `history [SERVER]`: what `run` did, night by night.

use serde_json::{Value, json};

use super::Cli;
use super::failure::{Failure, Kind};
use super::session::with_plain_context;
use super::ui::{self, Ui};
use crate::nightly::history::{self, History};
use crate::nightly::record::Record;
use crate::nightly::trend::{self, Trend, Weeks};
use crate::snapshot::manifest::Proof;
use crate::snapshot::{Context, SnapshotError};
use crate::sys::clock;

/// Show what `run` did, night by night
///
/// What ran and when (UTC), how long the pause was, what was proven and pruned, what failed and why; and
/// a sentence when the pause or what the snapshots hold has clearly grown since the week before. About a
/// thousand runs of each server are kept.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only this server's
    server: Option<String>,

    /// Only the last N of each server
    #[arg(long, value_name = "N", default_value_t = 14, value_parser = clap::value_parser!(u64).range(1..))]
    last: u64,
}

pub fn run(cli: &Cli, ui: &Ui, args: &Args) -> Result<(), Failure> {
    let histories = with_plain_context(cli, |ctx| {
        let names = wanted(ctx, args)?.into_iter();
        let read = |name: String| {
            let history = history::read(&ctx.state, &name).map_err(SnapshotError::from)?;
            Ok((name, history))
        };
        names.map(read).collect::<Result<Vec<_>, Failure>>()
    })?;
    let last = usize::try_from(args.last).unwrap_or(usize::MAX);
    let servers: Vec<Value> = histories
        .iter()
        .map(|(name, h)| server_json(name, h, last))
        .collect();
    ui.result(&json!({"history": {"servers": servers}}), || {
        let texts: Vec<String> = histories
            .iter()
            .map(|(name, h)| render(name, h, last))
            .collect();
        texts.join("\n")
    });
    Ok(())
}

/// Those that have run or should; one by name also when the configuration has lost it.
fn wanted(ctx: &Context, args: &Args) -> Result<Vec<String>, Failure> {
    let has_run = |name: &str| history::exists(&ctx.state, name);
    if let Some(name) = &args.server {
        if !has_run(name) {
            ctx.server(name)?;
        }
        return Ok(vec![name.clone()]);
    }
    let servers = ctx.config.servers.values();
    let names: Vec<String> = servers
        .filter(|server| server.wants_snapshots || has_run(&server.name))
        .map(|server| server.name.clone())
        .collect();
    match names.is_empty() {
        false => Ok(names),
        true => Err(
            Failure::new(Kind::Config, "no server has a [server.NAME.snapshot] table")
                .hint("Add one to each server whose snapshots shall be taken."),
        ),
    }
}

/// The newest first.
fn newest(history: &History, last: usize) -> impl Iterator<Item = &Record> {
    history.records.iter().rev().take(last)
}

fn server_json(name: &str, history: &History, last: usize) -> Value {
    json!({
        "server": name,
        "runs": newest(history, last).collect::<Vec<_>>(),
        "runs_kept": history.records.len(),
        "unreadable_lines": history.unreadable,
        "newer_lines": history.newer,
        "trend": trend::trend(&history.records, clock::now()),
    })
}

fn render(name: &str, history: &History, last: usize) -> String {
    let shown: Vec<&Record> = newest(history, last).collect();
    let mut lines = vec![match (shown.len(), history.records.len()) {
        (0, _) => format!("{name}: `understudy run {name}` hasn't run yet"),
        (1, 1) => format!("{name}: one run"),
        (shown, all) if shown == all => format!("{name}: {all} runs, the newest first"),
        (shown, all) => format!("{name}: the last {shown} of {all} runs"),
    }];
    lines.extend(table(&shown));
    let mut sentence = |text: String| lines.extend(ui::wrapped("  ", &text));
    trend_sentences(&trend::trend(&history.records, clock::now())).for_each(&mut sentence);
    if history.newer > 0 {
        let count = history.newer;
        sentence(format!(
            "{count} lines of a newer version of understudy aren't shown."
        ));
    }
    if history.unreadable > 0 {
        let count = history.unreadable;
        sentence(format!(
            "{count} lines can't be read, such as one that a power cut tore."
        ));
    }
    lines.join("\n")
}

/// A row for each, and below it why it failed.
fn table(shown: &[&Record]) -> Vec<String> {
    if shown.is_empty() {
        return Vec::new();
    }
    let head = [
        "  WHEN", "RESULT", "PAUSE", "TOOK", "PROOF", "PRUNED", "KEPT",
    ];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(shown.iter().map(|record| row(record)));
    let table = ui::table(&rows);
    let mut table = table.lines().map(str::to_owned);
    let mut lines: Vec<String> = table.next().into_iter().collect();
    for (line, record) in table.zip(shown) {
        lines.push(line);
        if let Some(error) = &record.error {
            let step = record.step.as_deref().unwrap_or("run");
            lines.extend(ui::wrapped("      ", &format!("{step}: {}", error.message)));
        }
    }
    lines
}

fn row(record: &Record) -> Vec<String> {
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let kept = record.kept.zip(record.kept_bytes);
    let when = record
        .began
        .get(..16)
        .unwrap_or(&record.began)
        .replace('T', " ");
    vec![
        format!("  {when}"),
        record.result.clone(),
        or_dash(record.pause_ms.map(ui::ms)),
        ui::ms(record.took_ms),
        proof_word(record.proof).to_owned(),
        record.pruned.len().to_string(),
        or_dash(kept.map(|(count, bytes)| format!("{count} ({})", ui::bytes(bytes)))),
    ]
}

fn proof_word(proof: Option<Proof>) -> &'static str {
    match proof {
        None | Some(Proof::Taken) => "-",
        Some(Proof::Failed) => "failed",
        Some(Proof::Booted) => "boot",
        Some(Proof::Checked) => "tables",
        Some(Proof::Rows) => "rows",
    }
}

/// Where there is something to say.
pub fn trend_sentences(trend: &Trend) -> impl Iterator<Item = String> {
    let sentence = |what: &str, weeks: Option<Weeks>, words: fn(u64) -> String| {
        let weeks = weeks.filter(|weeks| weeks.grows)?;
        let (last, before) = (words(weeks.last_week), words(weeks.week_before));
        Some(format!(
            "{what}: {last} in the median of the last 7 days, {before} in the 7 before."
        ))
    };
    let pause = sentence("The pause grows", trend.pause_ms, ui::ms);
    let size = sentence("The snapshots grow", trend.kept_bytes, ui::bytes);
    pause.into_iter().chain(size)
}
