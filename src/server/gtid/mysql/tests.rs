//! Forms that a server prints, and the laws of set algebra against a plain set of transactions.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

const U: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";
const V: &str = "4e11fa47-71ca-11e1-9e33-c80aa9429562";

/// `U` and `V` stand for UUIDs.
fn expand(notation: &str) -> String {
    notation.replace('U', U).replace('V', V)
}

fn set(notation: &str) -> MysqlGtidSet {
    MysqlGtidSet::parse(&expand(notation)).unwrap()
}

#[test]
fn everything_a_server_prints_is_read_and_normalised() {
    for (text, expected) in [
        ("", ""),
        (" \n", ""),
        ("U:1-5", "U:1-5"),
        ("U:5-5", "U:5"),
        ("U:1-3:2-7:9", "U:1-7:9"),
        ("U:1:3:2", "U:1-3"),
        ("U:1,\nV:2", "U:1,\nV:2"),
        ("V:1,U:1", "U:1,\nV:1"),
        (",U:1,, V:2 ,", "U:1,\nV:2"),
        ("U:1,U:3", "U:1:3"),
        (" U : 1 - 5 : 7 : tag : 1 , V:1 ", "U:1-5:7:tag:1,\nV:1"),
        ("U:1:tag:3:Tag:4", "U:1:tag:3-4"),
        ("U:b:1:a:1:3", "U:a:1:3:b:1"),
        ("U:tag:3,U:1,V:1,U:a:1", "U:1:a:1:tag:3,\nV:1"),
        ("U:_a1:01-05", "U:_a1:1-5"),
        ("U:9223372036854775806", "U:9223372036854775806"),
        (
            "U:a2345678901234567890123456789012:1",
            "U:a2345678901234567890123456789012:1",
        ),
    ] {
        assert_eq!(set(text).to_string(), expand(expected), "{text}");
        assert_eq!(set(text), set(expected));
    }
    let upper = MysqlGtidSet::parse(&format!("{}:1", U.to_uppercase())).unwrap();
    assert_eq!(upper, set("U:1"));
    assert_eq!(set("V:1,U:1-2").to_line(), expand("U:1-2,V:1"));
}

#[test]
fn malformed_sets_are_refused_at_their_place() {
    for (text, column) in [
        ("x", 1),
        ("U", 37),
        ("U,V:1", 37),
        ("U:", 38),
        ("U::1", 38),
        ("U:0", 38),
        ("U:1:", 40),
        ("U:5-3", 40),
        ("U:1-3-5", 41),
        ("U:1 2", 40),
        ("U:+1", 38),
        ("U:1;V:1", 39),
        ("U:tag", 41),
        ("U:tag:", 42),
        ("U:a:b:1", 40),
        ("U:1:a", 41),
        ("U:1a:1", 39),
        ("U:a-b:1", 39),
        ("U:é:1", 38),
        ("U:a23456789012345678901234567890123:1", 38),
        ("U:9223372036854775807", 38),
        ("U:1-9223372036854775807", 40),
        ("U:99999999999999999999", 38),
        ("3e11fa4771ca11e19e33c80aa9429562:1", 1),
        ("3e11fa47-71ca-11e1-9e33-c80aa942956:1", 1),
        ("U:1,\n tag:1", 42),
    ] {
        let error = MysqlGtidSet::parse(&expand(text)).unwrap_err();
        let GtidError::Malformed { column: found, .. } = error else {
            panic!("{text}: {error}")
        };
        assert_eq!(found, column, "{text}: {error}");
    }
}

#[test]
fn parts_are_told_apart() {
    let all = set("U:1-5:tag:1,V:1-2");
    let u = SourceUuid::parse(U).unwrap();
    assert_eq!(all.of_source(u), set("U:1-5:tag:1"));
    assert_eq!(all.sources().len(), 2);
    assert_eq!(all.count(), 8);
    // A tagged number is another transaction than the untagged one.
    assert!(!set("U:tag:1").is_subset_of(&set("U:1-9")));
    assert!(all.contains(&set("U:2-3,V:2")));
    assert_eq!(all.subtract(&set("U:2-3:9,V:1-9")), set("U:1:4-5:tag:1"));
}

#[test]
fn the_largest_sets_dont_overflow() {
    let most = set("U:1-9223372036854775806:tag:1-9223372036854775806,V:1-9223372036854775806");
    assert_eq!(most.count(), 3 * u128::from(NUMBER_MAX));
    assert_eq!(most.union(&most), most);
    assert!(most.subtract(&most).is_empty());
}

/// The plain thing: a set of transactions.
type Plain = BTreeSet<(usize, usize, u64)>;

const SOURCES: [&str; 2] = [U, V];
const TAGS: [&str; 3] = ["", "a", "tag_2"];

fn plain() -> impl Strategy<Value = Plain> {
    let interval = (0..SOURCES.len(), 0..TAGS.len(), 1..30_u64, 0..8_u64);
    prop::collection::vec(interval, 0..12).prop_map(|intervals| {
        let numbers = |(source, tag, first, more): (usize, usize, u64, u64)| {
            (first..=first + more).map(move |number| (source, tag, number))
        };
        intervals.into_iter().flat_map(numbers).collect()
    })
}

/// Each transaction on its own, in no good order: parsing has to make the set of it.
fn compact(plain: &Plain) -> MysqlGtidSet {
    let gtid = |&(source, tag, number): &(usize, usize, u64)| match TAGS[tag] {
        "" => format!("{}:{number}", SOURCES[source]),
        tag => format!("{}:{tag}:{number}", SOURCES[source]),
    };
    let gtids: Vec<_> = plain.iter().rev().map(gtid).collect();
    MysqlGtidSet::parse(&gtids.join(",")).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn algebra_is_that_of_plain_sets(a in plain(), b in plain()) {
        let (x, y) = (compact(&a), compact(&b));
        prop_assert_eq!(x.union(&y), compact(&(&a | &b)));
        prop_assert_eq!(x.subtract(&y), compact(&(&a - &b)));
        prop_assert_eq!(x.intersect(&y), compact(&(&a & &b)));
        prop_assert_eq!(x.is_subset_of(&y), a.is_subset(&b));
        prop_assert_eq!(y.contains(&x), a.is_subset(&b));
        prop_assert_eq!(x.count(), a.len() as u128);
        prop_assert_eq!(x.is_empty(), a.is_empty());
    }

    #[test]
    fn laws_hold(a in plain(), b in plain(), c in plain()) {
        let (a, b, c) = (compact(&a), compact(&b), compact(&c));
        prop_assert_eq!(a.union(&b), b.union(&a));
        prop_assert_eq!(a.union(&b).union(&c), a.union(&b.union(&c)));
        prop_assert_eq!(a.intersect(&b.union(&c)), a.intersect(&b).union(&a.intersect(&c)));
        prop_assert_eq!(a.subtract(&b).union(&a.intersect(&b)), a.clone());
        prop_assert!(a.subtract(&b).intersect(&b).is_empty());
        prop_assert!(a.is_subset_of(&a.union(&b)));
    }

    #[test]
    fn what_is_printed_reads_back(a in plain()) {
        let set = compact(&a);
        prop_assert_eq!(&MysqlGtidSet::parse(&set.to_string()).unwrap(), &set);
        prop_assert_eq!(&MysqlGtidSet::parse(&set.to_line()).unwrap(), &set);
    }

    #[test]
    fn no_text_panics(text in "[0-9a-f:, \\-é\n]{0,60}", suffix in "\\PC{0,20}") {
        drop(MysqlGtidSet::parse(&text));
        drop(MysqlGtidSet::parse(&format!("{U}:{text}{suffix}")));
    }
}
