//! Measurements, run by scripts/bench failover.

use crate::lab::server::flavours;
use crate::lab::trio::{Trio, Writer};

/// For `scripts/bench failover`: switchovers under a load that the replica can follow, beside the bare
/// statements on open connections of the same pair, by turns. From the last accepted write on the one
/// server to the first on the other, in ms; and the gap that the client saw.
#[test]
#[ignore = "a measurement, run by scripts/bench failover"]
fn measures_switchovers() {
    let rounds: usize = std::env::var("UNDERSTUDY_BENCH_ROUNDS").map_or(10, |n| n.parse().unwrap());
    for flavour in flavours() {
        let trio = Trio::start(flavour, 2);
        let (mut from, mut to) = ("a", "b");
        let (mut ours, mut bare, mut gaps) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..rounds {
            let writer = Writer::start(&trio, trio.highest(from));
            writer.wait_more(100);
            let report = trio.switchover(to).ok().json()["failover"].clone();
            writer.wait_more(100);
            let (_, gap) = writer.end();
            ours.push(report["write_outage_ms"].as_f64().unwrap());
            gaps.push(gap.as_secs_f64() * 1000.0);
            std::mem::swap(&mut from, &mut to);
            trio.assert_source(from, &[to]);
            // Never to the other one, which is open for a moment only.
            let writer = Writer::start_at(&[from], &trio, trio.highest(from));
            writer.wait_more(100);
            bare.push(trio.switch_bare(from, to).as_secs_f64() * 1000.0);
            writer.end();
        }
        for (what, mut all) in [("ours", ours), ("bare", bare), ("client's gap", gaps)] {
            all.sort_by(f64::total_cmp);
            println!(
                "{} {what}: median {:.1} ms, {:.1} to {:.1}, {} rounds",
                flavour.name(),
                all[all.len() / 2],
                all[0],
                all[all.len() - 1],
                all.len()
            );
        }
    }
}

/// For `scripts/bench failover`: from the command to its end, the source killed, nothing to be applied,
/// `--confirm 0s`.
#[test]
#[ignore = "a measurement, run by scripts/bench failover"]
fn measures_failovers() {
    let rounds: usize = std::env::var("UNDERSTUDY_BENCH_ROUNDS").map_or(10, |n| n.parse().unwrap());
    for flavour in flavours() {
        let mut trio = Trio::start(flavour, 2);
        let args = [
            "failover",
            "lab",
            "--unfenced",
            "--confirm",
            "0s",
            "--again",
            "--yes",
        ];
        let (mut from, mut to) = ("a", "b");
        let mut all = Vec::new();
        for _ in 0..rounds.min(10) {
            trio.wait_same(from, to);
            trio.kill(from);
            let run = trio.tool.run(&args).ok();
            all.push(run.took.as_secs_f64() * 1000.0);
            trio.revive(from);
            trio.tool.run(&["rejoin", from]).ok();
            std::mem::swap(&mut from, &mut to);
        }
        all.sort_by(f64::total_cmp);
        println!(
            "{} failover: median {:.0} ms, {:.0} to {:.0}, {} rounds",
            flavour.name(),
            all[all.len() / 2],
            all[0],
            all[all.len() - 1],
            all.len()
        );
    }
}
