//! `switchover PAIR`.

use std::time::Duration;

use super::Cli;
use super::failure::Failure;
use super::roles::tell;
use super::session::with_context;
use super::ui::Ui;
use crate::failover::assess::Wish;
use crate::failover::switchover::{self, Request};

/// Make a replica the source, as planned: nothing is lost, writers wait for a moment
///
/// Checks first everything that could stop it half-way, and waits until the replica is near. Then the
/// source takes no more writes and its clients are disconnected; the replica applies what is left and
/// is opened; it stops following, and everybody else, the old source too, follows it by GTID. Events
/// move along. At the end a value is written through.
///
/// Until the replica is opened everything is put back when a step fails or you interrupt it: the old
/// source takes writes again. From then on the rest is carried through, after a kill by `understudy
/// recover`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The pair, as the configuration names it
    pair: String,

    /// The replica that becomes the source [default: the one that has most]
    #[arg(long, value_name = "SERVER")]
    to: Option<String>,

    /// Refuse when that replica is further behind
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = humantime::parse_duration)]
    max_lag: Duration,

    /// For everything before the replica is opened
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = humantime::parse_duration)]
    timeout: Duration,

    /// How long what clients have begun (statements, writing transactions, locks) may take to end by
    /// itself before; then their sessions are ended. Without it long statements are waited for, for as
    /// long as --timeout says, and open transactions are ended at once
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = humantime::parse_duration)]
    grace: Duration,

    /// Only check, and say what would be done
    #[arg(short = 'n', long)]
    dry_run: bool,
}

pub fn run(cli: &Cli, ui: &Ui, args: &Args) -> Result<(), Failure> {
    let request = Request {
        pair: args.pair.clone(),
        wish: Wish {
            to: args.to.clone(),
            max_lag: args.max_lag,
        },
        timeout: args.timeout,
        grace: args.grace,
    };
    let report = with_context(cli, ui, |ctx| {
        let planned = switchover::look(ctx, &request)?;
        if args.dry_run {
            return Ok(planned);
        }
        ui.confirm(&format!(
            "make {} the source instead of {}?",
            planned.new_source, planned.old_source
        ))?;
        Ok(switchover::perform(ctx, &request)?)
    })?;
    tell(ui, &report)
}
