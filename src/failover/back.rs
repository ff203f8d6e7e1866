//! A server that comes back follows the source: what is carried through, the proof, and what becomes of
//! its receipts.

use super::moment::prove;
use super::report::Lost;
use super::rest::{self, Cast};
use super::semi_sync;
use super::steps;
use crate::journal::Party;
use crate::journal::act::{Act, FreshLink, Link, Rest};
use crate::journal::operation::Step;
use crate::journal::{Operation, receipt};
use crate::server::channel::ChannelName;
use crate::server::promotion::Event;
use crate::snapshot::error::Refusal;
use crate::snapshot::{Context, SnapshotError};

/// A server that comes back, as it was found.
pub struct Ready {
    pub party: Party,
    pub cast: Cast,
    /// What it has and the source hasn't.
    pub surplus: String,
    /// What the source has, in the words that tell most.
    pub of_source: String,
    pub link: ChannelName,
    /// Channels that lead elsewhere.
    pub beside: Vec<ChannelName>,
    /// They run on it as on a source.
    pub events: Vec<Event>,
}

/// All that makes it follow, and what of it can't be had.
pub fn remains(ctx: &Context, pair: &str, ready: &Ready) -> (Vec<Rest>, Vec<String>) {
    let source = &ready.cast.candidate;
    let (host, port) = ready.cast.endpoint.clone();
    let act = Act::Follow {
        on: ready.party.reach(),
        link: Box::new(Link {
            channel: ready.link.clone(),
            to: source.name.clone(),
            host,
            port,
            fresh: Some(FreshLink {
                beside: ready.beside.clone(),
                ..rest::fresh(ctx, pair, source)
            }),
        }),
    };
    let follow = Rest { act, gate: true };
    let (mut remains, told) = semi_sync::returning(&ready.party, source, follow);
    remains.extend(
        ready
            .events
            .iter()
            .map(|event| rest::park(&ready.party, event)),
    );
    (remains, told)
}

/// Makes it follow; the operation's steps, and what isn't as it should be.
pub fn follow(
    ctx: &Context,
    pair: &str,
    ready: &Ready,
    mut operation: Operation,
) -> Result<(Vec<Step>, Vec<String>), SnapshotError> {
    let name = &ready.party.name;
    let (remains, told) = remains(ctx, pair, ready);
    if let Err(error) = operation.commit(remains) {
        return Err(closed_alone(operation, name, error.into()));
    }
    let mut carried = rest::Carried::default();
    rest::carry(&mut operation, usize::MAX, &mut carried);
    if carried.repointed.is_empty() {
        let left = carried.not_repointed.iter().map(|left| left.reason.clone());
        let left: Vec<String> = left.chain(carried.failed).collect();
        return Err(SnapshotError::NeedsOperator {
            reason: format!(
                "{name} is closed, and doesn't follow yet: {}",
                left.join("; ")
            ),
            hint: format!("Cure that, then run `understudy recover {name}`."),
        });
    }
    let (proof, unproven) = prove(ctx, &ready.cast);
    carried.steps.extend(proof);
    let mut warnings = [unproven, carried.failed, told].concat();
    let steps = [operation.steps.clone(), carried.steps].concat();
    warnings.extend(operation.end_carried("done"));
    let settled = receipt::settle_but(&ctx.state, name, |lost| has_all(ready, lost));
    warnings.extend(settled.err().map(|error| {
        format!(
            "the receipts of its failovers are still open: {error}; make room, then run `understudy \
             rejoin {name}` again"
        )
    }));
    Ok((steps, warnings))
}

/// Nothing follows the closing: it isn't taken back, and is told.
pub fn closed_alone(mut operation: Operation, server: &str, error: SnapshotError) -> SnapshotError {
    let has_closed = operation.has_begun(steps::CLOSE);
    // Without its end `recover` ends it, with nothing to undo but half an export.
    drop(operation.close(&format!("closed alone: {error}")));
    match error {
        error if !has_closed => error,
        SnapshotError::Refused { mut refusals } => {
            refusals.push(Refusal::new(
                format!("{server} is closed for writers"),
                "It stays so, whatever comes; the same command goes on.",
            ));
            SnapshotError::Refused { refusals }
        }
        error => SnapshotError::Failed {
            step: "rejoin",
            reason: format!("{error}; {server} is closed for writers, and stays so"),
            hint: Some("Cure that, and run the same command again: it goes on.".to_owned()),
        },
    }
}

/// What was thought to be lost came to the source after all.
fn has_all(ready: &Ready, lost: &Lost) -> bool {
    use crate::server::gtid::GtidSet;
    let flavour = &ready.party.flavour;
    match (
        flavour.parse_gtid(&lost.gtid),
        flavour.parse_gtid(&ready.of_source),
    ) {
        (Ok(GtidSet::Mysql(lost)), Ok(GtidSet::Mysql(has))) => lost.is_subset_of(&has),
        (Ok(GtidSet::Mariadb(lost)), Ok(GtidSet::Mariadb(has))) => lost
            .entries()
            .all(|entry| has.has(None, entry) == Some(true)),
        _ => false,
    }
}
