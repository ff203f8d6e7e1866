//! What a replica has received is applied, as far as time allows; then the one that has most is chosen.

use std::time::Duration;

use super::moment::wait;
use super::origin;
use crate::journal::Party;
use crate::server::channel::ChannelName;
use crate::server::gtid::GtidSet;
use crate::server::replication::{observe_channels, observe_gtid};
use crate::snapshot::SnapshotError;
use crate::snapshot::error::Refusal;

const STATEMENT_LIMIT: Duration = Duration::from_secs(60);

/// A candidate after all that it had received was applied, or wasn't in time.
pub struct Drained {
    pub name: String,
    pub executed: GtidSet,
    /// Without what comes from servers outside of the pair.
    of_pair: GtidSet,
    received: GtidSet,
}

impl Drained {
    /// What it received and hasn't applied, in words.
    pub fn left(&self) -> Option<String> {
        let whole = self.received.is_subset_of(&self.executed).unwrap_or(false);
        (!whole).then(|| format!("{} hasn't applied all that it received", self.name))
    }
}

/// Nothing more is fetched, and what was is applied.
pub fn drain(
    party: &Party,
    channel: &ChannelName,
    limit: Duration,
) -> Result<Drained, SnapshotError> {
    let session = party.session()?;
    let session = session.execute(&party.flavour.stop_io_thread(channel), STATEMENT_LIMIT)?;
    let (session, channels) = observe_channels(session)?;
    let received = channels
        .iter()
        .find(|link| link.name == *channel)
        .map(|link| link.received.clone())
        .unwrap_or_default();
    let mut slot = Some(session);
    if !received.is_empty() {
        // What isn't applied in time is told, and decided upon then.
        drop(wait(&mut slot, party, &received, limit));
    }
    let session = match slot {
        Some(session) => session,
        None => party.session()?,
    };
    let (_, executed) = observe_gtid(session, true)?;
    let of_pair = |set: &GtidSet| origin::of_pair(set, &channels, channel);
    let parse = |text: &str| {
        party
            .flavour
            .parse_gtid(text)
            .map_err(|error| SnapshotError::Failed {
                step: "drain",
                reason: format!("{}: {error}", party.name),
                hint: None,
            })
    };
    Ok(Drained {
        name: party.name.clone(),
        of_pair: of_pair(&parse(&executed)?),
        executed: parse(&executed)?,
        received: of_pair(&parse(&received)?),
    })
}

/// Of the first `electable`, the one that has all that any other has; the first of equals.
pub fn elect(drained: &[Drained], electable: usize) -> Result<usize, SnapshotError> {
    let has_all = |one: &Drained| {
        drained.iter().all(|other| {
            let all = other.of_pair.union(&other.received);
            all.and_then(|all| all.is_subset_of(&one.executed))
                .unwrap_or(false)
        })
    };
    let mut among = drained[..electable].iter();
    among.position(has_all).ok_or_else(|| {
        let told: Vec<String> = drained
            .iter()
            .map(|one| format!("{} has {}", one.name, one.executed.to_line()))
            .collect();
        SnapshotError::Refused {
            refusals: vec![Refusal::new(
                format!(
                    "none that may become the source has all that the others have: {}",
                    told.join(", ")
                ),
                "Name the one that has most with --to (where never excludes it, take it out of that), \
                 give what isn't applied yet more time with --drain, or see with `understudy status` \
                 which has transactions of its own.",
            )],
        }
    })
}
