//! What would stop a switchover or a failover now: for `doctor`. Changes nothing, but a reroute by
//! `exec` is asked, which runs its program.

use super::assess::{self, Wish};
use super::look::{self, Burdens, Change};
use super::scene::Scene;
use super::switchover;
use crate::config::FailoverConfig;
use crate::health::check::{Check, Status};
use crate::health::picture::Picture;
use crate::health::view::{Answer, Limits, PairView};
use crate::snapshot::error::Refusal;
use crate::snapshot::{Context, SnapshotError};

const SWITCHOVER: &str = "switchover.ready";
const FAILOVER: &str = "failover.candidate";
const ACCOUNT: &str = "failover.account";

pub fn checks(ctx: &Context, pair: &str, wish: &Wish) -> Result<Vec<Check>, SnapshotError> {
    let scene = Scene::observe(ctx, pair)?;
    let burdens = scene.burdens(ctx);
    let account = of_account(&scene, &burdens);
    let mut checks = switchover_checks(ctx, &scene, wish, &account);
    checks.extend(failover_checks(&scene, &burdens, &account));
    checks.extend(account_check(&account));
    Ok(checks)
}

/// What the account lacks for a change of roles. An account of its own may have it, so that for `doctor`,
/// which any account may run, it is told and no more.
fn of_account(scene: &Scene<'_>, burdens: &Burdens) -> Vec<Refusal> {
    let picture = Picture::of(&scene.view, Limits::default());
    let mut all = Vec::new();
    for change in [Change::Switchover, Change::Failover] {
        let looked = look::all_privileges(&picture, burdens, change);
        for refusal in looked.refusals {
            if !all.contains(&refusal) {
                all.push(refusal);
            }
        }
    }
    all
}

fn account_check(account: &[Refusal]) -> Option<Check> {
    let first = account.first()?;
    let more = match account.len() {
        1 => String::new(),
        count => format!("; and {} like it", count - 1),
    };
    Some(Check {
        id: ACCOUNT.to_owned(),
        server: None,
        status: Status::Warn,
        message: format!(
            "no change of roles with this account: {}{more}",
            first.reason
        ),
        hint: format!("{} One account for it alone will do.", first.hint),
    })
}

/// As `switchover --dry-run`, one check per refusal.
fn switchover_checks(
    ctx: &Context,
    scene: &Scene<'_>,
    wish: &Wish,
    account: &[Refusal],
) -> Vec<Check> {
    let pair = &scene.pair.name;
    let request = switchover::Request {
        pair: pair.clone(),
        wish: wish.clone(),
        timeout: std::time::Duration::ZERO,
        grace: std::time::Duration::ZERO,
    };
    let of_pair = |status, message, hint| Check {
        id: SWITCHOVER.to_owned(),
        server: None,
        status,
        message,
        hint,
    };
    match switchover::look_at(ctx, scene, &request) {
        Ok((planned, notes)) => std::iter::once(Check::new(
            SWITCHOVER,
            &planned.new_source,
            Status::Ok,
            format!(
                "nothing stands against a switchover: {} would take the place of {}",
                planned.new_source, planned.old_source
            ),
            "",
        ))
        .chain(
            notes
                .into_iter()
                .map(|note| of_pair(Status::Warn, note.reason, note.hint)),
        )
        .collect(),
        Err(SnapshotError::Refused { refusals }) => refusals
            .into_iter()
            .filter(|refusal| !account.contains(refusal))
            .map(|refusal| {
                let message = format!("no switchover of {pair} now: {}", refusal.reason);
                of_pair(Status::Fail, message, refusal.hint)
            })
            .collect(),
        Err(error) => vec![of_pair(
            Status::Unknown,
            format!("whether a switchover of {pair} would do isn't known: {error}"),
            format!("`understudy switchover {pair} --dry-run` says more."),
        )],
    }
}

/// Who could take over if the source died now. Where that needs a decision first, the switchover's
/// refusals say so.
fn failover_checks(scene: &Scene<'_>, burdens: &Burdens, account: &[Refusal]) -> Vec<Check> {
    let view = &scene.view;
    let picture = Picture::of(view, Limits::default());
    let Some(source) = picture.roles.source else {
        return Vec::new();
    };
    if assess::refuse_two_writable(&picture).is_some() {
        return Vec::new();
    }
    if picture.roles.followers(source).next().is_none() {
        let (name, pair) = (&view.servers[source].name, &scene.pair.name);
        return vec![Check::new(
            FAILOVER,
            name,
            Status::Fail,
            format!("nobody follows {name}, so nobody could take over if it died"),
            format!("`understudy setup {pair}` makes a replica follow."),
        )];
    }
    let dead = without(view, source);
    let others = (0..view.servers.len()).filter(|server| *server != source);
    let judged: Vec<(&str, Against)> = others
        .map(|server| {
            let terms = &scene.pair.failover;
            let mut against = against(&picture, (&dead, burdens), server, terms);
            against
                .refusals
                .retain(|refusal| !account.contains(refusal));
            (view.servers[server].name.as_str(), against)
        })
        .collect();
    let is_anybody_left = judged
        .iter()
        .any(|(_, against)| against.refusals.is_empty());
    let excluded = match is_anybody_left {
        true => Status::Warn,
        false => Status::Fail,
    };
    let check = |(name, Against { refusals, notes }): &(&str, Against)| -> Vec<Check> {
        if refusals.is_empty() {
            let source = &view.servers[source].name;
            let message = format!("{name} could take over if {source} died");
            let notes = notes.iter().map(|note| {
                Check::new(
                    FAILOVER,
                    name,
                    Status::Warn,
                    &note.reason,
                    note.hint.clone(),
                )
            });
            return std::iter::once(Check::new(FAILOVER, name, Status::Ok, message, ""))
                .chain(notes)
                .collect();
        }
        let told = refusals.iter().map(|refusal| {
            let message = format!("{name} couldn't take over: {}", refusal.reason);
            Check::new(FAILOVER, name, excluded, message, refusal.hint.clone())
        });
        told.collect()
    };
    judged.iter().flat_map(check).collect()
}

/// The same pair, as it would be seen.
fn without(view: &PairView, source: usize) -> PairView {
    let mut dead = view.clone();
    dead.servers[source].answer = Answer::Silent {
        reason: "it is thought of as dead".to_owned(),
    };
    dead
}

/// What stands against one, and what is worth knowing of it.
struct Against {
    refusals: Vec<Refusal>,
    notes: Vec<Refusal>,
}

/// What keeps a replica from taking over: what a failover would say then, and what only its source
/// can tell while it lives.
fn against(
    picture: &Picture<'_>,
    (dead, burdens): (&PairView, &Burdens),
    server: usize,
    configured: &FailoverConfig,
) -> Against {
    let name = picture.server(server).name.as_str();
    let then = Picture::of(dead, Limits::default());
    let (mut refusals, notes) = match assess::failover(&then, burdens, Some(name), configured) {
        Ok(candidates) => (Vec::new(), candidates.notes),
        Err(refusals) => (refusals, Vec::new()),
    };
    if let Some(condition) = picture.server(server).condition() {
        let now = super::against::of_replica(picture, server, name, condition);
        for refusal in now {
            if !refusals.iter().any(|told| told.reason == refusal.reason) {
                refusals.push(refusal);
            }
        }
    }
    Against { refusals, notes }
}
