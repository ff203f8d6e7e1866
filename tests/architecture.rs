//! The rooms and their arrows, held against the source: docs/ARCHITECTURE.md says why.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// What each room may use besides itself. Nothing points upward.
const ARROWS: [(&str, &[&str]); 13] = [
    (
        "cli",
        &[
            "discovery",
            "nightly",
            "notify",
            "failover",
            "replication",
            "snapshot",
            "health",
            "journal",
            "server",
            "volume",
            "config",
            "sys",
        ],
    ),
    // Reads alone.
    ("discovery", &["server", "config", "sys"]),
    ("notify", &["config", "sys"]),
    // By the means of the rooms below, and no other.
    ("nightly", &["snapshot", "journal", "config", "sys"]),
    (
        "failover",
        &[
            "replication",
            "snapshot",
            "health",
            "journal",
            "reroute",
            "server",
            "config",
            "sys",
        ],
    ),
    // It judges snapshots too, and rehearses one.
    (
        "health",
        &["snapshot", "journal", "server", "volume", "config", "sys"],
    ),
    (
        "replication",
        &["snapshot", "journal", "server", "volume", "config", "sys"],
    ),
    (
        "snapshot",
        &["journal", "server", "volume", "config", "sys"],
    ),
    // It does things again and puts them back: on servers, volumes, and the ways of clients.
    ("journal", &["reroute", "server", "volume", "config", "sys"]),
    ("reroute", &["server", "config", "sys"]),
    ("server", &["config", "sys"]),
    ("volume", &["config", "sys"]),
    ("config", &["sys"]),
];

/// Only these rooms may do these things.
const ONLY_IN_SYS: [&str; 13] = [
    "process::Command",
    "Command::new",
    "SystemTime::now",
    "Timestamp::now",
    "fs::write",
    "File::create",
    "OpenOptions",
    "fs::copy",
    "fs::rename",
    "fs::remove",
    "fs::create_dir",
    "fs::set_permissions",
    "File::options",
];

/// Files outside of `sys` that may, each for its reason. One that doesn't any more fails the test.
const EXCEPTIONS: [(&str, &str, &str); 1] = [(
    "config/option_file.rs",
    "OpenOptions",
    "reads without following the file to a device or fifo; opens nothing for writing",
)];

/// Decide, from what was observed: no effects, no clock, no connection, no storage.
const PURE: [&str; 46] = [
    "cli/pace.rs",
    "discovery/text.rs",
    "failover/against.rs",
    "failover/assess.rs",
    "failover/look.rs",
    "failover/origin.rs",
    "failover/steps.rs",
    "health/errant.rs",
    "health/failover.rs",
    "health/finding.rs",
    "health/lag.rs",
    "health/roles.rs",
    "health/rules/pair.rs",
    "health/rules/replication.rs",
    "health/rules/server.rs",
    "nightly/record.rs",
    "nightly/rhythm.rs",
    "nightly/trend.rs",
    "notify/message.rs",
    "replication/plan.rs",
    "replication/plan/checks.rs",
    "replication/plan/data.rs",
    "replication/plan/provision.rs",
    "reroute/dns/lines.rs",
    "reroute/file/edit.rs",
    "reroute/haproxy/lines.rs",
    "reroute/vip/lines.rs",
    "server/foreign_keys.rs",
    "snapshot/archive/index.rs",
    "snapshot/archive/obstacle.rs",
    "snapshot/archive/refit.rs",
    "snapshot/archive/split.rs",
    "snapshot/archive/statements.rs",
    "server/held.rs",
    "server/privileges.rs",
    "snapshot/keep/fit.rs",
    "snapshot/keep/retention.rs",
    "snapshot/methods/weigh.rs",
    "snapshot/prove/boot_log.rs",
    "snapshot/restore/extract/choice.rs",
    "snapshot/restore/extract/expression.rs",
    "snapshot/restore/extract/graph.rs",
    "snapshot/restore/extract/heard.rs",
    "snapshot/restore/extract/wanted.rs",
    "snapshot/restore/in_place/judge.rs",
    "snapshot/take/plan.rs",
];

const IMPURE: [&str; 12] = [
    "crate::sys::exec",
    "crate::sys::files",
    "crate::sys::clock",
    "crate::sys::lock",
    "crate::sys::process",
    "crate::sys::ioctl",
    "crate::sys::transfer",
    "crate::server::session",
    "crate::volume::btrfs",
    "crate::volume::lvm",
    "crate::volume::zfs",
    "std::fs",
];

/// A source file, without its tests.
struct Source {
    /// Below src/.
    name: String,
    text: String,
}

impl Source {
    /// `None` for main.rs and lib.rs, which belong to no room.
    fn room(&self) -> Option<&str> {
        self.name.split_once('/').map(|(room, _)| room)
    }

    /// The lines that are code, numbered from 1.
    fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text
            .lines()
            .enumerate()
            .map(|(index, line)| (index + 1, line))
            .filter(|(_, line)| !line.trim_start().starts_with("//"))
    }
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut dirs = vec![root.clone()];
    let mut sources = Vec::new();
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path: PathBuf = entry.unwrap().path();
            let name = path.strip_prefix(&root).unwrap().display().to_string();
            if path.is_dir() {
                dirs.push(path);
            } else if name.ends_with(".rs") && !name.ends_with("tests.rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                sources.push(Source {
                    name,
                    text: without_tests(&text),
                });
            }
        }
    }
    assert!(sources.len() > 50, "the sources weren't found");
    sources
}

/// Test modules stand at the end of their files.
fn without_tests(text: &str) -> String {
    let code = text.split("\n#[cfg(test)]\nmod ").next().unwrap();
    code.to_owned()
}

/// The rooms that a line names as `crate::room`.
fn rooms_in(line: &str) -> Vec<&str> {
    line.split("crate::")
        .skip(1)
        .map(|rest| {
            rest.split(|c: char| !c.is_ascii_lowercase() && c != '_')
                .next()
                .unwrap()
        })
        .filter(|room| ARROWS.iter().any(|(name, _)| name == room) || *room == "sys")
        .collect()
}

#[test]
fn rooms_use_only_what_lies_below_them() {
    let mut wrong = Vec::new();
    let mut seen = BTreeSet::new();
    for source in sources() {
        let Some(room) = source.room() else { continue };
        let allowed = match ARROWS.iter().find(|(name, _)| *name == room) {
            Some((_, allowed)) => *allowed,
            None if room == "sys" => &[],
            None => panic!("{}: {room} is no room of the architecture", source.name),
        };
        for (number, line) in source.lines() {
            for used in rooms_in(line) {
                seen.insert((room.to_owned(), used.to_owned()));
                if used != room && !allowed.contains(&used) {
                    wrong.push(format!("{}:{number}: {room} -> {used}", source.name));
                }
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "arrows that may not be:\n{}",
        wrong.join("\n")
    );
    let arrow = ("snapshot".to_owned(), "journal".to_owned());
    assert!(seen.contains(&arrow), "no arrow was found at all");
}

#[test]
fn programs_clocks_and_raw_writes_stay_in_sys() {
    let mut wrong = Vec::new();
    let mut excused = BTreeSet::new();
    for source in sources() {
        if source.room() == Some("sys") {
            continue;
        }
        for (number, line) in source.lines() {
            for word in ONLY_IN_SYS.iter().filter(|word| line.contains(**word)) {
                let exception = EXCEPTIONS
                    .iter()
                    .position(|(name, allowed, _)| *name == source.name && allowed == word);
                match exception {
                    Some(index) => drop(excused.insert(index)),
                    None => wrong.push(format!("{}:{number}: {word}", source.name)),
                }
            }
        }
    }
    assert!(wrong.is_empty(), "only sys may:\n{}", wrong.join("\n"));
    assert_eq!(
        excused.len(),
        EXCEPTIONS.len(),
        "an exception isn't needed any more"
    );
}

#[test]
fn pure_files_have_no_effects() {
    let sources = sources();
    for name in PURE {
        let source = sources
            .iter()
            .find(|source| source.name == name)
            .unwrap_or_else(|| panic!("{name} is gone"));
        for (number, line) in source.lines() {
            for word in IMPURE.iter().chain(&ONLY_IN_SYS) {
                assert!(!line.contains(word), "{name}:{number}: {word}");
            }
        }
    }
}

#[test]
fn every_module_says_what_it_owns() {
    for source in sources() {
        assert!(
            source.text.starts_with("//!"),
            "{} has no //! at its top",
            source.name
        );
    }
}

#[test]
fn the_process_set_up_stays_short() {
    let sources = sources();
    let main = sources
        .iter()
        .find(|source| source.name == "main.rs")
        .unwrap();
    assert!(main.text.lines().count() < 40);
}

/// What a path of the source can begin with; anything else is another crate's, or a name in the file.
const STARTS: [&str; 3] = ["crate", "super", "self"];

/// The words of a source file's module, from the root: `["snapshot", "take", "plan"]`.
fn module_of(name: &str) -> Vec<String> {
    let name = name.trim_end_matches(".rs").trim_end_matches("/mod");
    name.split('/').map(str::to_owned).collect()
}

/// The single paths of `a::{b, c::{d, e}}`.
fn spread(path: &str) -> Vec<String> {
    let Some((front, rest)) = path.split_once('{') else {
        return vec![path.to_owned()];
    };
    let inside = rest.rsplit_once('}').unwrap().0;
    let (mut parts, mut depth) = (vec![String::new()], 0);
    for c in inside.chars() {
        match c {
            ',' if depth == 0 => parts.push(String::new()),
            _ => {
                depth += i32::from(c == '{') - i32::from(c == '}');
                parts.last_mut().unwrap().push(c);
            }
        }
    }
    let parts = parts.iter().filter(|part| !part.is_empty());
    parts
        .flat_map(|part| spread(&format!("{front}{part}")))
        .collect()
}

/// In one word, and without the names that `as` gives.
fn without_names(path: &str) -> String {
    let mut plain = String::new();
    let mut words = path.split_whitespace();
    while let Some(word) = words.next() {
        match word {
            "as" => plain.extend(words.next().unwrap().matches([',', '}'])),
            word => plain.push_str(word),
        }
    }
    plain
}

/// Every path in the code that leads to a module of ours: those of `use`, and those written out.
fn paths_in(source: &Source) -> Vec<String> {
    let code: Vec<&str> = source.lines().map(|(_, line)| line).collect();
    let code = code.join("\n");
    let mut paths = Vec::new();
    for start in STARTS {
        for (at, _) in code.match_indices(&format!("{start}::")) {
            if code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':') {
                continue;
            }
            let is_use = code[..at].trim_end().ends_with("use");
            let end = match is_use {
                true => code[at..].find(';').unwrap(),
                false => code[at..]
                    .find(|c: char| !c.is_alphanumeric() && c != '_' && c != ':')
                    .unwrap_or(code.len() - at),
            };
            paths.extend(spread(&without_names(&code[at..at + end])));
        }
    }
    paths
}

/// The module that a path in `own` leads to: the deepest one that there is.
fn resolve(own: &[String], path: &str, all: &BTreeSet<Vec<String>>) -> Option<Vec<String>> {
    let mut words: Vec<String> = path.split("::").map(str::to_owned).collect();
    let mut base = match words[0].as_str() {
        "crate" => Vec::new(),
        _ => own.to_vec(),
    };
    while words.first().is_some_and(|word| STARTS.contains(&&**word)) {
        if words.remove(0) == "super" {
            base.pop();
        }
    }
    base.extend(words);
    (1..=base.len())
        .rev()
        .map(|count| base[..count].to_vec())
        .find(|module| all.contains(module))
}

/// A file that can be read without one that needs it in turn. A module and its own children are one.
#[test]
fn files_of_a_room_go_in_no_circle() {
    let sources = sources();
    let all: BTreeSet<Vec<String>> = sources.iter().map(|s| module_of(&s.name)).collect();
    let uses: std::collections::BTreeMap<Vec<String>, BTreeSet<Vec<String>>> = sources
        .iter()
        .map(|source| {
            let own = module_of(&source.name);
            let used = paths_in(source)
                .iter()
                .filter_map(|path| resolve(&own, path, &all))
                .filter(|used| !used.starts_with(&own) && !own.starts_with(used))
                .collect();
            (own, used)
        })
        .collect();
    let arrows: usize = uses.values().map(BTreeSet::len).sum();
    assert!(arrows > 500, "only {arrows} arrows were found");
    let mut circles = Vec::new();
    for start in &all {
        // By the shortest way back, so that it can be read.
        let mut ways = std::collections::VecDeque::from([vec![start.clone()]]);
        let mut seen = BTreeSet::new();
        'ways: while let Some(way) = ways.pop_front() {
            for next in &uses[way.last().unwrap()] {
                if next == start {
                    let words: Vec<String> = way.iter().map(|module| module.join("::")).collect();
                    // Once, from its first by name.
                    if way.iter().min() == Some(start) {
                        circles.push(words.join(" -> "));
                    }
                    break 'ways;
                }
                if seen.insert(next.clone()) {
                    ways.push_back([way.clone(), vec![next.clone()]].concat());
                }
            }
        }
    }
    assert!(circles.is_empty(), "circles:\n{}", circles.join("\n"));
}
