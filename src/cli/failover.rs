//! `failover PAIR`.

use std::time::Duration;

use super::Cli;
use super::failure::Failure;
use super::roles::tell;
use super::session::with_context;
use super::ui::Ui;
use crate::config::{Config, FailoverConfig};
use crate::failover::takeover::{self, Request};

/// Make a replica the source, since the source is dead
///
/// First it makes sure of that: neither we nor any replica reach it. A snapshot in progress is ended.
/// Replicas stop fetching and apply what they have; the one that has most becomes the source, the
/// others follow it. A receipt says what may be lost.
///
/// The old source has to stay off until it rejoins, or two servers would take writes. When it can't be
/// reached, the program that the configuration names (fence) makes sure of that; without one nobody can
/// but you: see that it is off, and say --unfenced. When it comes back, run `understudy rejoin` for it before anybody uses it.
///
/// Until the replica is opened everything is put back when a step fails; from then on the rest is
/// carried through, after a kill by `understudy recover`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The pair, as the configuration names it
    pair: String,

    /// The replica that becomes the source [default: the one that has most]
    #[arg(long, value_name = "SERVER")]
    to: Option<String>,

    /// The old source can't be reached, and I know that it is off and stays off: no fence is run
    #[arg(long)]
    unfenced: bool,

    /// Refuse when more transactions are lost, or when that can't be told
    #[arg(long, value_name = "N")]
    max_loss: Option<u64>,

    /// Leave out what only the dead source's binary logs hold: it is kept as SQL, and not brought in
    #[arg(long)]
    no_salvage: bool,

    /// How long what was received may take to be applied [default: the configuration's, else 60s]
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    drain: Option<Duration>,

    /// How long the source has to be silent [default: the configuration's, else 5s]
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    confirm: Option<Duration>,

    /// Also soon after the pair's last failover (cooldown in the configuration, else ten minutes)
    #[arg(long)]
    again: bool,

    /// Only check, and say what would be done
    #[arg(short = 'n', long)]
    dry_run: bool,
}

/// What is given with the command wins over the configuration.
fn request(config: &Config, args: &Args) -> Request {
    let pair = config.pairs.get(&args.pair);
    let terms = pair.map_or_else(FailoverConfig::default, |pair| pair.failover.clone());
    Request {
        pair: args.pair.clone(),
        to: args.to.clone(),
        unfenced: args.unfenced,
        max_loss: args.max_loss.or(terms.max_loss),
        drain: args.drain.unwrap_or(terms.drain),
        confirm: args.confirm.unwrap_or(terms.confirm),
        salvage: !args.no_salvage,
        again: args.again,
    }
}

pub fn run(cli: &Cli, ui: &Ui, args: &Args) -> Result<(), Failure> {
    let report = with_context(cli, ui, |ctx| {
        let request = request(&ctx.config, args);
        let planned = takeover::look(ctx, &request)?;
        if args.dry_run {
            return Ok(planned);
        }
        ui.confirm(&format!(
            "give {} up, and make {} the source?",
            planned.old_source, planned.new_source
        ))?;
        Ok(takeover::perform(ctx, &request)?)
    })?;
    tell(ui, &report)
}
