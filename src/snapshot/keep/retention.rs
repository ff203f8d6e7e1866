//! Which snapshots a server keeps: rules in, a decision with its reasons for each snapshot out.
//!
//! Pure; the clock and the zone come from the caller. The invariants: held snapshots, snapshots
//! from the future, the newest good one, the newest verified one and the newest verified one that fits
//! the present source are never removed, and what a plan keeps, the same plan run again keeps too.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};
use serde::{Deserialize, Serialize};

use crate::config::KeepRules;

/// How much is known of a snapshot; a later one is more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProofRank {
    /// No server came up on it, or not at the recorded position.
    Failed,
    Taken,
    /// Of a dump: all of it was read.
    Read,
    /// A server came up on it.
    Booted,
    /// And its tables are sound.
    Checked,
}

/// What retention has to know of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    pub id: String,
    pub created: Timestamp,
    pub proof: ProofRank,
    /// Held by hand: never removed.
    pub held: bool,
    /// Neither invalid nor an orphan.
    pub complete: bool,
    /// The pair's present source has all that is in it; false where that isn't known.
    pub fits: bool,
}

/// What becomes of a snapshot, and why; there is always a reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    pub id: String,
    pub keep: bool,
    pub reasons: Vec<Reason>,
}

impl Decision {
    /// The reasons in one line: "last 3, daily 2026-11-21".
    pub fn why(&self) -> String {
        let reasons: Vec<_> = self.reasons.iter().map(Reason::to_string).collect();
        reasons.join(", ")
    }
}

/// Why a snapshot is kept or removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// Kept: there is no rule at all.
    NoRules,
    /// Kept: held by hand.
    Held,
    /// Kept: the clock was or is wrong, so that no rule can be applied to it.
    FromTheFuture,
    /// Kept: one of the newest so many.
    Last(u32),
    /// Kept: one of the newest so many that a server has come up on.
    Verified(u32),
    /// Kept: younger than this.
    Within(Duration),
    /// Kept: the newest one of an hour, day, week, month or year, called `label`.
    Newest { period: Period, label: String },
    /// Kept: no rule wants it, but there is no other good one.
    OnlyGood,
    /// Kept: no rule wants it, but no good one is newer.
    NewestGood,
    /// Kept: no rule wants it, but it is the newest that a server has come up on.
    NewestVerified,
    /// Kept: no rule wants it, but it is the newest that a server has come up on and that the present
    /// source has all of: newer ones are ahead of it.
    NewestFitting,
    /// Kept: all have failed their verification, and this is the newest of them.
    NoneIsGood,
    /// Removed: no rule wants it.
    MatchedNoRule,
    /// Removed: not complete.
    Invalid,
    /// Removed: it failed its verification, and others didn't.
    FailedVerification,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoRules => f.write_str("no rules: everything is kept"),
            Self::Held => f.write_str("held"),
            Self::FromTheFuture => f.write_str("created in the future (clock?)"),
            Self::Last(count) => write!(f, "last {count}"),
            Self::Verified(count) => write!(f, "verified {count}"),
            Self::Within(age) => write!(f, "younger than {}", humantime::format_duration(*age)),
            Self::Newest { period, label } => write!(f, "{} {label}", period.rule()),
            Self::OnlyGood => f.write_str("only good one"),
            Self::NewestGood => f.write_str("newest good one"),
            Self::NewestVerified => f.write_str("newest verified one"),
            Self::NewestFitting => f.write_str("newest verified one that fits the source"),
            Self::NoneIsGood => f.write_str("none is good, this is the newest"),
            Self::MatchedNoRule => f.write_str("matched no rule"),
            Self::Invalid => f.write_str("invalid"),
            Self::FailedVerification => f.write_str("failed its verification"),
        }
    }
}

/// The calendar's buckets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Period {
    Hour,
    Day,
    /// ISO 8601: begins on Monday.
    Week,
    Month,
    Year,
}

impl Period {
    const ALL: [Self; 5] = [Self::Hour, Self::Day, Self::Week, Self::Month, Self::Year];

    /// The rule's name in the configuration.
    pub fn rule(self) -> &'static str {
        match self {
            Self::Hour => "hourly",
            Self::Day => "daily",
            Self::Week => "weekly",
            Self::Month => "monthly",
            Self::Year => "yearly",
        }
    }

    fn count_of(self, rules: &KeepRules) -> u32 {
        match self {
            Self::Hour => rules.hourly,
            Self::Day => rules.daily,
            Self::Week => rules.weekly,
            Self::Month => rules.monthly,
            Self::Year => rules.yearly,
        }
    }

    /// The bucket that a local time falls in. Hours carry the offset: when the clocks go back,
    /// the hour that comes twice is two hours.
    fn label(self, time: &Zoned) -> String {
        match self {
            Self::Hour => time.strftime("%Y-%m-%dT%H%:z").to_string(),
            Self::Day => time.strftime("%Y-%m-%d").to_string(),
            Self::Week => time.strftime("%G-W%V").to_string(),
            Self::Month => time.strftime("%Y-%m").to_string(),
            Self::Year => time.strftime("%Y").to_string(),
        }
    }
}

/// Decides for every candidate of one server; newest first.
///
/// Rules count good snapshots only: complete, and not failed in verification. When none is good,
/// the complete ones count, so that a broken verification doesn't empty the store.
pub fn plan_prune(
    candidates: &[Candidate],
    rules: &KeepRules,
    now: Timestamp,
    zone: &TimeZone,
) -> Vec<Decision> {
    let mut newest_first: Vec<&Candidate> = candidates.iter().collect();
    newest_first.sort_by(|a, b| (b.created, &b.id).cmp(&(a.created, &a.id)));
    let mut slots: Vec<Slot<'_>> = newest_first.into_iter().map(Slot::new).collect();
    keep_untouchables(&mut slots, now);
    if *rules == KeepRules::default() {
        slots
            .iter_mut()
            .for_each(|slot| slot.reasons.push(Reason::NoRules));
    } else {
        let mut past: Vec<_> = slots
            .iter_mut()
            .filter(|slot| slot.candidate.created <= now && slot.candidate.complete)
            .collect();
        let any_is_good = past.iter().any(|slot| slot.is_good());
        past.retain(|slot| slot.is_good() || !any_is_good);
        apply_counts(&mut past, rules);
        apply_within(&mut past, rules, now);
        apply_periods(&mut past, rules, zone);
        keep_last_resorts(&mut past, any_is_good);
    }
    slots.into_iter().map(Slot::decide).collect()
}

/// A candidate and the reasons to keep it so far.
struct Slot<'c> {
    candidate: &'c Candidate,
    reasons: Vec<Reason>,
}

impl<'c> Slot<'c> {
    fn new(candidate: &'c Candidate) -> Self {
        Self {
            candidate,
            reasons: Vec::new(),
        }
    }

    fn is_good(&self) -> bool {
        self.candidate.complete && self.candidate.proof > ProofRank::Failed
    }

    fn is_verified(&self) -> bool {
        self.candidate.complete && self.candidate.proof >= ProofRank::Booted
    }

    fn decide(mut self) -> Decision {
        let keep = !self.reasons.is_empty();
        if !keep {
            self.reasons.push(if !self.candidate.complete {
                Reason::Invalid
            } else if self.is_good() {
                Reason::MatchedNoRule
            } else {
                Reason::FailedVerification
            });
        }
        Decision {
            id: self.candidate.id.clone(),
            keep,
            reasons: self.reasons,
        }
    }
}

fn keep_untouchables(slots: &mut [Slot<'_>], now: Timestamp) {
    for slot in slots {
        if slot.candidate.held {
            slot.reasons.push(Reason::Held);
        }
        if slot.candidate.created > now {
            slot.reasons.push(Reason::FromTheFuture);
        }
    }
}

fn apply_counts(slots: &mut [&mut Slot<'_>], rules: &KeepRules) {
    for slot in slots.iter_mut().take(rules.last as usize) {
        slot.reasons.push(Reason::Last(rules.last));
    }
    let verified = slots.iter_mut().filter(|slot| slot.is_verified());
    for slot in verified.take(rules.verified as usize) {
        slot.reasons.push(Reason::Verified(rules.verified));
    }
}

fn apply_within(slots: &mut [&mut Slot<'_>], rules: &KeepRules, now: Timestamp) {
    let Some(within) = rules.within_ms.map(Duration::from_millis) else {
        return;
    };
    for slot in slots {
        // In the past by the caller's choice, so the age isn't negative.
        let age = slot.candidate.created.duration_until(now).unsigned_abs();
        if age < within {
            slot.reasons.push(Reason::Within(within));
        }
    }
}

/// Keeps the newest of each of the newest so many buckets that have any.
fn apply_periods(slots: &mut [&mut Slot<'_>], rules: &KeepRules, zone: &TimeZone) {
    let times: Vec<_> = slots
        .iter()
        .map(|slot| slot.candidate.created.to_zoned(zone.clone()))
        .collect();
    for period in Period::ALL {
        let count = period.count_of(rules) as usize;
        let mut filled = BTreeSet::new();
        for (slot, time) in slots.iter_mut().zip(&times) {
            if filled.len() == count {
                break;
            }
            let label = period.label(time);
            if filled.insert(label.clone()) {
                slot.reasons.push(Reason::Newest { period, label });
            }
        }
    }
}

/// What must not go though no rule wants it.
fn keep_last_resorts(slots: &mut [&mut Slot<'_>], any_is_good: bool) {
    let is_alone = slots.len() == 1;
    if let Some(newest) = slots.first_mut()
        && newest.reasons.is_empty()
    {
        newest.reasons.push(match (any_is_good, is_alone) {
            (true, true) => Reason::OnlyGood,
            (true, false) => Reason::NewestGood,
            (false, _) => Reason::NoneIsGood,
        });
    }
    if let Some(newest) = slots.iter_mut().find(|slot| slot.is_verified())
        && newest.reasons.is_empty()
    {
        newest.reasons.push(Reason::NewestVerified);
    }
    let is_fitting = |slot: &&mut &mut Slot<'_>| slot.is_verified() && slot.candidate.fits;
    if let Some(newest) = slots.iter_mut().find(is_fitting)
        && newest.reasons.is_empty()
    {
        newest.reasons.push(Reason::NewestFitting);
    }
}

#[cfg(test)]
mod tests;
