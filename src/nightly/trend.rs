//! Whether a server's pause and its snapshots grow: the last week against the one before. Pure.

use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use super::record::Record;

/// The medians of two weeks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Weeks {
    pub last_week: u64,
    pub week_before: u64,
    /// Clearly, not by chance.
    pub grows: bool,
}

/// `None` where there are too few runs to tell.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Trend {
    pub pause_ms: Option<Weeks>,
    /// What a server's snapshots hold altogether.
    pub kept_bytes: Option<Weeks>,
}

const WEEK: Duration = Duration::from_secs(7 * 86_400);
/// Fewer runs in a week tell nothing.
const RUNS_MIN: usize = 3;
/// A pause of some milliseconds may well double.
const PAUSE_MS_MIN: u64 = 20;
const BYTES_MIN: u64 = 64 << 20;

/// Judges what ran in the two weeks before `now`.
pub fn trend(records: &[Record], now: Timestamp) -> Trend {
    let mut weeks: [Vec<&Record>; 2] = Default::default();
    for record in records {
        let began: Option<Timestamp> = record.began.parse().ok();
        let age = began.and_then(|began| Duration::try_from(now.duration_since(began)).ok());
        match age {
            Some(age) if age < WEEK => weeks[0].push(record),
            Some(age) if age < WEEK * 2 => weeks[1].push(record),
            Some(_) | None => {}
        }
    }
    let medians = |of: fn(&Record) -> Option<u64>| {
        let median = |week: &[&Record]| median(week.iter().filter_map(|record| of(record)));
        Some((median(&weeks[0])?, median(&weeks[1])?))
    };
    let pause = medians(|record| record.pause_ms).map(|(last_week, week_before)| Weeks {
        last_week,
        week_before,
        grows: 2 * last_week >= 3 * week_before && last_week >= week_before + PAUSE_MS_MIN,
    });
    // More of them are larger, of course.
    let are_more =
        medians(|record| record.kept).is_some_and(|(last, before)| 5 * last > 6 * before);
    let bytes = medians(|record| record.kept_bytes).map(|(last_week, week_before)| Weeks {
        last_week,
        week_before,
        grows: 5 * u128::from(last_week) >= 6 * u128::from(week_before)
            && last_week >= week_before + BYTES_MIN
            && !are_more,
    });
    Trend {
        pause_ms: pause,
        kept_bytes: bytes,
    }
}

/// The middle one, or the mean of the middle two.
fn median(values: impl Iterator<Item = u64>) -> Option<u64> {
    let mut values: Vec<u64> = values.collect();
    values.sort_unstable();
    let middle = values.len() / 2;
    match values.len() {
        count if count < RUNS_MIN => None,
        count if count % 2 == 1 => Some(values[middle]),
        _ => Some(values[middle - 1].midpoint(values[middle])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: &str = "2026-11-22T06:00:00Z";

    /// Nights before NOW, the last one first: pause, kept, MiB.
    fn records(nights: &[(u64, u64, u64)]) -> Vec<Record> {
        let now: Timestamp = NOW.parse().unwrap();
        let record = |(night, &(pause, kept, mib)): (usize, &(u64, u64, u64))| Record {
            began: (now - jiff::SignedDuration::from_hours(24 * night as i64 + 4)).to_string(),
            pause_ms: Some(pause),
            kept: Some(kept),
            kept_bytes: Some(mib << 20),
            ..Record::default()
        };
        let mut records: Vec<Record> = nights.iter().enumerate().map(record).collect();
        records.reverse();
        records
    }

    fn weeks(last: (u64, u64, u64), before: (u64, u64, u64)) -> Trend {
        let nights = [[last; 7], [before; 7]].concat();
        trend(&records(&nights), NOW.parse().unwrap())
    }

    #[test]
    fn growth_is_told_when_it_is_clear() {
        for (last, before, pause, bytes) in [
            ((13, 9, 1000), (13, 9, 1000), false, false),
            ((60, 9, 1300), (30, 9, 1000), true, true),
            // Of some milliseconds the double is nothing; nor is a tenth more.
            ((20, 9, 1100), (5, 9, 1000), false, false),
            // Shrinking.
            ((30, 9, 1000), (60, 9, 1300), false, false),
            // Three snapshots more explain it.
            ((60, 12, 1300), (30, 9, 1000), true, false),
            ((u64::MAX / 4, 9, 1 << 43), (0, 9, 0), true, true),
        ] {
            let trend = weeks(last, before);
            assert_eq!(trend.pause_ms.unwrap().grows, pause, "{last:?} {before:?}");
            assert_eq!(
                trend.kept_bytes.unwrap().grows,
                bytes,
                "{last:?} {before:?}"
            );
        }
    }

    #[test]
    fn one_bad_night_is_no_growth_and_too_few_tell_nothing() {
        let mut nights = [(13, 9, 1000); 14];
        nights[2].0 = 5000;
        let now = NOW.parse().unwrap();
        assert!(!trend(&records(&nights), now).pause_ms.unwrap().grows);
        assert_eq!(trend(&records(&nights[..9]), now), Trend::default());
        assert_eq!(trend(&[], now), Trend::default());
    }
}
