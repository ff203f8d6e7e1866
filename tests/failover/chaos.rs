//! Random bounded rounds of faults and commands over a trio with a writer and a watch: `scripts/chaos N
//! [--seed S]`, and some rounds in every run of the suite. A round that fails prints its seed and the
//! story as it happened.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

#[expect(
    dead_code,
    reason = "shared with the other integration tests, which use other parts"
)]
#[path = "../lab/mod.rs"]
mod lab;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::{SystemTime, UNIX_EPOCH};

use lab::server::Flavour;
use lab::trio::{NAMES, Trio, Watch, Writer};

/// SplitMix64, so that a seed tells the whole story.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        usize::try_from((mixed ^ (mixed >> 31)) % u64::try_from(bound).unwrap()).unwrap()
    }

    fn of<T: Copy>(&mut self, among: &[T]) -> T {
        among[self.below(among.len())]
    }
}

/// Where the tool is killed; one that a command doesn't come to leaves it alone.
const PLACES: [&str; 12] = [
    "operation-begun",
    "approach:in",
    "evidence:in",
    "drain:in",
    "fence:before",
    "fence:in",
    "wait:in",
    "commit:before",
    "commit:after",
    "open:in",
    "rest-0:after",
    "rest-1:after",
];

struct Rounds {
    trio: Trio,
    dice: Dice,
    source: &'static str,
    story: Vec<String>,
}

impl Rounds {
    fn others(&self) -> [&'static str; 2] {
        let others: Vec<&str> = NAMES
            .into_iter()
            .filter(|name| *name != self.source)
            .collect();
        [others[0], others[1]]
    }

    fn told(&mut self, line: String) {
        self.story.push(line);
    }

    /// The command, killed at a place in half of the rounds, then recovered; true when it came through.
    fn run(&mut self, args: &[&str]) -> bool {
        if self.dice.below(2) == 0 {
            self.told(args.join(" "));
            self.trio.tool.run(args).ok();
            return true;
        }
        let place = self.dice.of(&PLACES);
        self.told(format!("{} killed at {place}", args.join(" ")));
        let run = self.trio.tool.run_at(&format!("{place}=kill"), args);
        let died = run.code() == -1;
        if !died {
            run.ok();
        }
        let recoveries = self.dice.below(3);
        for _ in 0..recoveries {
            self.trio.tool.run_at("act:after=kill", &["recover"]);
        }
        self.told(format!("recovered, {recoveries} times killed"));
        self.trio.tool.run(&["recover"]).ok();
        !died
    }

    /// Who is open after it.
    fn find_source(&mut self) {
        let open: Vec<&str> = NAMES
            .into_iter()
            .filter(|name| self.trio.is_writable(name))
            .collect();
        let [one] = open[..] else {
            panic!("open: {open:?}");
        };
        self.told(format!("{one} is the source"));
        self.source = one;
    }

    fn switchover(&mut self) {
        let writer = Writer::start(&self.trio, self.trio.highest(self.source));
        writer.wait_more(20);
        let watch = Watch::start(&self.trio);
        let others = self.others();
        let to = self.dice.of(&others);
        self.run(&["switchover", "lab", "--to", to, "--yes"]);
        self.find_source();
        writer.wait_more(20);
        let (acknowledged, _) = writer.end();
        watch.end();
        for id in acknowledged {
            assert!(self.trio.has(self.source, id), "{id} is lost");
        }
    }

    fn failover(&mut self) {
        let dead = self.source;
        let quiet = self.dice.below(2) == 0;
        let writer = Writer::start(&self.trio, self.trio.highest(dead));
        writer.wait_more(20);
        if quiet {
            writer.end();
            for other in self.others() {
                self.trio.wait_same(dead, other);
            }
            self.told(format!("{dead} is killed at rest"));
            self.trio.kill(dead);
        } else {
            self.told(format!("{dead} is killed under load"));
            self.trio.kill(dead);
            writer.end();
        }
        let args = [
            "failover",
            "lab",
            "--unfenced",
            "--confirm",
            "0s",
            "--again",
            "--yes",
        ];
        while !self.run(&args) {
            let others = self.others();
            if others.iter().any(|name| self.trio.is_writable(name)) {
                break;
            }
        }
        let others = self.others();
        let open = others.into_iter().find(|name| self.trio.is_writable(name));
        self.source = open.unwrap_or_else(|| panic!("nobody took over from {dead}"));
        self.told(format!("{} is the source", self.source));
        self.trio.revive(dead);
        let run = self.trio.tool.run(&["rejoin", dead]);
        assert!(!self.trio.is_writable(dead));
        if run.code() == 0 {
            return;
        }
        assert!(!quiet, "{run:?}");
        self.told(format!("{dead} has more than anybody, and is made anew"));
        run.expect_code(4);
        self.trio.renew(dead, self.source);
        self.trio.tool.run(&["rejoin", dead]).ok();
    }

    fn pause(&mut self) {
        let others = self.others();
        let name = self.dice.of(&others);
        self.told(format!("{name} is paused and resumed"));
        self.trio.tool.run(&["pause", name, "--for", "1m"]).ok();
        self.trio.tool.run(&["resume", name]).ok();
    }

    fn restart(&mut self) {
        let others = self.others();
        let name = self.dice.of(&others);
        self.told(format!("{name} is killed and started again"));
        self.trio.kill(name);
        self.trio.revive(name);
        self.trio.close_again(name);
    }

    fn round(&mut self) {
        match self.dice.below(6) {
            0..=2 => self.switchover(),
            3 | 4 => self.failover(),
            _ if self.dice.below(2) == 0 => self.pause(),
            _ => self.restart(),
        }
        let others = self.others();
        self.trio.assert_source(self.source, &others);
    }
}

#[test]
fn random_rounds_end_with_one_source_that_everybody_follows() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let rounds = number("UNDERSTUDY_CHAOS_ROUNDS").unwrap_or(20_u64);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let seed = number("UNDERSTUDY_CHAOS_SEED").unwrap_or(now.as_secs());
    let flavours = [Flavour::Mariadb, Flavour::Mysql97];
    for flavour in flavours.into_iter().filter(|one| one.missing().is_none()) {
        eprintln!("{}: seed {seed}", flavour.name());
        let mut all = Rounds {
            trio: Trio::start(flavour, 3),
            dice: Dice(seed),
            source: "a",
            story: Vec::new(),
        };
        for round in 1..=rounds / 2 {
            all.told(format!("round {round}"));
            let came = catch_unwind(AssertUnwindSafe(|| all.round()));
            if let Err(panic) = came {
                eprintln!(
                    "{}, seed {seed}, round {round}:\n  {}",
                    flavour.name(),
                    all.story.join("\n  ")
                );
                resume_unwind(panic);
            }
        }
    }
}
