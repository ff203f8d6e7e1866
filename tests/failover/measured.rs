//! Measurements, run by scripts/bench failover.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{JoinHandle, sleep};
use std::time::Duration;

use mysql::prelude::Queryable;

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

/// For `scripts/bench failover`: switchovers while two more clients write as much as the replica's one
/// applier takes. The gap that a client saw, less the time in which the replica applied what it lacked at
/// the fence (the step `wait`).
#[test]
#[ignore = "a measurement, run by scripts/bench failover"]
fn measures_switchovers_under_saturation() {
    let rounds: usize = std::env::var("UNDERSTUDY_BENCH_ROUNDS").map_or(10, |n| n.parse().unwrap());
    for flavour in flavours() {
        let trio = Trio::start(flavour, 2);
        trio.server("a").execute(
            "CREATE TABLE lab.load_of_rows (id INT AUTO_INCREMENT PRIMARY KEY, v CHAR(200))",
        );
        let (mut from, mut to) = ("a", "b");
        let (mut gaps, mut waits, mut refused) = (Vec::new(), Vec::new(), 0);
        for _ in 0..rounds {
            let writer = Writer::start(&trio, trio.highest(from));
            writer.wait_more(100);
            let load = Load::start(trio.server(from).port);
            sleep(Duration::from_millis(500));
            let run = trio.switchover(to);
            if run.code() == 4 {
                refused += 1;
                load.end();
                writer.end();
                continue;
            }
            let report = run.ok().json()["failover"].clone();
            writer.wait_more(100);
            load.end();
            let gap = writer.end_moved().1.as_secs_f64() * 1000.0;
            let steps = report["steps"].as_array().unwrap();
            let wait = steps.iter().find(|step| step["name"] == "wait").unwrap();
            let wait = wait["ms"].as_f64().unwrap();
            waits.push(wait);
            gaps.push((gap - wait).max(0.0));
            std::mem::swap(&mut from, &mut to);
            trio.assert_source(from, &[to]);
        }
        for (what, mut all) in [("gap less the wait", gaps), ("wait", waits)] {
            all.sort_by(f64::total_cmp);
            println!(
                "{} saturated ({refused} refused), {what}: median {:.1} ms, {:.1} to {:.1}, {} rounds",
                flavour.name(),
                all[all.len() / 2],
                all[0],
                all[all.len() - 1],
                all.len()
            );
        }
    }
}

/// Two clients whose transactions take the applier about as long as they take the source.
struct Load {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    fn start(port: u16) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let threads = (0..2).map(|_| {
            let stop = stop.clone();
            std::thread::spawn(move || {
                let options = mysql::OptsBuilder::new()
                    .ip_or_hostname(Some("127.0.0.1"))
                    .tcp_port(port)
                    .user(Some("writer"))
                    .pass(Some("writes"));
                let Ok(mut conn) = mysql::Conn::new(options) else {
                    return;
                };
                let rows = vec!["(REPEAT('x', 200))"; 200].join(", ");
                let insert = format!("INSERT INTO lab.load_of_rows (v) VALUES {rows}");
                // Ended by the fence, at the latest.
                for _ in 0..3000 {
                    if stop.load(Ordering::SeqCst) || conn.query_drop(&insert).is_err() {
                        return;
                    }
                    sleep(Duration::from_millis(5));
                }
            })
        });
        Self {
            threads: threads.collect(),
            stop,
        }
    }

    fn end(self) {
        self.stop.store(true, Ordering::SeqCst);
        self.threads.into_iter().for_each(|one| one.join().unwrap());
    }
}
