//! `run SERVER | --all`: the night of one server after another, told and kept.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::Cli;
use super::aftermath::{settle, tell, tell_of};
use super::failure::{Failure, Kind};
use super::metrics;
use super::page::Page;
use super::session::with_context;
use super::snapshot::unproven;
use super::ui::{self, Ui};
use crate::nightly::begun;
use crate::nightly::history;
use crate::nightly::record::{self, Record, Told};
use crate::nightly::rhythm::Tonight;
use crate::nightly::run::{self, Night, Why};
use crate::notify::Ping;
use crate::snapshot::Context;
use crate::snapshot::keep::lifecycle::{self, Pruned};
use crate::snapshot::manifest::{Level, Proof};
use crate::snapshot::take::create;
use crate::snapshot::take::plan;
use crate::snapshot::take::preflight::Options;
use crate::sys::{clock, failpoint, files};

/// Do all that a night needs: recover, take a snapshot, prove it, prune
///
/// Puts back what an interrupted operation of the server left, takes a snapshot, proves it as far as the
/// server's `verify` says (and `verify_tables_every`, `verify_rows_every`, when they are due), deletes
/// what `keep` doesn't keep, and tells what came of it; `understudy history` has it later, too. It is
/// made for a timer and asks nothing. After a failed or bad snapshot nothing is deleted. While another
/// operation holds the server, or another run of it goes on, it ends with 6, and nobody is notified.
///
/// With --all, a server that fails keeps no other from its night; the exit code is that of the worst:
/// 5, then 1, 3, 4, 2, 6.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The replica, as the configuration names it
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    server: Option<String>,

    /// Every server that has a [server.NAME.snapshot] table, one after another
    #[arg(long)]
    all: bool,

    /// The label of the snapshots
    #[arg(long, value_name = "TEXT", default_value = "nightly", value_parser = super::snapshot::parse_label)]
    label: String,

    /// Only say what would be done
    #[arg(short = 'n', long)]
    dry_run: bool,
}

/// One server's part of the report.
struct Done {
    night: Night,
    record: Record,
    failure: Option<Failure>,
    /// Who couldn't be told, and why.
    not_told: Vec<String>,
}

pub fn run(cli: &Cli, ui: &Ui, args: &Args) -> Result<(), Failure> {
    if args.dry_run {
        return dry_run(cli, ui, args);
    }
    let done = with_context(cli, ui, |ctx| {
        let servers = wanted(ctx, args)?;
        let mut done: Vec<Done> = Vec::new();
        let mut ping = Ping::new(&ctx.config.notify);
        for server in servers {
            if ctx.cancel.is_set() && !done.is_empty() {
                break;
            }
            let _entries = ui.of_server(&server).entered();
            let locked = |began| begin(ctx, &server, began);
            let night = run::run(ctx, &server, &options(args), locked, || ping.start());
            let one = keep_and_tell(ctx, night);
            ui.noted(one.failure.as_ref().map(|f| f.kind), &one.record.summary());
            done.push(one);
        }
        let mut not_told = end_ping(ping, &done);
        not_told.extend(write_metrics(ctx));
        if let (Some(last), false) = (done.last_mut(), not_told.is_empty()) {
            last.not_told.extend(not_told);
        }
        Ok(done)
    })?;
    report(ui, done)
}

fn options(args: &Args) -> Options {
    Options {
        label: Some(args.label.clone()),
        tags: BTreeMap::new(),
        hold: false,
        allow_source: false,
        backend: None,
        cow_size: None,
    }
}

fn wanted(ctx: &Context, args: &Args) -> Result<Vec<String>, Failure> {
    if let Some(server) = &args.server {
        return Ok(vec![ctx.server(server)?.name.clone()]);
    }
    let servers = ctx.config.servers.values();
    let names: Vec<String> = servers
        .filter(|server| server.wants_snapshots)
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

/// Into the history, and to whom it concerns. What goes wrong here is said, and fails nothing.
fn keep_and_tell(ctx: &Context, night: Night) -> Done {
    let mut done = what_came_of(night);
    let record = &done.record;
    let before = history::read(&ctx.state, &record.server).unwrap_or_default();
    if let Err(error) = history::append(&ctx.state, record) {
        done.not_told
            .push(format!("this run isn't in the history: {error}"));
    }
    failpoint::hit("run-kept");
    done.not_told.extend(tell_of(ctx, record, &before));
    if done.night.held.is_some()
        && let Err(error) = begun::clear(&ctx.state, &record.server)
    {
        done.not_told.push(error.to_string());
    }
    tell(&done.not_told);
    // From here on the next one may begin.
    done.night.held = None;
    done
}

/// What a killed run left untold comes first; from now on this one leaves as much.
fn begin(ctx: &Context, server: &str, began: Timestamp) {
    settle(ctx, server);
    if let Err(error) = begun::note(&ctx.state, server, began) {
        tracing::error!("should this run be killed, the history won't tell: {error}");
    }
}

/// Of every server that has run, also before: the file is replaced whole.
fn write_metrics(ctx: &Context) -> Option<String> {
    let path = ctx.config.metrics_file.as_ref()?;
    let runs = ctx.config.servers.keys().filter_map(|name| {
        let history = history::read(&ctx.state, name).ok()?;
        Some((name.clone(), history))
    });
    let text = metrics::of_runs(&runs.collect::<Vec<_>>());
    let error = files::publish(path, text.as_bytes()).err()?;
    let line = format!("the metrics weren't written: {error}");
    tracing::error!("{line}");
    Some(line)
}

/// What was only busy is neither: nobody hears of it, unless all the others were good.
fn end_ping(ping: Ping<'_>, done: &[Done]) -> Vec<String> {
    let tried: Vec<&Record> = done
        .iter()
        .map(|one| &one.record)
        .filter(|one| !one.is_busy())
        .collect();
    if tried.is_empty() {
        return Vec::new();
    }
    let is_good = tried.iter().all(|record| record.is_done());
    let text: Vec<String> = tried.iter().map(|record| record.summary()).collect();
    let not_told = ping.end(is_good, &text.join("\n"));
    tell(&not_told);
    not_told
}

/// What came of a night, as it is kept and told.
fn what_came_of(mut night: Night) -> Done {
    let failed = night.failed.take();
    let step = failed.as_ref().map(|failed| failed.step.to_owned());
    let failure = failed.map(|failed| match failed.why {
        Why::Error(error) => Failure::from(error),
        Why::NotPruned(reason) => Failure::new(Kind::Failed, reason),
        Why::Unproven => night
            .snapshot
            .as_ref()
            .and_then(unproven)
            .unwrap_or_else(|| Failure::new(Kind::Unproven, "the snapshot isn't good")),
    });
    Done {
        record: record(&night, step, failure.as_ref()),
        night,
        failure,
        not_told: Vec::new(),
    }
}

fn record(night: &Night, step: Option<String>, failure: Option<&Failure>) -> Record {
    let snapshot = night.snapshot.as_ref();
    let proof = snapshot.and_then(|snapshot| snapshot.verification.as_ref());
    let took = night.ended.duration_since(night.began).as_millis();
    let mut warnings = night.warnings.clone();
    warnings.extend(snapshot.map(|s| s.warnings.clone()).unwrap_or_default());
    warnings.extend(proof.map(|p| p.warnings.clone()).unwrap_or_default());
    let gone = |one: &&Pruned| !one.keep && one.error.is_none();
    Record {
        version: record::VERSION,
        server: night.server.clone(),
        began: clock::rfc3339(night.began),
        ended: clock::rfc3339(night.ended),
        took_ms: u64::try_from(took).unwrap_or_default(),
        result: failure.map_or(record::DONE, |f| f.kind.word()).to_owned(),
        exit: failure.map_or(0, |failure| failure.kind.code()),
        step,
        recovered: night
            .recovered
            .iter()
            .flat_map(|one| one.actions.clone())
            .collect(),
        snapshot: snapshot.map(|snapshot| snapshot.id.clone()),
        backend: snapshot.map(|snapshot| plan::kind_word(snapshot.backend_kind).to_owned()),
        pause_ms: snapshot.and_then(|snapshot| Some(snapshot.timing?.pause_ms)),
        level: night.tonight.as_ref().and_then(|tonight| tonight.level),
        level_reason: night
            .tonight
            .as_ref()
            .map(|tonight| tonight.why.clone())
            .unwrap_or_default(),
        proof: snapshot.map(|snapshot| snapshot.proof),
        tables: proof.and_then(|proof| proof.tables),
        compared_with: proof.and_then(|proof| proof.compared_with.clone()),
        verify_ms: proof.map(|proof| proof.total_ms),
        pruned: night
            .pruned
            .iter()
            .filter(gone)
            .map(|one| one.id.clone())
            .collect(),
        kept: night.kept.map(|kept| kept.count),
        kept_bytes: night.kept.and_then(|kept| kept.bytes),
        warnings,
        error: failure.map(|failure| Told {
            kind: failure.kind.word().to_owned(),
            message: failure.message.clone(),
            hints: failure.hints.clone(),
        }),
    }
    .bounded()
}

/// All of them in one document or text; the failure, when there is one, is the worst.
fn report(ui: &Ui, done: Vec<Done>) -> Result<(), Failure> {
    let document = json!({"run": {"servers": done.iter().map(server_json).collect::<Vec<_>>()}});
    let text = || done.iter().map(render).collect::<Vec<_>>().join("\n");
    if done.iter().all(|told| told.failure.is_none()) {
        ui.result(&document, text);
        return Ok(());
    }
    if !ui.is_json() {
        ui::print_text(&text());
    }
    let several = done.len() > 1;
    let mut failures: Vec<(String, Failure)> = done
        .into_iter()
        .filter_map(|told| Some((told.record.server, told.failure?)))
        .collect();
    // The first of equals.
    failures.sort_by_key(|(_, failure)| failure.kind.rank());
    let messages = failures.iter().map(|(server, failure)| match several {
        true => format!("{server}: {}", failure.message),
        false => failure.message.clone(),
    });
    let message = messages.collect::<Vec<_>>().join("; ");
    let mut worst = Failure::new(failures[0].1.kind, message).with(document);
    for hint in failures.into_iter().flat_map(|(_, failure)| failure.hints) {
        if !worst.hints.contains(&hint) {
            worst.hints.push(hint);
        }
    }
    Err(worst)
}

fn server_json(told: &Done) -> Value {
    let mut json = json!(told.record);
    json["manifest"] = json!(told.night.snapshot);
    json["not_told"] = json!(told.not_told);
    json["prune"] = json!(told.night.pruned);
    json
}

fn render(told: &Done) -> String {
    let page = Page::of_stdout();
    let record = &told.record;
    let took = ui::ms(record.took_ms);
    let mut lines = vec![match &record.step {
        None => format!("{}: done in {took}", record.server),
        Some(step) => format!(
            "{}: {} at {step}, after {took}",
            record.server, record.result
        ),
    }];
    let mut line =
        |what: &str, text: &str| lines.extend(page.wrapped(&format!("  {what:<9} "), text));
    for action in &record.recovered {
        line("recovered", action);
    }
    if let (Some(id), Some(pause)) = (&record.snapshot, record.pause_ms) {
        let backend = record.backend.as_deref().unwrap_or_default();
        line(
            "snapshot",
            &format!("{id}, {backend}, paused {}", ui::ms(pause)),
        );
    }
    if let Some(tonight) = &told.night.tonight {
        line("proof", &proof(record, tonight));
    }
    if let Some(kept) = record.kept {
        let gone = record.pruned.len();
        let bytes = record.kept_bytes.map(ui::bytes);
        let size = bytes.map_or(String::new(), |bytes| format!(", {bytes} in all"));
        line("prune", &format!("{gone} deleted, {kept} kept{size}"));
    }
    for warning in &record.warnings {
        line("warning", warning);
    }
    lines.join("\n")
}

/// `boot (as every night): a server came up on it, in 1.2 s`.
fn proof(record: &Record, tonight: &Tonight) -> String {
    let level = match tonight.level {
        None => return format!("none ({})", tonight.why),
        Some(level) => level_word(level),
    };
    let reached = match record.proof {
        None | Some(Proof::Taken) => "there is none",
        Some(Proof::Failed) => "it isn't good",
        Some(Proof::Read) => "all of it is what was written",
        Some(Proof::Booted) => "a server came up on it",
        Some(Proof::Checked) => "a server came up, all tables are well",
        Some(Proof::Rows) => "a server came up, all rows are as they should be",
    };
    let took = record
        .verify_ms
        .map(|took| format!(", in {}", ui::ms(took)))
        .unwrap_or_default();
    format!("{level} ({}): {reached}{took}", tonight.why)
}

fn level_word(level: Level) -> &'static str {
    match level {
        Level::Read => "read",
        Level::Boot => "boot",
        Level::Tables => "tables",
        Level::Rows => "rows",
    }
}

fn dry_run(cli: &Cli, ui: &Ui, args: &Args) -> Result<(), Failure> {
    let plans = with_context(cli, ui, |ctx| {
        let servers = wanted(ctx, args)?.into_iter();
        let plans = servers.map(|server| Ok((plan_of(ctx, &server, args)?, server)));
        plans.collect::<Result<Vec<_>, Failure>>()
    })?;
    let json: Vec<Value> = plans.iter().map(|((json, _), _)| json.clone()).collect();
    ui.result(&json!({"dry_run": true, "plan": {"servers": json}}), || {
        let texts: Vec<String> = plans.into_iter().map(|((_, text), _)| text).collect();
        texts.join("\n")
    });
    Ok(())
}

/// The plan of one server, as JSON and text.
fn plan_of(ctx: &Context, server: &str, args: &Args) -> Result<(Value, String), Failure> {
    let left = lifecycle::left_over(ctx, Some(server))?;
    let ready = create::plan_only(ctx, server, &options(args))?;
    let tonight = run::tonight(ctx, server)?;
    let pruned = lifecycle::prune(ctx, Some(server), true)?;
    let steps = plan::describe(&ready.plan);
    let json = json!({
        "server": server,
        "recover": left,
        "backend": ready.plan.backend.choice(),
        "consistency": ready.plan.consistency,
        "steps": steps,
        "level": tonight.level,
        "level_reason": tonight.why,
        "prune": pruned,
        "warnings": ready.plan.warnings,
    });
    let page = Page::of_stdout();
    let mut lines = vec![format!("{server}: would")];
    let mut line =
        |what: &str, text: &str| lines.extend(page.wrapped(&format!("  {what:<9} "), text));
    for operation in &left {
        line("recover", &format!("look after {}", operation.operation));
    }
    line(
        "snapshot",
        &format!(
            "take one by {}, in {} steps",
            plan::kind_word(ready.plan.backend),
            steps.len()
        ),
    );
    let level = tonight.level.map_or("nothing", level_word);
    line("proof", &format!("{level} ({})", tonight.why));
    let gone: Vec<&str> = pruned
        .iter()
        .filter(|p| !p.keep)
        .map(|p| p.id.as_str())
        .collect();
    line(
        "prune",
        &match gone.as_slice() {
            [] => format!(
                "delete nothing of {} snapshots, as they are now",
                pruned.len()
            ),
            gone => format!(
                "delete {} of {}: {}",
                gone.len(),
                pruned.len(),
                gone.join(", ")
            ),
        },
    );
    for warning in &ready.plan.warnings {
        line("warning", warning);
    }
    Ok((json, lines.join("\n")))
}
