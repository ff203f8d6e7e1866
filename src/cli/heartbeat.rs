//! `heartbeat SERVER`.

use std::time::Duration;

use serde_json::json;

use super::Cli;
use super::failure::{Failure, Kind};
use super::session::with_context;
use super::ui::Ui;
use crate::health::heartbeat::{self, Options};

/// Write the heartbeat that the true lag of replicas is read from
///
/// Once a second, the time goes into the table `understudy.heartbeat` on the source, and from there
/// to every replica. It is written on the source only, so that no replica ever gets a transaction
/// of its own: before each beat the servers of the pair are asked who the source is, and at least
/// one replica has to follow it. With --forever a beat that may not be written is left out, so that
/// it can run on every host of a pair and writes where the source is.
#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("length").required(true).args(["time", "forever"])))]
pub struct Args {
    /// The source, as the configuration names it
    server: String,

    /// End after this long
    #[arg(long = "for", id = "time", value_name = "DURATION", value_parser = humantime::parse_duration)]
    time: Option<Duration>,

    /// Until a signal
    #[arg(long)]
    forever: bool,

    /// Time between two beats
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = interval)]
    every: Duration,

    /// Only say what would be written, and whether it may be
    #[arg(short = 'n', long)]
    dry_run: bool,
}

fn interval(text: &str) -> Result<Duration, String> {
    let every = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    match every.as_millis() {
        50..=3_600_000 => Ok(every),
        _ => Err("between 50ms and 1h".to_owned()),
    }
}

pub fn run(cli: &Cli, ui: &Ui, args: &Args) -> Result<(), Failure> {
    let report = with_context(cli, ui, |ctx| {
        // For ever means: also while it isn't the source yet.
        if !args.forever || args.dry_run {
            let is_source = heartbeat::check_is_source(ctx, &args.server)?;
            is_source.map_err(|reason| {
                Failure::new(
                    Kind::Refused,
                    format!("no heartbeat on {}: {reason}", args.server),
                )
                .hint("`understudy status` shows who the source is; the heartbeat goes there.")
            })?;
        }
        let options = Options {
            every: args.every,
            length: args.time,
        };
        if args.dry_run {
            return Ok(heartbeat::Report {
                server: args.server.clone(),
                ..heartbeat::Report::default()
            });
        }
        let mut said: Option<String> = None;
        let report = heartbeat::run(ctx, &args.server, options, &mut |report| {
            if report.reason != said {
                match &report.reason {
                    Some(reason) => tracing::warn!(%reason, "a beat was left out"),
                    None => tracing::info!("beating"),
                }
                said.clone_from(&report.reason);
            }
        })?;
        Ok(report)
    })?;
    let document = json!({"heartbeat": report, "dry_run": args.dry_run});
    ui.result(&document, || match args.dry_run {
        true => format!(
            "would write the time into understudy.heartbeat on {} every {}",
            report.server,
            humantime::format_duration(args.every)
        ),
        false => format!(
            "{}: {} beats written, {} left out",
            report.server, report.beats, report.left_out
        ),
    });
    if report.beats == 0 && !args.dry_run && !args.forever {
        let reason = report
            .reason
            .unwrap_or_else(|| "the time was too short".to_owned());
        return Err(Failure::new(
            Kind::Failed,
            format!("no beat was written: {reason}"),
        ));
    }
    Ok(())
}
