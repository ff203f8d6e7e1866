//! Every operation killed (or stopped, or out of space) at every place: around each of its steps, at its commit, after each act
//! that remains then; and the recovery killed after each act, too. One body for all operations: the
//! places are read from the journal of one that went well, so that a new step is killed without a
//! line here.

use std::path::Path;

use nix::sys::signal::Signal;
use serde_json::Value;

use super::small_state::SmallState;
use super::tool::{Run, Tool};
use super::{eventually, limit};

/// A recovery that was killed after each of its acts has ended by then.
const RECOVERIES_MAX: usize = 60;

/// Where an operation is killed.
#[derive(Debug, Clone)]
pub struct Place {
    pub name: String,
    /// Past the point of no return.
    pub committed: bool,
    /// The recovery is killed after each act as well: where it has most to do.
    recovery_dies: bool,
}

/// The places of the operation of which the newest ended journal is, its id beginning with `prefix`;
/// and those within its steps that are named, uncommitted ones first.
pub fn places(state_dir: &Path, prefix: &str, inside: (&[&str], &[&str])) -> Vec<Place> {
    let done = state_dir.join("journal/done");
    let mut names: Vec<_> = std::fs::read_dir(&done)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            name.starts_with(prefix) && name.ends_with(".jsonl")
        })
        .collect();
    names.sort_by_key(|path| path.metadata().unwrap().modified().unwrap());
    let newest = names
        .last()
        .unwrap_or_else(|| panic!("no {prefix} was done"));
    let text = std::fs::read_to_string(newest).unwrap();
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let of_kind = |kind: &'static str| lines.iter().filter(move |line| line["event"] == kind);
    let place = |name: String, committed| Place {
        name,
        committed,
        recovery_dies: false,
    };
    let mut places = vec![place("operation-begun".to_owned(), false)];
    for step in of_kind("intent") {
        let step = step["step"].as_str().unwrap();
        places.push(place(format!("{step}:before"), false));
        places.push(place(format!("{step}:in"), false));
    }
    places.extend(inside.0.iter().map(|name| place((*name).to_owned(), false)));
    if let Some(commit) = of_kind("commit").next() {
        let mut before = place("commit:before".to_owned(), false);
        before.recovery_dies = true;
        let mut after = place("commit:after".to_owned(), true);
        after.recovery_dies = true;
        places.extend([before, after]);
        places.extend(inside.1.iter().map(|name| place((*name).to_owned(), true)));
        // Those that it carries through itself have a line each.
        let carried = of_kind("done").count();
        assert!(carried <= commit["rest"].as_array().unwrap().len());
        places.extend((0..carried).map(|number| place(format!("rest-{number}:after"), true)));
    }
    let is_committed = of_kind("commit").next().is_some();
    places.push(place("end:before".to_owned(), is_committed));
    places
}

/// Some of them for every day, spread over all, those around the commit among them; every one with
/// UNDERSTUDY_TEST_PLACES=all.
pub fn sample(places: Vec<Place>, count: usize) -> Vec<Place> {
    if std::env::var("UNDERSTUDY_TEST_PLACES").is_ok_and(|word| word == "all") {
        return places;
    }
    let every = places.len().div_ceil(count).max(1);
    let places = places.into_iter().enumerate();
    places
        .filter(|(number, place)| number % every == every / 2 || place.name.starts_with("commit"))
        .map(|(_, place)| place)
        .collect()
}

/// Stops a command at a place, and lets it go on after `meanwhile`.
#[track_caller]
pub fn stop(tool: &Tool, place: &str, args: &[&str], meanwhile: impl FnOnce()) -> Run {
    let mut run = tool.spawn_at(&format!("{place}=stop"), args);
    eventually(limit(60), &format!("{place} is there"), || {
        assert!(!run.has_ended(), "it ended before {place}");
        run.is_stopped()
    });
    meanwhile();
    run.signal(Signal::SIGCONT);
    run.wait()
}

impl Place {
    /// Stops the command there, and lets it go on after `meanwhile`.
    #[track_caller]
    pub fn stop(&self, tool: &Tool, args: &[&str], meanwhile: impl FnOnce()) -> Run {
        stop(tool, &self.name, args, meanwhile)
    }

    /// The state directory has no byte of room from there on.
    #[track_caller]
    pub fn fill(&self, tool: &Tool, small: &SmallState, args: &[&str]) -> Run {
        self.stop(tool, args, || small.fill_with_journals())
    }

    /// Kills the command there; false when it never came there and ended well.
    pub fn kill(&self, tool: &Tool, args: &[&str]) -> bool {
        let run = tool.run_at(&format!("{}=kill", self.name), args);
        if run.code() != -1 {
            run.ok();
            return false;
        }
        true
    }

    /// Recovers, killed after each act where that is worth it; what the last one said.
    pub fn recover(&self, tool: &Tool) -> String {
        for _ in 0..RECOVERIES_MAX {
            if !self.recovery_dies {
                break;
            }
            let run = tool.run_at("act:after=kill", &["recover"]);
            if run.code() != -1 {
                break;
            }
        }
        tool.run(&["recover"]).ok().stdout
    }

    /// Whether what the last recovery says is all that was done.
    pub fn tells_all(&self) -> bool {
        !self.recovery_dies
    }
}
