//! Single values: text in, checked value or complaint out.
//!
//! Pure; flags of the command line use these too, so that a value reads the same everywhere.

use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use super::issue::Complaint;
use super::model::{Address, CowSize};

/// The port of a server whose address names none.
pub const PORT_DEFAULT: u16 = 3306;
/// Servers' and pairs' names become part of file and volume names.
pub const NAME_CHARS_MAX: usize = 40;

/// What to write where a duration stands.
pub(super) const DURATION_HINT: &str = "Write it like \"90s\", \"2h 30m\" or \"14d\".";
/// What to write where a size stands.
pub(super) const SIZE_HINT: &str = "Write it like \"512MiB\" or \"10GiB\".";

/// A duration as people write it ("90s", "2h 30m").
pub fn parse_duration(text: &str) -> Result<Duration, Complaint> {
    humantime::parse_duration(text.trim()).map_err(|error| {
        Complaint::new(format!("{text:?} is no duration: {error}")).hint(DURATION_HINT)
    })
}

/// A size in bytes ("10GiB"; the decimal units kB, MB, GB, TB are known too).
pub fn parse_size(text: &str) -> Result<u64, Complaint> {
    let trimmed = text.trim();
    let digits = trimmed
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(trimmed.len());
    let (number, unit) = trimmed.split_at(digits);
    let unit = unit.trim_start();
    let wrong = |why: String| Complaint::new(format!("{text:?} is no size: {why}")).hint(SIZE_HINT);
    if number.is_empty() {
        return Err(wrong("a whole number comes first".to_owned()));
    }
    let factor = match unit.to_ascii_lowercase().as_str() {
        "b" => 1,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        "tib" => 1 << 40,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        "" => return Err(wrong("the unit is missing".to_owned())),
        _ => return Err(wrong(format!("unknown unit {unit:?}"))),
    };
    match number
        .parse::<u64>()
        .ok()
        .and_then(|n| n.checked_mul(factor))
    {
        Some(0) => Err(wrong("it must be more than zero".to_owned())),
        Some(bytes) => Ok(bytes),
        None => Err(wrong("it is too large".to_owned())),
    }
}

/// A share of the origin ("20%") or a size.
pub fn parse_cow_size(text: &str) -> Result<CowSize, Complaint> {
    let Some(percent) = text.trim().strip_suffix('%') else {
        return parse_size(text).map(CowSize::Bytes).map_err(|complaint| {
            Complaint::new(complaint.message)
                .hint("Write a share of the origin like \"20%\", or a size like \"10GiB\".")
        });
    };
    match percent.trim_end().parse::<u8>() {
        Ok(percent @ 1..=100) => Ok(CowSize::Percent(percent)),
        Ok(_) | Err(_) => Err(Complaint::new(format!(
            "{text:?} is no share: it goes from 1% to 100%, in whole numbers"
        ))),
    }
}

/// A server's TCP address: `host:port`, `host` (port 3306) or `[v6]:port`.
pub fn parse_address(text: &str) -> Result<Address, Complaint> {
    const HINT: &str =
        "Write it like \"db1.example:3306\", \"192.0.2.7\" or \"[2001:db8::7]:3306\".";
    let wrong = |why: &str| Complaint::new(format!("{text:?} is no address: {why}")).hint(HINT);
    if text.starts_with('/') {
        return Err(
            wrong("it is a path").hint(format!("For a Unix socket write: socket = {text:?}"))
        );
    }
    if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) = rest
            .split_once(']')
            .ok_or_else(|| wrong("the bracket isn't closed"))?;
        host.parse::<std::net::Ipv6Addr>()
            .map_err(|_| wrong("what stands in the brackets is no IPv6 address"))?;
        let port = match rest.strip_prefix(':') {
            Some(port) => Some(port),
            None if rest.is_empty() => None,
            None => return Err(wrong("after the bracket only a port may follow")),
        };
        return tcp(host, port).map_err(wrong);
    }
    if text.parse::<std::net::Ipv6Addr>().is_ok() {
        return Err(wrong("an IPv6 address stands in brackets")
            .hint(format!("Write it like \"[{text}]:{PORT_DEFAULT}\".")));
    }
    let (host, port) = match text.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (text, None),
    };
    let host_chars = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    if host.is_empty() || host.starts_with('-') || !host.chars().all(host_chars) {
        return Err(wrong(
            "the host name is empty or has characters that no host name has",
        ));
    }
    tcp(host, port).map_err(wrong)
}

fn tcp(host: &str, port: Option<&str>) -> Result<Address, &'static str> {
    let port = match port {
        None => PORT_DEFAULT,
        Some(port) if !port.bytes().all(|b| b.is_ascii_digit()) => {
            return Err("the port is no number");
        }
        Some(port) => match port.parse::<u16>() {
            Ok(port @ 1..) => port,
            Ok(_) | Err(_) => return Err("the port goes from 1 to 65535"),
        },
    };
    let host = host.to_owned();
    Ok(Address::Tcp { host, port })
}

/// A path from the root, without `..`; it means the same wherever the program is started.
pub fn parse_absolute_path(text: &str) -> Result<PathBuf, Complaint> {
    let path = Path::new(text);
    if !path.is_absolute() {
        let message = format!("{text:?} is no absolute path");
        return Err(Complaint::new(message).hint("Write it from the root: \"/…\"."));
    }
    if text.contains('\0') || path.components().any(|part| part == Component::ParentDir) {
        let message = format!("the path {text:?} has a \"..\" or a NUL in it");
        return Err(Complaint::new(message).hint("Write where it leads, from the root."));
    }
    Ok(path.to_owned())
}

/// A name that is safe in file and volume names: `[A-Za-z0-9][A-Za-z0-9_.-]*`, at most 40.
pub fn check_name(name: &str) -> Result<(), Complaint> {
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    let first_is_safe = name.starts_with(|c: char| c.is_ascii_alphanumeric());
    if first_is_safe && name.len() <= NAME_CHARS_MAX && name.chars().all(inner) {
        return Ok(());
    }
    Err(Complaint::new(format!("the name {name:?} isn't safe in a file name")).hint(format!(
        "Use letters, digits, '_', '.' and '-', a letter or digit first, at most {NAME_CHARS_MAX}."
    )))
}

/// One of a list of words.
pub(super) fn parse_word<T: Copy>(text: &str, words: &[(&str, T)]) -> Result<T, Complaint> {
    if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
        return Ok(*value);
    }
    let known: Vec<_> = words.iter().map(|(word, _)| *word).collect();
    let hint = match closest(text, &known) {
        Some(word) => format!("Did you mean {word:?}? Known: {}.", known.join(", ")),
        None => format!("Known: {}.", known.join(", ")),
    };
    Err(Complaint::new(format!("unknown word {text:?}")).hint(hint))
}

/// The candidate that somebody who wrote `text` probably meant.
pub(super) fn closest<'c>(text: &str, candidates: &[&'c str]) -> Option<&'c str> {
    let text = text.to_lowercase().replace('-', "_");
    candidates
        .iter()
        .map(|candidate| (edits(&text, &candidate.replace('-', "_")), *candidate))
        .filter(|(distance, candidate)| *distance <= 1 + candidate.chars().count() / 4)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Edit distance with neighbours swapped counting one (optimal string alignment).
fn edits(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows: Vec<Vec<usize>> = vec![(0..=b.len()).collect()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replaced = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = replaced.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_their_units() {
        assert_eq!(parse_size("10GiB"), Ok(10 << 30));
        assert_eq!(parse_size(" 3 kb "), Ok(3000));
        for wrong in [
            "",
            "10",
            "10G",
            "GiB",
            "0MiB",
            "1.5GiB",
            "-1GiB",
            "99999999999TiB",
        ] {
            assert!(parse_size(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn cow_sizes_are_shares_or_sizes() {
        assert_eq!(parse_cow_size("20%"), Ok(CowSize::Percent(20)));
        assert_eq!(parse_cow_size("1MiB"), Ok(CowSize::Bytes(1 << 20)));
        for wrong in ["0%", "101%", "%", "20 percent", "300%"] {
            assert!(parse_cow_size(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn addresses_are_read_in_every_form() {
        let tcp = |host: &str, port| {
            let host = host.to_owned();
            Ok(Address::Tcp { host, port })
        };
        assert_eq!(parse_address("db1.example:3307"), tcp("db1.example", 3307));
        assert_eq!(parse_address("db1"), tcp("db1", 3306));
        assert_eq!(parse_address("[::1]:33060"), tcp("::1", 33060));
        assert_eq!(parse_address("[fe80::1]"), tcp("fe80::1", 3306));
        for wrong in [
            "",
            ":3306",
            "db1:",
            "db1:0",
            "db1:65536",
            "db1:+5",
            "db1:x",
            "::1",
            "[::1",
            "[::1]x",
            "[db1]:3306",
            "/run/mysqld.sock",
            "db 1",
            "-h:3306",
            "db1:3306:1",
        ] {
            assert!(parse_address(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn names_are_safe_in_file_names() {
        for safe in ["db1", "0", "a.b-c_D", &"x".repeat(40)] {
            assert!(check_name(safe).is_ok(), "{safe}");
        }
        for unsafe_name in [
            "",
            ".",
            "..",
            "-x",
            "_x",
            "a/b",
            "ä",
            "a b",
            &"x".repeat(41),
        ] {
            assert!(check_name(unsafe_name).is_err(), "{unsafe_name}");
        }
    }

    #[test]
    fn paths_start_at_the_root() {
        assert!(parse_absolute_path("/srv/x").is_ok());
        for wrong in ["", "x", "./x", "~/x", "/srv/../etc"] {
            assert!(parse_absolute_path(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn slips_of_the_fingers_find_the_word_that_was_meant() {
        let known = ["max_pause", "max_lag", "keep", "tls_ca"];
        assert_eq!(closest("max_puase", &known), Some("max_pause"));
        assert_eq!(closest("max-lag", &known), Some("max_lag"));
        assert_eq!(closest("tlsca", &known), Some("tls_ca"));
        assert_eq!(closest("colour", &known), None);
    }
}
