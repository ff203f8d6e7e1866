//! A server that has more than the source, and whose surplus is exported, gets other data: a snapshot
//! of its own of before, or all of the source's.

use std::time::{Duration, Instant};

use super::rest::step;
use super::steps;
use crate::journal::operation::Step;
use crate::replication::plan::{Provision, Wish};
use crate::replication::request::{Prepared, Request};
use crate::replication::{SetupError, setup};
use crate::snapshot::keep::fit::Fit;
use crate::snapshot::keep::{catalog, present};
use crate::snapshot::manifest::{Manifest, Proof, State};
use crate::snapshot::restore::in_place::{self, Options, RolledBack};
use crate::snapshot::{Context, SnapshotError};

/// As `setup` has it.
const CATCH_UP: Duration = Duration::from_secs(86_400);

const REJOINS: Options = Options {
    accept_loss: false,
    rejoins: true,
};

/// Which snapshot, and the steps to it, for people.
pub fn plan_rollback(
    ctx: &Context,
    server: &str,
    source: &str,
) -> Result<(String, Vec<String>), SnapshotError> {
    let manifest = choose(ctx, server, source, &[])?;
    let plan = in_place::plan(ctx, &manifest.id, REJOINS)?;
    Ok((manifest.id, plan.steps))
}

/// Puts the newest usable snapshot in place that wasn't `tried`; those that turn out to be bad are passed
/// over.
pub fn roll_back(
    ctx: &Context,
    server: &str,
    source: &str,
    tried: &mut Vec<String>,
) -> Result<(RolledBack, Vec<Step>), SnapshotError> {
    loop {
        let manifest = choose(ctx, server, source, tried)?;
        tried.push(manifest.id.clone());
        let since = Instant::now();
        match in_place::restore(ctx, &manifest.id, REJOINS) {
            Ok(done) => {
                let detail = format!(
                    "{server} is what it was in {}; the state before is {}, held",
                    done.snapshot, done.undo
                );
                let steps = vec![step(steps::ROLLBACK, "changed", detail, since.elapsed())];
                return Ok((done, steps));
            }
            Err(error @ SnapshotError::Refused { .. }) if !is_bad_now(ctx, &manifest.id) => {
                return Err(error);
            }
            Err(error @ SnapshotError::Refused { .. }) => {
                tracing::warn!("{} is passed over: {error}", manifest.id);
            }
            Err(error) => return Err(error),
        }
    }
}

fn is_bad_now(ctx: &Context, id: &str) -> bool {
    catalog::find(ctx, id).is_ok_and(|manifest| manifest.proof == Proof::Failed)
}

fn choose(
    ctx: &Context,
    server: &str,
    source: &str,
    tried: &[String],
) -> Result<Manifest, SnapshotError> {
    let snapshots = catalog::list(&ctx.config, &ctx.state, Some(server))?;
    let fits = present::fits(ctx, &snapshots);
    let usable = snapshots
        .iter()
        .zip(&fits)
        .find(|(manifest, fit)| is_usable(manifest, fit.as_ref()) && !tried.contains(&manifest.id));
    usable.map(|(manifest, _)| manifest.clone()).ok_or_else(|| {
        SnapshotError::refused(
            format!(
                "no usable snapshot of {server} fits {source}{}",
                match tried {
                    [] => "",
                    _ => " but those that turned out bad",
                }
            ),
            format!(
                "`understudy snapshot list {server}` says what each is. `understudy rejoin {server} \
                 --provision clone` (or dump) gives it the data of {source}."
            ),
        )
    })
}

fn is_usable(manifest: &Manifest, fit: Option<&Fit>) -> bool {
    manifest.state == State::Complete
        && manifest.proof != Proof::Failed
        && manifest.boot.is_some()
        && manifest.mounts.is_empty()
        && fit == Some(&Fit::Fits)
}

fn request(pair: &str, server: &str, source: &str, provision: &Provision) -> Request {
    Request {
        pair: pair.to_owned(),
        replica: Some(server.to_owned()),
        source: Some(source.to_owned()),
        wish: Wish {
            provision: Some(provision.clone()),
            replace: true,
            ..Wish::default()
        },
        account_host: None,
        catch_up: CATCH_UP,
        // Once it follows, `rejoin` sees to that.
        semi_sync: false,
        option_file: None,
    }
}

fn prepare(ctx: &Context, request: &Request, server: &str) -> Result<Prepared, SetupError> {
    let (pair, _) = setup::replicas(ctx, request)?;
    setup::look(ctx, pair, server, request)
}

pub fn plan_provision(
    ctx: &Context,
    pair: &str,
    server: &str,
    source: &str,
    provision: &Provision,
) -> Result<setup::Report, SetupError> {
    let request = request(pair, server, source, provision);
    Ok(prepare(ctx, &request, server)?.dry_run(ctx))
}

/// All of the server's data goes, and that of the source comes, by the steps of `setup`.
pub fn provision(
    ctx: &Context,
    pair: &str,
    server: &str,
    source: &str,
    provision: &Provision,
) -> Result<setup::Report, SetupError> {
    let request = request(pair, server, source, provision);
    let ready = prepare(ctx, &request, server)?;
    setup::perform(ctx, &request, &ready)
}
