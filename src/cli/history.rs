//! `history [SERVER]`: what `run` did, night by night.

use serde_json::{Value, json};

use super::Cli;
use super::failure::{Failure, Kind};
use super::page::{Cell, Column, Page, Table};
use super::session::with_plain_context;
use super::ui::{self, Ui};
use crate::health::Severity;
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
        let page = Page::of_stdout();
        let texts: Vec<String> = histories
            .iter()
            .map(|(name, h)| render(name, h, last, &page))
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

fn render(name: &str, history: &History, last: usize, page: &Page) -> String {
    let shown: Vec<&Record> = newest(history, last).collect();
    let mut lines = vec![match (shown.len(), history.records.len()) {
        (0, _) => format!("{name}: `understudy run {name}` hasn't run yet"),
        (1, 1) => format!("{name}: one run"),
        (shown, all) if shown == all => format!("{name}: {all} runs, the newest first"),
        (shown, all) => format!("{name}: the last {shown} of {all} runs"),
    }];
    lines.extend(table(&shown, page));
    let mut sentence = |text: String| lines.extend(page.wrapped("  ", &text));
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

const COLUMNS: [Column; 7] = [
    Column::new("WHEN"),
    Column::new("RESULT"),
    Column::new("PAUSE"),
    Column::new("TOOK"),
    Column::new("PROOF"),
    Column::spare("PRUNED", 1),
    Column::new("KEPT"),
];

/// A row for each, and below it why it failed.
fn table(shown: &[&Record], page: &Page) -> Vec<String> {
    if shown.is_empty() {
        return Vec::new();
    }
    let mut table = Table::new(&COLUMNS);
    for record in shown {
        let step = record.step.as_deref().unwrap_or("run");
        let error = record.error.as_ref();
        let below = error.map(|error| format!("{step}: {}", error.message));
        table.row_and(row(record), below);
    }
    table.render(page, 2)
}

fn row(record: &Record) -> Vec<Cell> {
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let kept = record.kept.map(|count| match record.kept_bytes {
        Some(bytes) => format!("{count} ({})", ui::bytes(bytes)),
        None => count.to_string(),
    });
    let when = record
        .began
        .get(..16)
        .unwrap_or(&record.began)
        .replace('T', " ");
    vec![
        when.into(),
        Cell::judged(record.result.clone(), severity(record)),
        or_dash(record.pause_ms.map(ui::ms)).into(),
        ui::ms(record.took_ms).into(),
        proof_word(record.proof).into(),
        record.pruned.len().to_string().into(),
        or_dash(kept).into(),
    ]
}

fn severity(record: &Record) -> Option<Severity> {
    match (&record.error, record.warnings.is_empty()) {
        (Some(_), _) => Some(Severity::Critical),
        (None, false) => Some(Severity::Warning),
        (None, true) => None,
    }
}

fn proof_word(proof: Option<Proof>) -> &'static str {
    match proof {
        None | Some(Proof::Taken) => "-",
        Some(Proof::Failed) => "failed",
        Some(Proof::Read) => "read",
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
