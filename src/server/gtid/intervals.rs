//! Sorted lists of intervals of whole numbers.
//!
//! The invariant of every list here: ascending, never touching, none empty.

/// All numbers from `first` to `last`, both included; never empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Interval {
    pub first: u64,
    pub last: u64,
}

impl Interval {
    /// How many numbers, at least one.
    pub fn count(&self) -> u128 {
        u128::from(self.last) - u128::from(self.first) + 1
    }
}

/// Brings a list into order: sorts, and joins what overlaps or touches.
pub(super) fn normalise(mut list: Vec<Interval>) -> Vec<Interval> {
    list.sort_unstable();
    let mut joined: Vec<Interval> = Vec::with_capacity(list.len());
    for interval in list {
        match joined.last_mut() {
            Some(before) if interval.first <= before.last.saturating_add(1) => {
                before.last = before.last.max(interval.last);
            }
            Some(_) | None => joined.push(interval),
        }
    }
    joined
}

pub(super) fn union(a: &[Interval], b: &[Interval]) -> Vec<Interval> {
    normalise([a, b].concat())
}

/// What both have.
pub(super) fn intersect(a: &[Interval], b: &[Interval]) -> Vec<Interval> {
    let mut common = Vec::new();
    let (mut a, mut b) = (a.iter().peekable(), b.iter().peekable());
    while let (Some(one), Some(other)) = (a.peek(), b.peek()) {
        let (first, last) = (one.first.max(other.first), one.last.min(other.last));
        if first <= last {
            common.push(Interval { first, last });
        }
        // The one that ends earlier can't meet anything that follows.
        if one.last < other.last {
            a.next();
        } else {
            b.next();
        }
    }
    common
}

/// What `a` has and `b` hasn't.
pub(super) fn subtract(a: &[Interval], b: &[Interval]) -> Vec<Interval> {
    let mut left = Vec::new();
    let mut holes = b.iter().peekable();
    for interval in a {
        let mut first = Some(interval.first);
        while let (Some(from), Some(hole)) = (first, holes.peek()) {
            if hole.first > interval.last {
                break;
            }
            if hole.first > from {
                left.push(Interval {
                    first: from,
                    last: hole.first - 1,
                });
            }
            if hole.last >= interval.last {
                // The hole may reach into the next interval: it stays.
                first = None;
                break;
            }
            first = Some(from.max(hole.last + 1));
            holes.next();
        }
        left.extend(first.map(|first| Interval {
            first,
            last: interval.last,
        }));
    }
    left
}

/// Whether `b` has everything of `a`.
pub(super) fn is_subset(a: &[Interval], b: &[Interval]) -> bool {
    a.iter().all(|interval| {
        let after = b.partition_point(|one| one.last < interval.first);
        b.get(after)
            .is_some_and(|one| one.first <= interval.first && interval.last <= one.last)
    })
}
