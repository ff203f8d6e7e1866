//! Names of snapshots: `SERVER-20261122T020000Z-7f3a`, sortable by time, safe in every back-end.

use std::fs::File;
use std::io::Read;

use jiff::Timestamp;

/// A new id; four random hex digits keep two of one second apart.
pub fn new(server: &str, now: Timestamp) -> String {
    format!(
        "{server}-{}-{}",
        now.strftime("%Y%m%dT%H%M%SZ"),
        random_hex(2)
    )
}

/// The id of one use of a snapshot: `verify-SNAPSHOT-1a2b`.
pub fn of_use(word: &str, id: &str) -> String {
    format!("{word}-{id}-{}", random_hex(2))
}

/// So many random bytes in hex digits. Without /dev/urandom no better than the process id and the
/// time, which still tells two names apart.
pub fn random_hex(bytes: usize) -> String {
    let mut random = vec![0u8; bytes];
    let read = File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut random));
    if read.is_err() {
        let mut mixed = u64::from(std::process::id()) << 32 | u64::from(std::process::id());
        mixed ^= crate::sys::clock::now().as_nanosecond() as u64;
        for (index, byte) in random.iter_mut().enumerate() {
            *byte = mixed.rotate_left(index as u32 * 7) as u8;
        }
    }
    random.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The server and the second at which an id says it was made; `None` when it isn't one of ours.
pub fn parse(id: &str) -> Option<(&str, Timestamp)> {
    let (rest, random) = id.rsplit_once('-')?;
    let (server, stamp) = rest.rsplit_once('-')?;
    let random_fits = random.len() == 4 && random.bytes().all(|b| b.is_ascii_hexdigit());
    if server.is_empty() || !random_fits {
        return None;
    }
    let civil = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", stamp).ok()?;
    let time = civil.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp();
    Some((server, time))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_ids_are_read_back() {
        let now: Timestamp = "2026-11-22T02:00:00Z".parse().unwrap();
        let id = new("db-2.lab", now);
        assert!(id.starts_with("db-2.lab-20261122T020000Z-"), "{id}");
        assert_eq!(parse(&id), Some(("db-2.lab", now)));
    }

    #[test]
    fn others_names_are_not_ids() {
        for name in [
            "",
            "weekly",
            "db2-2026-7f3a",
            "-20261122T020000Z-7f3a",
            "db2-20261122T020000Z-7f3",
        ] {
            assert_eq!(parse(name), None, "{name}");
        }
    }
}
