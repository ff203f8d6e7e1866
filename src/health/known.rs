//! What earlier looks at a server have left: who it was, since when it is known, how its disk grew.
//!
//! Kept where the state directory can be written to; without it identity changes and growth go
//! unseen, and nothing else does.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::view::{Known, Sample};
use crate::journal::StateDir;
use crate::server::Identity;
use crate::server::condition::Condition;
use crate::sys::files;

/// At most one sample in this time.
const SAMPLE_EVERY: Duration = Duration::from_secs(600);
/// Older ones tell of another time.
const SAMPLES_FOR: Duration = Duration::from_secs(14 * 86_400);
const SAMPLES_MAX: usize = 2_100;
/// Growth over less than this is chance.
const SPAN_MIN: Duration = Duration::from_secs(6 * 3600);

pub fn read(state: &StateDir, server: &str) -> Option<Known> {
    let text = files::read_text(&state.known(server)).ok()??;
    serde_json::from_str(&text).ok()
}

/// Written when there is something new; whether that worked is nobody's concern but the log's.
pub fn note(
    state: &StateDir,
    server: &str,
    before: Option<&Known>,
    condition: &Condition,
    sample: Option<Sample>,
    now: Timestamp,
) {
    let mut known = match before {
        Some(known) => known.clone(),
        None => Known {
            identity: condition.identity.clone(),
            first_seen: now,
            binary_logs: None,
            events: Vec::new(),
            disk: Vec::new(),
        },
    };
    let sample = sample.filter(|sample| is_due(&known.disk, sample));
    let binary_logs = condition.binary_log_directory();
    let is_other = (&known.binary_logs, &known.events) != (&binary_logs, &condition.events);
    if before.is_some() && sample.is_none() && !is_other {
        return;
    }
    known.binary_logs = binary_logs;
    known.events.clone_from(&condition.events);
    known.disk.extend(sample);
    forget_old(&mut known.disk, now);
    write(state, server, &known);
}

/// The server that answers now is the right one.
pub fn accept(state: &StateDir, server: &str, identity: &Identity, now: Timestamp) -> bool {
    let before = read(state, server);
    let known = Known {
        identity: identity.clone(),
        first_seen: before.as_ref().map_or(now, |known| known.first_seen),
        binary_logs: None,
        events: Vec::new(),
        disk: Vec::new(),
    };
    write(state, server, &known)
}

fn write(state: &StateDir, server: &str, known: &Known) -> bool {
    let text = serde_json::to_vec(known).expect("what is known is plain data");
    let written = state
        .create()
        .and_then(|()| files::replace(&state.known(server), &text));
    if let Err(error) = &written {
        tracing::debug!(%error, server, "what is known of the server isn't kept");
    }
    written.is_ok()
}

fn is_due(samples: &[Sample], sample: &Sample) -> bool {
    samples.last().is_none_or(|last| {
        let since = sample.at.duration_since(last.at);
        // A clock that was set back doesn't stop it.
        since.is_negative() || since >= SignedDuration::try_from(SAMPLE_EVERY).unwrap_or_default()
    })
}

fn forget_old(samples: &mut Vec<Sample>, now: Timestamp) {
    let longest = SignedDuration::try_from(SAMPLES_FOR).unwrap_or_default();
    samples.retain(|sample| {
        let age = now.duration_since(sample.at);
        !age.is_negative() && age <= longest
    });
    let surplus = samples.len().saturating_sub(SAMPLES_MAX);
    samples.drain(..surplus);
}

/// Days until `free_bytes` are gone, from the line through the samples (least squares).
pub fn days_left(samples: &[Sample], free_bytes: u64) -> Option<f64> {
    let (first, last) = (samples.first()?, samples.last()?);
    let span = last.at.duration_since(first.at);
    if span < SignedDuration::try_from(SPAN_MIN).unwrap_or_default() {
        return None;
    }
    let days = |sample: &Sample| sample.at.duration_since(first.at).as_secs_f64() / 86_400.0;
    let count = samples.len() as f64;
    let mean_x = samples.iter().map(days).sum::<f64>() / count;
    let mean_y = samples.iter().map(|s| s.used_bytes as f64).sum::<f64>() / count;
    let (mut above, mut below) = (0.0, 0.0);
    for sample in samples {
        let x = days(sample) - mean_x;
        above += x * (sample.used_bytes as f64 - mean_y);
        below += x * x;
    }
    let per_day = above / below;
    (per_day > 0.0).then(|| free_bytes as f64 / per_day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(every_hours: i64, used: &[u64]) -> Vec<Sample> {
        let start: Timestamp = "2026-11-01T00:00:00Z".parse().unwrap();
        used.iter()
            .enumerate()
            .map(|(at, used)| Sample {
                at: start + SignedDuration::from_hours(every_hours * at as i64),
                used_bytes: used * (1 << 30),
            })
            .collect()
    }

    #[test]
    fn runway_follows_the_growth() {
        // 2 GiB a day, 20 GiB free.
        let growing = samples(12, &[100, 101, 102, 103, 104]);
        let days = days_left(&growing, 20 << 30).unwrap();
        assert!((days - 10.0).abs() < 0.01, "{days}");
        assert_eq!(days_left(&samples(12, &[100, 100, 99]), 20 << 30), None);
        assert_eq!(
            days_left(&samples(1, &[100, 101, 102]), 20 << 30),
            None,
            "too short"
        );
        assert_eq!(days_left(&[], 20 << 30), None);
    }

    #[test]
    fn samples_are_few_and_young() {
        let mut many = samples(1, &[1; 500]);
        let last = many[499];
        assert!(!is_due(&many, &last));
        let later = Sample {
            at: last.at + SignedDuration::from_mins(10),
            ..last
        };
        assert!(is_due(&many, &later));
        assert!(is_due(&many, &many[0]), "the clock was set back");
        forget_old(&mut many, last.at);
        assert_eq!(many.len(), 14 * 24 + 1);
    }
}
