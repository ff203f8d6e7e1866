//! How fast long work goes, and how long it will take yet. Pure.

use std::collections::VecDeque;
use std::time::Duration;

/// Of the last so long, so that a rate follows a disk that slows down.
const WINDOW: Duration = Duration::from_secs(20);

/// Two looks that are kept are so far apart.
const APART: Duration = Duration::from_millis(500);

/// Before that, nothing is said.
const LEAST: Duration = Duration::from_secs(1);

/// Looks at one piece of long work.
#[derive(Debug, Default)]
pub struct Pace {
    name: &'static str,
    /// When, since any moment, and how much was done.
    looks: VecDeque<(Duration, u64)>,
}

/// What its looks say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    pub bytes_per_s: u64,
    /// `None`: nobody knows, or it stands still.
    pub left: Option<Duration>,
}

impl Pace {
    /// Work of another name, or with less done than before, is new work.
    pub fn look(
        &mut self,
        name: &'static str,
        at: Duration,
        done: u64,
        total: Option<u64>,
    ) -> Option<Rate> {
        let is_other = self.name != name || self.looks.back().is_some_and(|last| last.1 > done);
        if is_other {
            self.looks.clear();
            self.name = name;
        }
        let (since, before) = *self.looks.front().unwrap_or(&(at, done));
        let is_due = |last: &(Duration, u64)| at.saturating_sub(last.0) >= APART;
        if self.looks.back().is_none_or(is_due) {
            self.looks.push_back((at, done));
        }
        while self.looks.len() > 2
            && self
                .looks
                .get(1)
                .is_some_and(|next| at.saturating_sub(next.0) >= WINDOW)
        {
            self.looks.pop_front();
        }
        let took = at.saturating_sub(since);
        if took < LEAST {
            return None;
        }
        let per_s = u128::from(done - before) * 1000 / took.as_millis().max(1);
        let bytes_per_s = u64::try_from(per_s).unwrap_or(u64::MAX);
        let left = total.map(|total| total.saturating_sub(done));
        let left = left.and_then(|left| left.checked_div(bytes_per_s));
        Some(Rate {
            bytes_per_s,
            left: left.map(Duration::from_secs),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(pace: &mut Pace, ms: u64, done: u64) -> Option<(u64, Option<u64>)> {
        let rate = pace.look("copy", Duration::from_millis(ms), done, Some(10_000))?;
        Some((rate.bytes_per_s, rate.left.map(|left| left.as_secs())))
    }

    #[test]
    fn the_rate_is_the_last_whiles() {
        let mut pace = Pace::default();
        assert_eq!(at(&mut pace, 0, 0), None);
        assert_eq!(at(&mut pace, 500, 500), None);
        assert_eq!(at(&mut pace, 1000, 1000), Some((1000, Some(9))));
        // It stands still from there on.
        let mut last = None;
        for ms in (1500..60_000).step_by(500) {
            last = at(&mut pace, ms, 1000);
        }
        assert_eq!(last, Some((0, None)));
        assert!(pace.looks.len() < 50);
    }

    #[test]
    fn other_work_begins_anew_and_an_unknown_whole_has_no_end() {
        let mut pace = Pace::default();
        assert_eq!(at(&mut pace, 0, 5000), None);
        assert_eq!(at(&mut pace, 2000, 100), None);
        assert_eq!(at(&mut pace, 4000, 300), Some((100, Some(97))));
        let rate = pace.look("extract", Duration::from_secs(5), 300, None);
        assert_eq!(rate, None);
        let rate = pace.look("extract", Duration::from_secs(7), 700, None);
        assert_eq!(
            rate.map(|rate| (rate.bytes_per_s, rate.left)),
            Some((200, None))
        );
    }
}
