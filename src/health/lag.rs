//! How far a replica is behind, by the best clock that there is.

use std::time::Duration;

use super::view::{PairView, ServerView};
use crate::server::condition::{Beat, Condition};
use crate::server::replication::ThreadState;

/// What the lag was read from, the best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// It has everything that its source has.
    Gtid,
    /// `understudy.heartbeat`.
    Heartbeat,
    PtHeartbeat,
    /// When what it applies was committed on the source.
    CommitTimestamp,
    /// The server's own reckoning: how old the event in hand is, which is 0 whenever the applier
    /// waits, also for an IO thread that is far behind.
    SecondsBehind,
}

impl Method {
    pub fn words(self) -> &'static str {
        match self {
            Self::Gtid => "by GTID",
            Self::Heartbeat => "by heartbeat",
            Self::PtHeartbeat => "by pt-heartbeat",
            Self::CommitTimestamp => "by commit time",
            Self::SecondsBehind => "by the server's own reckoning",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lag {
    /// Beyond what it is kept behind on purpose.
    pub behind: Duration,
    /// On purpose: SOURCE_DELAY, MASTER_DELAY.
    pub delay: Duration,
    pub method: Method,
}

/// A heartbeat that is this many intervals old on its own source isn't being written.
const BEATS_MISSED_MAX: u32 = 3;
/// And some more, for a source that is slow itself.
const BEAT_GRACE: Duration = Duration::from_secs(2);

/// Of a server that answered, against its source when that is known. The error is the reason.
pub fn of(pair: &PairView, replica: usize, source: Option<usize>) -> Result<Lag, String> {
    let view = &pair.servers[replica];
    let Some(condition) = view.condition() else {
        return Err("the server doesn't answer".to_owned());
    };
    let source = source.map(|source| &pair.servers[source]);
    let answered = source.and_then(ServerView::condition);
    if let Some(source) = answered
        && has_all_of(condition, source)
    {
        return Ok(Lag {
            behind: Duration::ZERO,
            delay: delay_of(condition),
            method: Method::Gtid,
        });
    }
    let (age, method) = [false, true]
        .into_iter()
        .find_map(|foreign| by_heartbeat(condition, answered, foreign))
        .or_else(|| by_commit_time(condition, answered))
        .map_or_else(|| by_reckoning(condition), Ok)?;
    let delay = delay_of(condition);
    Ok(Lag {
        behind: age.saturating_sub(delay),
        delay,
        method,
    })
}

/// How old what it applies is, and how that is known.
type Age = (Duration, Method);

/// The longest of its channels'.
fn delay_of(condition: &Condition) -> Duration {
    let delays = condition
        .channel_list()
        .iter()
        .map(|channel| channel.delay_s);
    Duration::from_secs(delays.max().unwrap_or(0))
}

fn has_all_of(replica: &Condition, source: &Condition) -> bool {
    let all = source.executed.known().zip(replica.executed.known());
    all.is_some_and(|(source, replica)| {
        !source.is_empty() && source.is_subset_of(replica).unwrap_or(false)
    })
}

/// On the source's clock when it answered, so that the two clocks needn't agree. When it didn't, an
/// old beat may also mean that nobody beats: it counts only while something received isn't applied.
fn by_heartbeat(replica: &Condition, source: Option<&Condition>, foreign: bool) -> Option<Age> {
    let newest_of = |condition: &Condition, server_id: Option<u32>| -> Option<Beat> {
        condition
            .beats
            .iter()
            .filter(|beat| beat.foreign == foreign)
            .filter(|beat| server_id.is_none_or(|id| beat.server_id == id))
            .max_by_key(|beat| beat.at_us)
            .cloned()
    };
    let now_us = match source {
        None => replica.clock_us?,
        Some(source) => {
            let own = newest_of(source, Some(source.identity.server_id))?;
            let own_age = Duration::from_micros(source.clock_us?.saturating_sub(own.at_us));
            if own_age > own.every * BEATS_MISSED_MAX + BEAT_GRACE {
                return None;
            }
            let since = replica.at.saturating_duration_since(source.at);
            source.clock_us? + u64::try_from(since.as_micros()).ok()?
        }
    };
    let beat = newest_of(replica, source.map(|source| source.identity.server_id))?;
    let behind = Duration::from_micros(now_us.saturating_sub(beat.at_us));
    let is_old = behind > beat.every * BEATS_MISSED_MAX + BEAT_GRACE;
    if source.is_none() && is_old && receives(replica) && has_all_received(replica) {
        return None;
    }
    let method = match foreign {
        false => Method::Heartbeat,
        true => Method::PtHeartbeat,
    };
    Some((behind, method))
}

/// The source gave the times: where it tells its own clock, the two needn't agree.
fn by_commit_time(replica: &Condition, source: Option<&Condition>) -> Option<Age> {
    let times = replica.applied?;
    let now_us = match source.and_then(|source| source.clock_us.zip(Some(source.at))) {
        Some((clock_us, at)) => {
            let since = replica.at.saturating_duration_since(at);
            clock_us + u64::try_from(since.as_micros()).ok()?
        }
        None => replica.clock_us?,
    };
    let since = |us: u64| Duration::from_micros(now_us.saturating_sub(us));
    let behind = match times.applying_us {
        Some(us) => since(us),
        None if receives(replica) && has_all_received(replica) => Duration::ZERO,
        // More than that is received and not applied, or may wait on the source.
        None => since(times.last_us?),
    };
    Some((behind, Method::CommitTimestamp))
}

fn receives(replica: &Condition) -> bool {
    let channels = replica.channel_list();
    channels
        .iter()
        .all(|channel| channel.io == ThreadState::Running)
}

fn has_all_received(replica: &Condition) -> bool {
    let Some(executed) = replica.executed.known() else {
        return false;
    };
    replica.channel_list().iter().all(|channel| {
        let received = replica.flavour.known_gtid(&channel.received);
        received
            .known()
            .is_some_and(|received| received.is_subset_of(executed).unwrap_or(false))
    })
}

fn by_reckoning(replica: &Condition) -> Result<Age, String> {
    let channels = replica.channels.known().ok_or_else(|| {
        let reason = replica.channels.reason().unwrap_or_default();
        format!("the server doesn't tell of its replication: {reason}")
    })?;
    if channels.is_empty() {
        return Err("it follows nobody".to_owned());
    }
    let behind: Option<Vec<u64>> = channels.iter().map(|channel| channel.lag_s).collect();
    match behind.and_then(|behind| behind.into_iter().max()) {
        Some(seconds) => Ok((Duration::from_secs(seconds), Method::SecondsBehind)),
        None => Err(
            "a replication thread doesn't run, so that the server can't tell, and there is no \
             heartbeat"
                .to_owned(),
        ),
    }
}
