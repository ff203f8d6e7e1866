//! `status [PAIR] [--watch]`.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use serde_json::json;

use super::Cli;
use super::failure::{Failure, Kind};
use super::page::{Cell, Column, Page, Table};
use super::session::with_context;
use super::ui::{self, Ui};
use crate::health::report::{self, PairReport, ServerReport};
use crate::health::{Limits, Look, Picture, Severity, known, observe};
use crate::server::Session;
use crate::snapshot::Context;
use crate::snapshot::keep::catalog::Storage;
use crate::sys::clock;

/// Show who is source now, how its replicas are, and what is wrong
///
/// All servers are asked at the same time; one that hangs costs its own row only. Roles are what
/// the servers say, not what the configuration says. docs/STATUS.md explains every column, and
/// docs/RULES.md every finding.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only this pair
    pair: Option<String>,

    /// Draw it again and again, in place, until Ctrl-C
    #[arg(long, conflicts_with = "accept")]
    watch: bool,

    /// How long to wait between two looks of --watch
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = humantime::parse_duration)]
    every: Duration,

    /// How long all servers together may take to answer
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = humantime::parse_duration)]
    timeout: Duration,

    /// The server that answers under this name now is the right one: remember its identity
    #[arg(long, value_name = "SERVER")]
    accept: Option<String>,
}

pub fn run(cli: &Cli, ui: &Ui, args: &Args) -> Result<(), Failure> {
    with_context(cli, ui, |ctx| {
        if let Some(server) = &args.accept {
            return accept(ctx, ui, server);
        }
        if args.watch {
            return watch(ctx, ui, args);
        }
        let pairs = look(ctx, args)?;
        ui.result(&json!({"pairs": pairs}), || {
            render(&pairs, cli.verbose > 0, &Page::of_stdout())
        });
        Ok(())
    })
}

fn look(ctx: &Context, args: &Args) -> Result<Vec<PairReport>, Failure> {
    let wanted: Vec<(Option<String>, Vec<String>)> = match &args.pair {
        Some(name) => {
            let pair = pair_named(ctx, name)?;
            vec![(Some(name.clone()), pair)]
        }
        None => every_pair(ctx),
    };
    let look = Look {
        limit: args.timeout,
        storage: Some(Storage::All),
    };
    // All pairs at once, so that the limit is one for all of them.
    std::thread::scope(|scope| {
        let looks: Vec<_> = wanted
            .iter()
            .map(|(name, servers)| scope.spawn(|| observe(ctx, name.as_deref(), servers, &look)))
            .collect();
        looks
            .into_iter()
            .map(|look| {
                let view = match look.join() {
                    Ok(view) => view?,
                    Err(panic) => std::panic::resume_unwind(panic),
                };
                let picture = Picture::of(&view, Limits::default());
                Ok(report::report(&picture, &[]))
            })
            .collect()
    })
}

/// The servers of a pair, its source first.
pub fn pair_named(ctx: &Context, name: &str) -> Result<Vec<String>, Failure> {
    let Some(pair) = ctx.config.pairs.get(name) else {
        let names: Vec<&str> = ctx.config.pairs.keys().map(String::as_str).collect();
        let hint = match names.as_slice() {
            [] => "The configuration has no [pair.NAME].".to_owned(),
            names => format!("The configuration has the pairs: {}.", names.join(", ")),
        };
        return Err(Failure::new(Kind::Usage, format!("no pair is called {name}")).hint(hint));
    };
    let mut servers = vec![pair.source.clone()];
    servers.extend(pair.replicas.iter().cloned());
    Ok(servers)
}

/// And the servers that are in none, each by itself.
pub fn every_pair(ctx: &Context) -> Vec<(Option<String>, Vec<String>)> {
    let mut wanted: Vec<(Option<String>, Vec<String>)> = Vec::new();
    for pair in ctx.config.pairs.values() {
        let mut servers = vec![pair.source.clone()];
        servers.extend(pair.replicas.iter().cloned());
        wanted.push((Some(pair.name.clone()), servers));
    }
    for server in ctx.config.servers.keys() {
        if ctx.config.pair_of(server).is_none() {
            wanted.push((None, vec![server.clone()]));
        }
    }
    wanted
}

fn accept(ctx: &Context, ui: &Ui, name: &str) -> Result<(), Failure> {
    let target = ctx.target(ctx.server(name)?)?;
    let session = Session::connect(&target).map_err(crate::snapshot::SnapshotError::from)?;
    let identity = session.identity();
    if !known::accept(&ctx.state, name, identity, clock::now()) {
        return Err(Failure::new(
            Kind::Failed,
            format!("cannot write below {}", ctx.state.root().display()),
        )
        .hint("Run it as root, or as the owner of state_dir."));
    }
    let document = json!({"accepted": {"server": name, "identity": identity}});
    ui.result(&document, || format!("{name} is {identity} from now on"));
    Ok(())
}

/// Until a signal. What is written over is what was there: nothing flickers.
fn watch(ctx: &Context, ui: &Ui, args: &Args) -> Result<(), Failure> {
    if ui.is_json() || !std::io::stdout().is_terminal() {
        return Err(
            Failure::new(Kind::Usage, "--watch draws on a terminal, and this is none")
                .hint("Call `understudy status --output json` as often as you need it."),
        );
    }
    let mut begin = "\x1b[2J\x1b[H";
    while !ctx.cancel.is_set() {
        let pairs = look(ctx, args)?;
        let lines: Vec<String> = render(&pairs, false, &Page::of_stdout())
            .lines()
            .map(|line| format!("{line}\x1b[K"))
            .collect();
        let now = format!("{:.0}", clock::now());
        let mut out = std::io::stdout().lock();
        let text = format!(
            "{begin}{}\r\n\x1b[K\r\n{now}  (Ctrl-C ends it)\x1b[K\x1b[J",
            lines.join("\r\n")
        );
        if write!(out, "{text}").and_then(|()| out.flush()).is_err() {
            break;
        }
        drop(out);
        begin = "\x1b[H";
        let until = std::time::Instant::now() + args.every;
        while std::time::Instant::now() < until && !ctx.cancel.is_set() {
            std::thread::sleep(Duration::from_millis(50));
        }
    }
    ui::print_text("");
    Ok(())
}

/// `snapshot show` has the version, too.
const COLUMNS: [Column; 8] = [
    Column::new("SERVER"),
    Column::new("ROLE"),
    Column::spare("VERSION", 1),
    Column::new("WRITES"),
    Column::new("THREADS"),
    Column::new("LAG"),
    Column::new("SNAPSHOT"),
    Column::new("PROOF"),
];

/// `whole`: versions as the servers word them.
fn render(pairs: &[PairReport], whole: bool, page: &Page) -> String {
    if pairs.is_empty() {
        return "the configuration names no server; `understudy config example` shows one"
            .to_owned();
    }
    pairs
        .iter()
        .map(|pair| render_pair(pair, whole, page))
        .collect::<Vec<_>>()
        .join("\n\n")
}

fn render_pair(pair: &PairReport, whole: bool, page: &Page) -> String {
    let state = page.severity(worst(pair), pair.state.word());
    let title = match (&pair.name, &pair.source) {
        (Some(name), Some(source)) => format!("{name}: {state}, source {source}"),
        (Some(name), None) => format!("{name}: {state}, no source"),
        (None, _) => format!("in no pair: {state}"),
    };
    let mut table = Table::new(&COLUMNS);
    for server in &pair.servers {
        table.row(row(server, whole));
    }
    let mut lines = vec![title];
    lines.extend(table.render(page, 2));
    for finding in pair.all_findings() {
        let word = page.severity(Some(finding.severity), finding.severity.word());
        let text = format!("{} [{}]", finding.message, finding.rule);
        lines.extend(page.hanging(&format!("  {word}: "), 4, &text));
        if finding.severity > Severity::Info {
            lines.extend(page.wrapped("    ", &finding.hint));
        }
    }
    lines.join("\n")
}

fn worst(pair: &PairReport) -> Option<Severity> {
    pair.all_findings().first().map(|finding| finding.severity)
}

fn row(server: &ServerReport, whole: bool) -> Vec<Cell> {
    let dash = || "-".to_owned();
    let role = serde_json::to_value(server.role).unwrap_or_default();
    let threads = match (server.io_running, server.sql_running, &server.paused_by) {
        (None, None, _) => dash(),
        (_, Some(false), Some(by)) => format!("paused ({by})"),
        (io, sql, _) => {
            let word = |running: Option<bool>| match running {
                Some(true) => "runs",
                Some(false) => "stopped",
                None => "?",
            };
            match (word(io), word(sql)) {
                ("runs", "runs") => "run".to_owned(),
                (io, sql) => format!("io {io}, sql {sql}"),
            }
        }
    };
    let cells = vec![
        server.name.clone(),
        role.as_str().unwrap_or_default().to_owned(),
        server
            .version
            .as_deref()
            .map_or_else(dash, |version| match whole {
                true => version.to_owned(),
                false => number_of(version).to_owned(),
            }),
        match (server.read_only, server.reachable) {
            (_, false) => "no answer".to_owned(),
            (Some(true), true) => "read-only".to_owned(),
            (Some(false), true) => "yes".to_owned(),
            (None, true) => dash(),
        },
        threads,
        server
            .lag_ms
            .map_or_else(dash, |ms| lag_cell(ms, server.delay_ms)),
        age(server.last_snapshot_time.as_deref()),
        age(server.last_proof_time.as_deref()),
    ];
    cells.into_iter().map(Cell::from).collect()
}

/// `10.11.14` of `10.11.14-MariaDB-0+deb12u2-log`: a line fits a terminal.
fn number_of(version: &str) -> &str {
    version
        .split_once('-')
        .map_or(version, |(number, _)| number)
}

/// The column's title says what it is.
fn lag_cell(lag_ms: u64, delay_ms: Option<u64>) -> String {
    let lag = ui::lag(lag_ms, delay_ms);
    lag.strip_suffix(" behind")
        .map_or(lag.clone(), str::to_owned)
}

fn age(time: Option<&str>) -> String {
    let Some(time) = time.and_then(|time| time.parse::<jiff::Timestamp>().ok()) else {
        return "-".to_owned();
    };
    let seconds = clock::now().duration_since(time).as_secs().max(0);
    format!("{} ago", ui::age(u64::try_from(seconds).unwrap_or(0)))
}
