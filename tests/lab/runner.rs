//! Runs the cases: those of one group share a pair, and groups run side by side.
//!
//! Instead of libtest, which can't share something among tests and drop it at the end: starting a
//! pair takes far longer than most cases. A failed case costs its pair; the next one gets another.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::Instant;

use super::in_guest;
use super::pair::{Pair, Special};
use super::server::Flavour;
use super::storage::Storage;

/// One behaviour.
pub struct Case {
    pub name: String,
    pub body: Box<dyn Fn(&mut Pair) + Send + Sync>,
    /// Also where a server needs half a minute to start.
    pub in_guest: bool,
}

/// Behaviours by the names of their functions.
#[macro_export]
macro_rules! cases {
    ($($in_guest:literal $body:ident),* $(,)?) => {
        vec![$($crate::lab::runner::Case {
            name: stringify!($body).to_owned(),
            body: Box::new($body),
            in_guest: $in_guest,
        }),*]
    };
}

/// Cases on one pair.
pub struct Group {
    pub flavour: Flavour,
    pub storage: Storage,
    pub special: Special,
    pub cases: Vec<Case>,
}

impl Group {
    fn name(&self) -> String {
        format!("{}::{}", self.flavour.name(), self.storage.name())
    }
}

/// The storages to test: UNDERSTUDY_TEST_STORAGE, else what this kind of machine is for.
pub fn storages() -> Vec<Storage> {
    let usual: &[Storage] = if in_guest() {
        &Storage::GUEST
    } else {
        &Storage::NATIVE
    };
    let Ok(wanted) = std::env::var("UNDERSTUDY_TEST_STORAGE") else {
        return usual.to_vec();
    };
    wanted
        .split(',')
        .map(|word| {
            *Storage::NATIVE
                .iter()
                .chain(&Storage::GUEST)
                .find(|storage| storage.name() == word.trim())
                .unwrap_or_else(|| panic!("UNDERSTUDY_TEST_STORAGE: no storage named {word:?}"))
        })
        .collect()
}

#[derive(Debug, Default)]
struct Wanted {
    words: Vec<String>,
    skips: Vec<String>,
    exact: bool,
    list: bool,
    threads: Option<usize>,
}

impl Wanted {
    /// What of libtest's arguments makes sense here.
    fn parse() -> Self {
        let mut wanted = Self::default();
        let mut args = std::env::args().skip(1);
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--list" => wanted.list = true,
                "--exact" => wanted.exact = true,
                "--skip" => wanted.skips.extend(args.next()),
                threads if threads.starts_with("--test-threads=") => {
                    wanted.threads = threads.split('=').nth(1).and_then(|n| n.parse().ok());
                }
                "--test-threads" => wanted.threads = args.next().and_then(|n| n.parse().ok()),
                option if option.starts_with('-') => {}
                word => wanted.words.push(word.to_owned()),
            }
        }
        wanted
    }

    fn wants(&self, name: &str) -> bool {
        let matches = |word: &String| match self.exact {
            true => name == word,
            false => name.contains(word.as_str()),
        };
        (self.words.is_empty() || self.words.iter().any(matches)) && !self.skips.iter().any(matches)
    }
}

thread_local! {
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

#[derive(Default)]
struct Tally {
    passed: usize,
    skipped: usize,
    failed: Vec<String>,
}

/// The test binary's `main`.
pub fn main(groups: Vec<Group>) -> ExitCode {
    let wanted = Wanted::parse();
    if !cfg!(feature = "failpoints") {
        eprintln!("integration tests need the failpoints: cargo test --features failpoints");
        return ExitCode::from(u8::from(std::env::var_os("CI").is_some()));
    }
    let mut groups: VecDeque<Group> = groups.into();
    for group in &mut groups {
        let prefix = group.name();
        group.cases.retain(|case| {
            (case.in_guest || !in_guest()) && wanted.wants(&format!("{prefix}::{}", case.name))
        });
    }
    groups.retain(|group| !group.cases.is_empty());
    if wanted.list {
        for group in &groups {
            for case in &group.cases {
                println!("{}::{}: test", group.name(), case.name);
            }
        }
        return ExitCode::SUCCESS;
    }
    let threads = wanted.threads.unwrap_or(2);
    std::panic::set_hook(Box::new(|info| {
        PANIC.with_borrow_mut(|slot| {
            let text = slot.take().unwrap_or_default();
            *slot = Some(format!("{text}{info}\n"));
        });
    }));
    let began = Instant::now();
    let queue = Mutex::new(groups);
    let tally = Mutex::new(Tally::default());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(group) = { queue.lock().unwrap().pop_front() } {
                    run_group(&group, &tally);
                }
            });
        }
    });
    drop(std::panic::take_hook());
    super::scratch::release_root();
    report(&tally.into_inner().unwrap(), began)
}

fn report(tally: &Tally, began: Instant) -> ExitCode {
    println!(
        "\n{}: {} passed, {} failed, {} skipped, in {} s",
        if tally.failed.is_empty() {
            "ok"
        } else {
            "FAILED"
        },
        tally.passed,
        tally.failed.len(),
        tally.skipped,
        began.elapsed().as_secs()
    );
    for name in &tally.failed {
        println!("    failed: {name}");
    }
    ExitCode::from(u8::from(!tally.failed.is_empty()))
}

fn run_group(group: &Group, tally: &Mutex<Tally>) {
    let missing = group.flavour.missing().or_else(|| group.storage.missing());
    if let Some(missing) = missing {
        if std::env::var_os("CI").is_some() {
            println!("test {} ... FAILED: {missing}", group.name());
            tally.lock().unwrap().failed.push(group.name());
        } else {
            eprintln!("\n!!! {} is SKIPPED: {missing}\n", group.name());
            tally.lock().unwrap().skipped += group.cases.len();
        }
        return;
    }
    let mut pair: Option<Pair> = None;
    for case in &group.cases {
        let name = format!("{}::{}", group.name(), case.name);
        let began = Instant::now();
        let ran = catch_unwind(AssertUnwindSafe(|| {
            let mut now = pair
                .take()
                .unwrap_or_else(|| Pair::start(group.flavour, group.storage, &group.special));
            let began = Instant::now();
            // Dropped only after its last words were heard.
            let ran = catch_unwind(AssertUnwindSafe(|| (case.body)(&mut now)));
            if ran.is_err() {
                return Err(now.last_words());
            }
            pair = Some(now);
            Ok(began.elapsed())
        }));
        let took = began.elapsed().as_millis();
        match ran {
            Ok(Ok(own)) => {
                println!("test {name} ... ok ({} of {took} ms)", own.as_millis());
                tally.lock().unwrap().passed += 1;
            }
            Ok(Err(words)) => failed(&name, took, &words, tally),
            Err(_) => failed(&name, took, "", tally),
        }
    }
}

fn failed(name: &str, took: u128, words: &str, tally: &Mutex<Tally>) {
    let text = PANIC.with_borrow_mut(Option::take).unwrap_or_default();
    // In one piece, since others print too.
    println!("test {name} ... FAILED ({took} ms)\n{text}{words}\n");
    tally.lock().unwrap().failed.push(name.to_owned());
}
