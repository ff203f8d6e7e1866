//! MariaDB's GTID positions: per replication domain, the last transaction.
//!
//! Also reads `gtid_binlog_state`, which has several servers per domain. Sequence numbers of one
//! domain are comparable across servers; with `gtid_strict_mode=OFF` a server can break that, so
//! "at or past" is then only as good as its discipline.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use super::{Cursor, GtidError};

/// A position or a binlog state.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MariadbGtidPos {
    /// Domain to server to sequence number. No inner map is empty.
    domains: BTreeMap<u32, BTreeMap<u32, u64>>,
}

/// A domain in which somebody is behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DomainLag {
    pub domain: u32,
    /// The sequence number that there is.
    pub wanted: u64,
    /// The one that has been reached; `None` when nothing of the domain has.
    pub reached: Option<u64>,
}

impl DomainLag {
    /// The distance in sequence numbers, at least 1; the transactions are at most as many.
    pub fn missing(&self) -> u64 {
        match self.reached {
            Some(reached) => self.wanted - reached,
            // Numbers begin at 1, so a domain never seen lacks all of them.
            None => self.wanted.max(1),
        }
    }
}

impl MariadbGtidPos {
    /// Reads `DOMAIN-SERVER-SEQUENCE,…`, as `gtid_slave_pos` or `gtid_binlog_state` print it.
    pub fn parse(text: &str) -> Result<Self, GtidError> {
        let mut cursor = Cursor::new(text)?;
        let mut domains: BTreeMap<u32, BTreeMap<u32, u64>> = BTreeMap::new();
        cursor.skip_space();
        while !cursor.is_at_end() {
            let start = cursor.at;
            let domain = parse_id(&mut cursor, "a domain id")?;
            expect_dash(&mut cursor)?;
            let server = parse_id(&mut cursor, "a server id")?;
            expect_dash(&mut cursor)?;
            let sequence = cursor.number(0, u64::MAX, "a sequence number")?;
            let servers = domains.entry(domain).or_default();
            if servers.insert(server, sequence).is_some() {
                cursor.at = start;
                return Err(cursor.expected("each server once per domain"));
            }
            cursor.skip_space();
            if cursor.is_at_end() {
                break;
            }
            if !cursor.take(',') {
                return Err(cursor.expected("a comma"));
            }
            cursor.skip_space();
            if cursor.is_at_end() {
                return Err(cursor.expected("a GTID after the comma"));
            }
        }
        Ok(Self { domains })
    }

    /// Has no transaction.
    pub fn is_empty(&self) -> bool {
        self.domains.is_empty()
    }

    /// Whether in every domain of `other` this one has come as far or farther.
    pub fn is_at_or_past(&self, other: &Self) -> bool {
        other.missing_from(self).is_empty()
    }

    /// Whether in every domain of this one `other` has come as far or farther.
    pub fn is_subset_of(&self, other: &Self) -> bool {
        other.is_at_or_past(self)
    }

    /// What of this one `other` hasn't reached, domain by domain; empty when nothing.
    pub fn missing_from(&self, other: &Self) -> Vec<DomainLag> {
        let lag = |&domain: &u32| {
            let wanted = self.sequence(domain)?;
            let reached = other.sequence(domain);
            reached
                .is_none_or(|reached| reached < wanted)
                .then_some(DomainLag {
                    domain,
                    wanted,
                    reached,
                })
        };
        self.domains.keys().filter_map(lag).collect()
    }

    /// The farther position in each domain; as `to_position`, one transaction per domain.
    pub fn union(&self, other: &Self) -> Self {
        let mut union = self.clone();
        for (domain, servers) in &other.domains {
            let joined = union.domains.entry(*domain).or_default();
            for (server, sequence) in servers {
                let farthest = joined.entry(*server).or_default();
                *farthest = (*farthest).max(*sequence);
            }
        }
        union.to_position()
    }

    /// Only the last transaction of each domain, which is what `gtid_slave_pos` can be set to.
    pub fn to_position(&self) -> Self {
        let last = |(domain, servers): (&u32, &BTreeMap<u32, u64>)| {
            let (server, sequence) = servers.iter().max_by_key(|(_, sequence)| **sequence)?;
            Some((*domain, BTreeMap::from([(*server, *sequence)])))
        };
        Self {
            domains: self.domains.iter().filter_map(last).collect(),
        }
    }

    /// Without the domains whose last transaction one of these servers wrote; of a position.
    pub fn without_servers(&self, server_ids: &[u32]) -> Self {
        let stays = |servers: &BTreeMap<u32, u64>| {
            let last = servers.iter().max_by_key(|(_, sequence)| **sequence);
            last.is_none_or(|(server, _)| !server_ids.contains(server))
        };
        let domains = self.domains.iter().filter(|(_, servers)| stays(servers));
        Self {
            domains: domains
                .map(|(domain, servers)| (*domain, servers.clone()))
                .collect(),
        }
    }

    /// The highest sequence number of a domain.
    pub fn sequence(&self, domain: u32) -> Option<u64> {
        self.domains.get(&domain)?.values().max().copied()
    }

    /// The highest sequence number that a server gave in a domain; of a binlog state.
    pub fn sequence_of(&self, domain: u32, server_id: u32) -> Option<u64> {
        self.domains.get(&domain)?.get(&server_id).copied()
    }

    /// Whether a server whose binary log is in this state, and that has applied up to `applied`, has
    /// one transaction. A position alone can't tell: its number may be another server's. `None` when
    /// it has never heard of who wrote that transaction in its domain.
    pub fn has(
        &self,
        applied: Option<&Self>,
        (domain, server, sequence): (u32, u32, u64),
    ) -> Option<bool> {
        self.reached(applied, domain, server)
            .map(|reached| reached >= sequence)
    }

    /// How far a server in this state has come in what one server wrote in a domain.
    pub fn reached(&self, applied: Option<&Self>, domain: u32, server: u32) -> Option<u64> {
        let known = [
            self.sequence_of(domain, server),
            applied.and_then(|applied| applied.sequence_of(domain, server)),
        ];
        known.into_iter().flatten().max()
    }

    /// Domain, server and sequence number of each entry.
    pub fn entries(&self) -> impl Iterator<Item = (u32, u32, u64)> {
        self.domains.iter().flat_map(|(domain, servers)| {
            servers
                .iter()
                .map(|(server, sequence)| (*domain, *server, *sequence))
        })
    }

    /// The domains, ascending.
    pub fn domains(&self) -> impl Iterator<Item = u32> {
        self.domains.keys().copied()
    }
}

impl FromStr for MariadbGtidPos {
    type Err = GtidError;

    fn from_str(text: &str) -> Result<Self, GtidError> {
        Self::parse(text)
    }
}

/// Domains ascending; within a domain, the last transaction last, as in a binlog state.
impl fmt::Display for MariadbGtidPos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for (domain, servers) in &self.domains {
            let mut servers: Vec<_> = servers.iter().collect();
            servers.sort_by_key(|(_, sequence)| **sequence);
            for (server, sequence) in servers {
                write!(f, "{separator}{domain}-{server}-{sequence}")?;
                separator = ",";
            }
        }
        Ok(())
    }
}

fn parse_id(cursor: &mut Cursor<'_>, expected: &'static str) -> Result<u32, GtidError> {
    let start = cursor.at;
    let number = cursor.number(0, u64::from(u32::MAX), expected)?;
    u32::try_from(number).map_err(|_| {
        cursor.at = start;
        cursor.expected(expected)
    })
}

fn expect_dash(cursor: &mut Cursor<'_>) -> Result<(), GtidError> {
    match cursor.take('-') {
        true => Ok(()),
        false => Err(cursor.expected("a dash")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn position(text: &str) -> MariadbGtidPos {
        MariadbGtidPos::parse(text).unwrap()
    }

    #[test]
    fn a_number_of_another_server_proves_nothing() {
        let state = position("0-1-100,0-2-130");
        let applied = position("0-3-90,7-1-5");
        let has = |entry| state.has(Some(&applied), entry);
        assert_eq!(has((0, 1, 100)), Some(true));
        assert_eq!(has((0, 1, 105)), Some(false), "though 2 wrote 105 as well");
        assert_eq!(has((0, 3, 90)), Some(true), "applied, and not logged");
        assert_eq!(has((0, 3, 91)), Some(false));
        assert_eq!(has((0, 4, 50)), None);
        assert_eq!(has((1, 1, 1)), None);
        assert_eq!(state.has(None, (0, 3, 90)), None);
    }

    #[test]
    fn positions_and_states_are_read() {
        for (text, expected) in [
            ("", ""),
            (" \n", ""),
            ("0-1-100", "0-1-100"),
            ("1-2-5,0-1-100", "0-1-100,1-2-5"),
            (" 0-1-100 ,\n1-2-5 ", "0-1-100,1-2-5"),
            ("0-2-7,0-1-9", "0-2-7,0-1-9"),
            ("0-1-9,0-2-7", "0-2-7,0-1-9"),
            (
                "4294967295-4294967295-18446744073709551615",
                "4294967295-4294967295-18446744073709551615",
            ),
        ] {
            assert_eq!(position(text).to_string(), expected);
        }
        let state = position("0-1-9,0-2-7,5-1-3");
        assert_eq!(state.to_position().to_string(), "0-1-9,5-1-3");
        assert_eq!(state.sequence_of(0, 2), Some(7));
        assert_eq!(state.sequence(0), Some(9));
        assert_eq!(state.domains().collect::<Vec<_>>(), [0, 5]);
    }

    #[test]
    fn malformed_positions_are_refused_at_their_place() {
        for (text, column) in [
            ("x", 1),
            ("0", 2),
            ("0-1", 4),
            ("0-1-", 5),
            ("0-1-5,", 7),
            (",0-1-5", 1),
            ("0-1-5,,1-1-5", 7),
            ("0-1-5 1-1-5", 7),
            ("0-1-5-6", 6),
            ("-1-1-5", 1),
            ("4294967296-1-5", 1),
            ("0-4294967296-5", 3),
            ("0-1-18446744073709551616", 5),
            ("0-1-5,0-1-6", 7),
            ("é", 1),
        ] {
            let error = MariadbGtidPos::parse(text).unwrap_err();
            let GtidError::Malformed { column: found, .. } = error else {
                panic!("{text}: {error}")
            };
            assert_eq!(found, column, "{text}: {error}");
        }
    }

    #[test]
    fn lag_is_told_by_domain() {
        let (source, replica) = (
            position("0-1-100,1-2-5,2-1-1"),
            position("0-2-98,2-1-1,9-9-9"),
        );
        let lag = |domain, wanted, reached| DomainLag {
            domain,
            wanted,
            reached,
        };
        let missing = source.missing_from(&replica);
        assert_eq!(missing, [lag(0, 100, Some(98)), lag(1, 5, None)]);
        let counts: Vec<_> = missing.iter().map(DomainLag::missing).collect();
        assert_eq!(counts, [2, 5]);
        assert!(!replica.is_at_or_past(&source));
        assert_eq!(
            source.union(&replica).to_string(),
            "0-1-100,1-2-5,2-1-1,9-9-9"
        );
    }

    fn any_position() -> impl Strategy<Value = MariadbGtidPos> {
        let domain = (0..4_u32, (0..3_u32, 1..20_u64));
        prop::collection::btree_map(domain.0, domain.1, 0..4).prop_map(|domains| MariadbGtidPos {
            domains: domains
                .into_iter()
                .map(|(domain, gtid)| (domain, BTreeMap::from([gtid])))
                .collect(),
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn laws_hold(a in any_position(), b in any_position(), c in any_position()) {
            prop_assert_eq!(a.union(&b), b.union(&a));
            prop_assert_eq!(a.union(&b).union(&c), a.union(&b.union(&c)));
            prop_assert_eq!(a.union(&a), a.clone());
            prop_assert!(a.union(&b).is_at_or_past(&a));
            prop_assert!(a.is_subset_of(&a));
            prop_assert_eq!(a.is_subset_of(&b), a.missing_from(&b).is_empty());
            if a.is_subset_of(&b) && b.is_subset_of(&c) {
                prop_assert!(a.is_subset_of(&c));
            }
        }

        #[test]
        fn what_is_printed_reads_back(a in any_position()) {
            prop_assert_eq!(MariadbGtidPos::parse(&a.to_string()).unwrap(), a);
        }

        #[test]
        fn no_text_panics(text in "[0-9,\\- é]{0,40}") {
            drop(MariadbGtidPos::parse(&text));
        }
    }
}
