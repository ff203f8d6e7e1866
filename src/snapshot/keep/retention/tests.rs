//! Rules as tables, and a year of snapshots pruned every day.

use jiff::ToSpan;
use proptest::prelude::*;

use super::*;

const NOW: &str = "2026-11-22T12:00:00Z";

fn zone(name: &str) -> TimeZone {
    TimeZone::get(name).expect("the system's time zones are there (tzdata)")
}

/// `2026-11-21T02:00`, UTC, then any of: failed booted checked held invalid ahead. The time is the id.
fn candidate(notation: &str) -> Candidate {
    let mut words = notation.split(' ');
    let id = words.next().unwrap();
    let mut candidate = Candidate {
        id: id.to_owned(),
        created: format!("{id}:00Z").parse().unwrap(),
        proof: ProofRank::Taken,
        held: false,
        complete: true,
        fits: true,
    };
    for word in words {
        match word {
            "failed" => candidate.proof = ProofRank::Failed,
            "booted" => candidate.proof = ProofRank::Booted,
            "checked" => candidate.proof = ProofRank::Checked,
            "held" => candidate.held = true,
            "invalid" => candidate.complete = false,
            "ahead" => candidate.fits = false,
            word => panic!("{word}"),
        }
    }
    candidate
}

/// The decisions as "+ID reasons" and "-ID reasons", newest first.
fn plan(candidates: &[&str], rules: &KeepRules) -> Vec<String> {
    let candidates: Vec<_> = candidates.iter().map(|one| candidate(one)).collect();
    plan_prune(&candidates, rules, NOW.parse().unwrap(), &TimeZone::UTC)
        .into_iter()
        .map(|decision| {
            let sign = if decision.keep { '+' } else { '-' };
            format!("{sign}{} {}", decision.id, decision.why())
        })
        .collect()
}

fn none() -> KeepRules {
    KeepRules::default()
}

#[test]
fn without_rules_everything_is_kept() {
    assert_eq!(
        plan(
            &["2020-01-01T02:00 invalid", "2026-11-21T02:00 held"],
            &none()
        ),
        [
            "+2026-11-21T02:00 held, no rules: everything is kept",
            "+2020-01-01T02:00 no rules: everything is kept",
        ]
    );
}

/// After a failover that lost what the newest hold: the newest that fits has no rule of its own.
#[test]
fn the_newest_proven_one_that_fits_stays() {
    let rules = KeepRules { last: 1, ..none() };
    let candidates = [
        "2026-11-21T02:00 checked ahead",
        "2026-11-20T02:00 booted ahead",
        "2026-11-19T02:00",
        "2026-11-18T02:00 booted",
        "2026-11-17T02:00 booted",
    ];
    assert_eq!(
        plan(&candidates, &rules),
        [
            "+2026-11-21T02:00 last 1",
            "-2026-11-20T02:00 matched no rule",
            "-2026-11-19T02:00 matched no rule",
            "+2026-11-18T02:00 newest verified one that fits the source",
            "-2026-11-17T02:00 matched no rule",
        ]
    );
}

#[test]
fn each_rule_keeps_the_newest_of_its_newest_buckets() {
    let rules = KeepRules {
        last: 1,
        hourly: 2,
        daily: 2,
        weekly: 2,
        monthly: 2,
        yearly: 2,
        ..none()
    };
    let candidates = [
        "2024-06-01T02:00",
        "2025-06-01T02:00",
        "2026-10-31T02:00",
        "2026-11-15T02:00",
        "2026-11-20T02:00",
        "2026-11-22T09:00",
        "2026-11-22T09:30",
        "2026-11-22T10:00",
    ];
    assert_eq!(
        plan(&candidates, &rules),
        [
            "+2026-11-22T10:00 last 1, hourly 2026-11-22T10+00:00, daily 2026-11-22, \
             weekly 2026-W47, monthly 2026-11, yearly 2026",
            "+2026-11-22T09:30 hourly 2026-11-22T09+00:00",
            "-2026-11-22T09:00 matched no rule",
            "+2026-11-20T02:00 daily 2026-11-20",
            // A Sunday belongs to the week before.
            "+2026-11-15T02:00 weekly 2026-W46",
            "+2026-10-31T02:00 monthly 2026-10",
            "+2025-06-01T02:00 yearly 2025",
            "-2024-06-01T02:00 matched no rule",
        ]
    );
}

#[test]
fn iso_weeks_cross_the_year() {
    let rules = KeepRules {
        weekly: 2,
        ..none()
    };
    assert_eq!(
        plan(
            &["2025-12-28T02:00", "2025-12-29T02:00", "2026-01-04T02:00"],
            &rules
        ),
        [
            "+2026-01-04T02:00 weekly 2026-W01",
            "-2025-12-29T02:00 matched no rule",
            "+2025-12-28T02:00 weekly 2025-W52",
        ]
    );
}

#[test]
fn invalid_and_failed_ones_count_for_no_rule() {
    let rules = KeepRules { last: 2, ..none() };
    let candidates = [
        "2026-11-17T02:00",
        "2026-11-18T02:00",
        "2026-11-19T02:00",
        "2026-11-20T02:00 failed",
        "2026-11-21T02:00 invalid",
        "2026-11-22T02:00 invalid held",
    ];
    assert_eq!(
        plan(&candidates, &rules),
        [
            "+2026-11-22T02:00 held",
            "-2026-11-21T02:00 invalid",
            "-2026-11-20T02:00 failed its verification",
            "+2026-11-19T02:00 last 2",
            "+2026-11-18T02:00 last 2",
            "-2026-11-17T02:00 matched no rule",
        ]
    );
}

#[test]
fn the_newest_good_and_the_newest_verified_one_stay_without_a_rule() {
    let rules = KeepRules {
        within_ms: Some(3_600_000),
        ..none()
    };
    assert_eq!(
        plan(&["2026-11-20T02:00"], &rules),
        ["+2026-11-20T02:00 only good one"]
    );
    let candidates = [
        "2026-11-17T02:00 booted",
        "2026-11-18T02:00 checked",
        "2026-11-19T02:00",
        "2026-11-20T02:00",
    ];
    assert_eq!(
        plan(&candidates, &rules),
        [
            "+2026-11-20T02:00 newest good one",
            "-2026-11-19T02:00 matched no rule",
            "+2026-11-18T02:00 newest verified one",
            "-2026-11-17T02:00 matched no rule",
        ]
    );
}

#[test]
fn when_all_have_failed_the_rules_go_on_as_before() {
    let rules = KeepRules { last: 1, ..none() };
    let candidates = [
        "2026-11-19T02:00 failed",
        "2026-11-20T02:00 failed",
        "2026-11-21T02:00 invalid",
    ];
    assert_eq!(
        plan(&candidates, &rules),
        [
            "-2026-11-21T02:00 invalid",
            "+2026-11-20T02:00 last 1",
            "-2026-11-19T02:00 failed its verification",
        ]
    );
    let rules = KeepRules {
        verified: 1,
        ..none()
    };
    assert_eq!(
        plan(&candidates[..2], &rules)[0],
        "+2026-11-20T02:00 none is good, this is the newest"
    );
}

#[test]
fn verified_and_within_keep_what_they_say() {
    let rules = KeepRules {
        verified: 2,
        within_ms: Some(14 * 86_400_000),
        ..none()
    };
    let candidates = [
        "2026-10-01T02:00 booted",
        "2026-10-02T02:00 checked",
        "2026-10-03T02:00",
        "2026-10-04T02:00 booted",
        "2026-11-08T12:00",
        "2026-11-08T12:01",
    ];
    assert_eq!(
        plan(&candidates, &rules),
        [
            "+2026-11-08T12:01 younger than 14days",
            "-2026-11-08T12:00 matched no rule",
            "+2026-10-04T02:00 verified 2",
            "-2026-10-03T02:00 matched no rule",
            "+2026-10-02T02:00 verified 2",
            "-2026-10-01T02:00 matched no rule",
        ]
    );
}

#[test]
fn snapshots_from_the_future_are_kept_and_fill_no_bucket() {
    let rules = KeepRules {
        last: 1,
        daily: 1,
        ..none()
    };
    assert_eq!(
        plan(
            &[
                "2026-11-21T02:00",
                "2026-11-22T02:00",
                "2026-11-22T12:01",
                "2036-01-01T02:00 invalid"
            ],
            &rules
        ),
        [
            "+2036-01-01T02:00 created in the future (clock?)",
            "+2026-11-22T12:01 created in the future (clock?)",
            "+2026-11-22T02:00 last 1, daily 2026-11-22",
            "-2026-11-21T02:00 matched no rule",
        ]
    );
}

#[test]
fn the_hour_that_comes_twice_is_two_hours() {
    let rules = KeepRules {
        hourly: 2,
        ..none()
    };
    let candidates: Vec<_> = ["2026-10-25T00:30", "2026-10-25T01:30"]
        .map(candidate)
        .into();
    let now = NOW.parse().unwrap();
    let decisions = plan_prune(&candidates, &rules, now, &zone("Europe/Berlin"));
    let why: Vec<_> = decisions.iter().map(Decision::why).collect();
    assert_eq!(
        why,
        ["hourly 2026-10-25T02+01:00", "hourly 2026-10-25T02+02:00"]
    );
}

#[test]
fn days_are_those_of_the_zone() {
    let rules = KeepRules { daily: 1, ..none() };
    let candidates: Vec<_> = ["2026-11-21T03:00", "2026-11-21T06:00"]
        .map(candidate)
        .into();
    let now = NOW.parse().unwrap();
    let decisions = plan_prune(&candidates, &rules, now, &zone("America/New_York"));
    // 22:00 on the 20th and 01:00 on the 21st there.
    assert_eq!(decisions[0].why(), "daily 2026-11-21");
    assert!(!decisions[1].keep);
}

fn any_rules() -> impl Strategy<Value = KeepRules> {
    let counts = (
        0..4_u32,
        0..30_u32,
        0..10_u32,
        0..6_u32,
        0..13_u32,
        0..3_u32,
        0..4_u32,
    );
    counts
        .prop_map(
            |(last, hourly, daily, weekly, monthly, yearly, verified)| KeepRules {
                last,
                hourly,
                daily,
                weekly,
                monthly,
                yearly,
                verified,
                within_ms: None,
            },
        )
        .prop_filter("some rule", |rules| *rules != none())
}

/// What becomes of the snapshots of a year, by turns: most are taken, some more than that.
fn proof_of(number: usize, seed: usize) -> (ProofRank, bool) {
    match (number * 7 + seed) % 23 {
        0 => (ProofRank::Failed, true),
        1 => (ProofRank::Taken, false),
        2 | 3 => (ProofRank::Booted, true),
        4 => (ProofRank::Checked, true),
        _ => (ProofRank::Taken, true),
    }
}

/// One more snapshot every hour of the day that begins at local midnight, and one each night.
fn take_a_day(midnight: &Zoned, seed: usize, store: &mut Vec<Candidate>) {
    let tomorrow = midnight.tomorrow().unwrap().timestamp();
    let nightly = midnight
        .date()
        .at(2, 30, 0, 0)
        .to_zoned(midnight.time_zone().clone());
    let mut times = vec![nightly.unwrap().timestamp()];
    let mut hour = midnight.timestamp();
    while hour < tomorrow {
        times.push(hour);
        hour += 1.hour();
    }
    for created in times {
        let hours = usize::try_from(created.as_second() / 1800).unwrap();
        let (proof, complete) = proof_of(hours, seed);
        store.push(Candidate {
            id: created.to_string(),
            created,
            proof,
            held: hours % 997 == 0,
            complete,
            fits: hours % 3 != 0,
        });
    }
}

fn newest(store: &[Candidate], which: impl Fn(&&Candidate) -> bool) -> Option<&Candidate> {
    store.iter().filter(which).max_by_key(|one| one.created)
}

fn is_good(one: &&Candidate) -> bool {
    one.complete && one.proof > ProofRank::Failed
}

fn days(store: &[Candidate], zone: &TimeZone) -> BTreeSet<jiff::civil::Date> {
    let good = store.iter().filter(is_good);
    good.map(|one| zone.to_datetime(one.created).date())
        .collect()
}

fn prune_a_year(zone: &TimeZone, rules: &KeepRules, seed: usize) {
    let counts = [
        rules.last,
        rules.hourly,
        rules.daily,
        rules.weekly,
        rules.monthly,
        rules.yearly,
        rules.verified,
    ];
    let mut store = Vec::new();
    let mut days_ever = BTreeSet::new();
    let mut midnight = jiff::civil::date(2026, 1, 1)
        .to_zoned(zone.clone())
        .unwrap();
    for _ in 0..366 {
        take_a_day(&midnight, seed, &mut store);
        days_ever.extend(days(&store, zone));
        midnight = midnight.tomorrow().unwrap();
        let now = midnight.timestamp();
        let decisions = plan_prune(&store, rules, now, zone);
        assert_eq!(decisions.len(), store.len());
        let kept: BTreeSet<_> = decisions
            .into_iter()
            .filter(|one| one.keep)
            .map(|one| one.id)
            .collect();
        let is_kept = |one: &Candidate| kept.contains(&one.id);
        assert!(
            newest(&store, is_good).is_none_or(is_kept),
            "the newest good one"
        );
        let verified = |one: &&Candidate| one.complete && one.proof >= ProofRank::Booted;
        assert!(
            newest(&store, verified).is_none_or(is_kept),
            "the newest verified one"
        );
        assert!(
            store.iter().filter(|one| one.held).all(is_kept),
            "the held ones"
        );
        store.retain(is_kept);
        let again = plan_prune(&store, rules, now, zone);
        assert!(again.iter().all(|one| one.keep), "twice is as once");
        let held_count = store.iter().filter(|one| one.held).count();
        // The two more are the last resorts.
        let count_max = counts.iter().sum::<u32>() as usize + held_count + 2;
        assert!(store.len() <= count_max, "{} of {count_max}", store.len());
        let newest_days: BTreeSet<_> = days_ever
            .iter()
            .rev()
            .take(rules.daily as usize)
            .copied()
            .collect();
        assert!(
            days(&store, zone).is_superset(&newest_days),
            "the newest days"
        );
    }
    // Longer buckets outlive many prunes: every month of the year is still there.
    let months: BTreeSet<_> = days(&store, zone).iter().map(|day| day.month()).collect();
    assert!(
        months.len() >= (rules.monthly as usize).min(12),
        "{months:?}"
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_year_pruned_every_day_keeps_what_the_rules_say(rules in any_rules(), seed in 0..23_usize) {
        for name in ["Europe/Berlin", "America/New_York"] {
            prune_a_year(&zone(name), &rules, seed);
        }
    }
}
