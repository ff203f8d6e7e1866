//! `doctor [PAIR|SERVER]`.

use std::time::Duration;

use serde_json::json;

use super::Cli;
use super::failure::{Failure, Kind};
use super::page::Page;
use super::session::with_plain_context;
use super::status;
use super::ui::{self, Ui};
use crate::failover::assess::Wish;
use crate::failover::rehearse;
use crate::health::Severity;
use crate::health::check::{Check, Status};
use crate::health::doctor::{self, Options};
use crate::snapshot::Context;

/// Say everything that would stop a snapshot or a failover, each with its cure
///
/// Looks longer than `check` does: it rehearses tonight's snapshot and a switchover as far as nothing
/// is changed (a reroute by `exec` is asked whether it could, which runs its program), says who could
/// take over if the source died, compares each replica with the source that it would replace, and asks
/// how servers come up after a restart. Run it on the host that takes the snapshots. Exit code 0 without a fail, 4 with one.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A pair or a server
    name: Option<String>,

    /// Measure the longest row of every table with large columns too, which reads all of them
    #[arg(long)]
    deep: bool,

    /// How long all servers together may take to answer
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = humantime::parse_duration)]
    timeout: Duration,
}

/// Where the words begin.
const INDENT: usize = 9;

/// What `switchover` allows by itself.
const MAX_LAG: Duration = Duration::from_secs(5);

pub fn run(cli: &Cli, ui: &Ui, args: &Args) -> Result<(), Failure> {
    let options = Options {
        limit: args.timeout,
        deep: args.deep,
    };
    let checks = with_plain_context(cli, |ctx| checks(ctx, args.name.as_ref(), options))?;
    let fails = checks
        .iter()
        .filter(|check| check.status == Status::Fail)
        .count();
    let document = json!({"checks": checks});
    if fails == 0 {
        ui.result(&document, || render(&checks, &Page::of_stdout()));
        return Ok(());
    }
    if !ui.is_json() {
        ui::print_text(&render(&checks, &Page::of_stdout()));
    }
    let what = match fails {
        1 => "1 check fails".to_owned(),
        some => format!("{some} checks fail"),
    };
    Err(Failure::new(
        Kind::Refused,
        format!("{what}: a snapshot, a restore or a change of roles now would too"),
    )
    .hint("Each one has its cure beside it.")
    .with(document))
}

/// As `doctor` looks without flags.
pub const USUAL: Options = Options {
    limit: Duration::from_secs(5),
    deep: false,
};

/// The checks of a pair, of a server, or of everything; the worst first.
pub fn checks(
    ctx: &Context,
    name: Option<&String>,
    options: Options,
) -> Result<Vec<Check>, Failure> {
    let wanted = match name {
        None => status::every_pair(ctx),
        Some(name) if ctx.config.pairs.contains_key(name) => {
            vec![(Some(name.clone()), status::pair_named(ctx, name)?)]
        }
        Some(name) => {
            ctx.server(name)?;
            match ctx.config.pair_of(name) {
                Some(pair) => vec![(
                    Some(pair.name.clone()),
                    status::pair_named(ctx, &pair.name)?,
                )],
                None => vec![(None, vec![name.clone()])],
            }
        }
    };
    let mut checks: Vec<Check> = Vec::new();
    for (pair, servers) in wanted {
        for check in doctor::examine(ctx, pair.as_deref(), &servers, options)? {
            if !checks.contains(&check) {
                checks.push(check);
            }
        }
        if let Some(pair) = pair.filter(|_| servers.len() > 1) {
            let wish = Wish {
                to: None,
                max_lag: MAX_LAG,
            };
            checks.extend(rehearse::checks(ctx, &pair, &wish)?);
        }
    }
    // Of a server, what is its own, and what is of all.
    if let Some(name) = name.filter(|name| !ctx.config.pairs.contains_key(*name)) {
        checks.retain(|check| check.server.as_ref().is_none_or(|server| server == name));
    }
    checks.sort_by_key(|check| std::cmp::Reverse(check.status));
    Ok(checks)
}

pub fn render(checks: &[Check], page: &Page) -> String {
    let mut lines = Vec::new();
    for check in checks {
        let (severity, word) = match check.status {
            Status::Ok => (None, "ok"),
            Status::Unknown => (Some(Severity::Unknown), "unknown"),
            Status::Warn => (Some(Severity::Warning), "warn"),
            Status::Fail => (Some(Severity::Critical), "fail"),
        };
        let server = check.server.as_deref().unwrap_or("-");
        let head = format!(
            "{}{}  {server}  ",
            page.severity(severity, word),
            " ".repeat(7usize.saturating_sub(word.len())),
        );
        let text = format!("{} [{}]", check.message, check.id);
        lines.extend(page.hanging(&head, INDENT, &text));
        if !check.hint.is_empty() {
            lines.extend(page.wrapped(&" ".repeat(INDENT), &check.hint));
        }
    }
    lines.join("\n")
}
