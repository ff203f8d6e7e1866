//! What an operation may have left behind.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use super::pair::Pair;
use super::private;
use super::{eventually, limit, try_sh};

/// What must be the same afterwards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Footprint {
    sql_threads: Vec<(String, String)>,
    globals: Vec<String>,
    mounts: BTreeSet<String>,
    catalogue: BTreeSet<String>,
}

impl Footprint {
    pub fn of(pair: &Pair) -> Self {
        Self {
            sql_threads: pair.replica.sql_threads(),
            globals: globals(pair),
            mounts: mounts(pair),
            catalogue: catalogue(pair),
        }
    }

    /// Waits until the threads are as they were: nobody has run `recover` yet.
    #[track_caller]
    pub fn assert_threads_come_back(&self, pair: &Pair, within: Duration) {
        let mut last = Vec::new();
        eventually_or(within, || {
            last = pair.replica.sql_threads();
            last == self.sql_threads
        })
        .unwrap_or_else(|()| {
            panic!(
                "not within {within:?}: SQL threads {last:?} as before {:?}",
                self.sql_threads
            )
        });
    }

    /// Everything is as it was, but for snapshots that were catalogued since.
    #[track_caller]
    pub fn assert_nothing_left(&self, pair: &Pair) {
        self.assert_threads_come_back(pair, limit(15));
        // Whoever resumed gives its lease back a moment after the threads run.
        eventually(limit(15), "the watchdogs are done", || {
            pair.tool.watchdogs().is_empty()
        });
        let state = pair.state_dir();
        assert_eq!(
            names_in(&state.join("leases")),
            Vec::<String>::new(),
            "leases"
        );
        let unfinished: Vec<String> = names_in(&state.join("journal"))
            .into_iter()
            .filter(|name| name != "done")
            .collect();
        assert_eq!(unfinished, Vec::<String>::new(), "unfinished operations");
        for mount in pair.volume.mounts() {
            assert_writable(mount);
        }
        assert_writable(pair.base());
        assert_eq!(mounts(pair), self.mounts, "mounts");
        assert_eq!(globals(pair), self.globals, "global variables");
        eventually(limit(10), "the watchdogs are gone", || {
            pair.tool.watchdogs().is_empty()
        });
        assert_no_use(pair);
        assert_only_catalogued(pair);
    }

    /// As `assert_nothing_left`, and no snapshot was added.
    #[track_caller]
    pub fn assert_nothing_new(&self, pair: &Pair) {
        self.assert_nothing_left(pair);
        assert_eq!(catalogue(pair), self.catalogue, "catalogued snapshots");
    }
}

fn eventually_or(within: Duration, mut look: impl FnMut() -> bool) -> Result<(), ()> {
    let until = std::time::Instant::now() + within;
    loop {
        if look() {
            return Ok(());
        }
        if std::time::Instant::now() >= until {
            return Err(());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Nothing of a verification: no server of its own, no place of it, no clone.
#[track_caller]
fn assert_no_use(pair: &Pair) {
    eventually(limit(10), "the private servers are gone", || {
        private::servers(pair).is_empty()
    });
    assert_eq!(private::places(pair), Vec::<PathBuf>::new(), "places");
    let work = names_in(&pair.state_dir().join("work"));
    assert_eq!(work, Vec::<String>::new(), "temporary directories");
    let clones: Vec<String> = pair
        .volume
        .kept()
        .into_iter()
        .filter(|name| name.contains("verify-"))
        .collect();
    assert_eq!(clones, Vec::<String>::new(), "clones");
    assert_eq!(private::mounts(pair), Vec::<String>::new(), "mounts");
}

/// No kept volume without a manifest, and no manifest without its volumes.
#[track_caller]
fn assert_only_catalogued(pair: &Pair) {
    let ids = catalogue(pair);
    let kept: Vec<String> = pair
        .volume
        .kept()
        .into_iter()
        .filter(|name| name.contains(&pair.name()))
        .collect();
    for name in &kept {
        assert!(
            ids.iter().any(|id| name.contains(id)),
            "{name} is on the storage and in no manifest ({ids:?})"
        );
    }
    for id in &ids {
        // Those of the source lie in a directory of their own.
        if id.contains(&pair.name()) {
            assert!(
                kept.iter().any(|name| name.contains(id)),
                "{id} has no volume"
            );
        }
    }
}

/// Everything in a directory and below it.
pub fn names_below(dir: PathBuf) -> Vec<String> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        names.push(entry.path().display().to_string());
        if entry.file_type().unwrap().is_dir() {
            names.extend(names_below(entry.path()));
        }
    }
    names
}

/// Files of a state directory that were to replace others.
pub fn half_written(state_dir: PathBuf) -> Vec<String> {
    let mut names = names_below(state_dir);
    names.retain(|name| name.ends_with(".new"));
    names
}

fn catalogue(pair: &Pair) -> BTreeSet<String> {
    names_in(&pair.state_dir().join("snapshots"))
        .into_iter()
        .filter_map(|name| Some(name.strip_suffix(".json")?.to_owned()))
        .collect()
}

fn names_in(dir: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(dir) else {
        return Vec::new();
    };
    entries
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect()
}

/// Other pairs come and go: only what is below our directory, or made of our volumes.
fn mounts(pair: &Pair) -> BTreeSet<String> {
    let text = std::fs::read_to_string("/proc/self/mounts").unwrap();
    let base = pair.base().display().to_string();
    text.lines()
        .filter(|line| line.contains(&base) || line.contains(&pair.volume.name))
        .map(str::to_owned)
        .collect()
}

fn globals(pair: &Pair) -> Vec<String> {
    [
        "innodb_max_dirty_pages_pct",
        "innodb_max_dirty_pages_pct_lwm",
        "innodb_io_capacity",
        "innodb_io_capacity_max",
        "read_only",
    ]
    .map(|name| {
        let value = pair.replica.value(&format!("SELECT @@GLOBAL.{name}"));
        format!("{name} = {value}")
    })
    .to_vec()
}

/// On a frozen filesystem the write hangs, and nothing can end it: so on a thread. Should it hang,
/// the filesystem is thawed, or the whole machine would have to be restarted.
#[track_caller]
fn assert_writable(dir: &Path) {
    let (sender, receiver) = mpsc::channel();
    let path: PathBuf = dir.join(".written-by-the-test");
    std::thread::spawn(move || {
        let written = std::fs::write(&path, b"x").and_then(|()| std::fs::remove_file(&path));
        drop(sender.send(written));
    });
    let answer = receiver.recv_timeout(limit(5));
    if answer.is_err() {
        drop(try_sh(&[
            "fsfreeze",
            "--unfreeze",
            &dir.display().to_string(),
        ]));
    }
    let written = answer.unwrap_or_else(|_| panic!("{} is frozen", dir.display()));
    written.unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
}
