//! MHA's online switch beside ours, on one pair, run by scripts/bench failover. It speaks no MySQL from
//! 8.4 on, so the pair is of MySQL 5.6.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::lab::program::write;
use crate::lab::server::Flavour;
use crate::lab::trio::{NAMES, Trio, Writer};

const PROGRAM: &str = "/usr/bin/masterha_master_switch";
/// Where Debian has its modules.
const MODULES: &str = "/usr/share/perl5/MHA";

const SIDES: [&str; 3] = [
    "ours",
    "MHA, clients ended at once",
    "MHA, waiting as its example does",
];

/// What MHA leaves to its user, a program that closes the old source to its clients and opens the new
/// one, begins so.
const BEGINNING: &str = r#"#!/bin/sh
set -e
for word; do
    case $word in
        --command=*) command=${word#*=} ;;
        --orig_master_port=*) old=${word#*=} ;;
        --new_master_port=*) new=${word#*=} ;;
    esac
done
sql() {
    port=$1
    shift
    mariadb --defaults-file="$(dirname "$0")/client.cnf" --port="$port" -N -B "$@"
}
# A client that was refused may have gone by itself.
close_and_end_clients() {
    sql "$old" -e "SET GLOBAL read_only = ON;
        SELECT CONCAT('KILL ', ID, ';') FROM information_schema.PROCESSLIST WHERE USER = 'writer'" |
        sql "$old" --force || true
}
"#;

/// Clients are refused and ended at once, as by ours.
const AT_ONCE: &str = r#"
case $command in
    stop) close_and_end_clients ;;
    start) sql "$new" -e 'SET GLOBAL read_only = OFF' ;;
esac
"#;

/// The order and the waits of the example that comes with MHA's sources: clients can't log in any more
/// and have 1.5 s to go, then what is read-only has 0.5 s to end; both looked at every 100 ms.
const WAITING: &str = r#"
wait_for_clients() {
    left=$1
    while [ "$left" -gt 0 ] && [ "$(sql "$old" -e "SELECT COUNT(*) FROM information_schema.PROCESSLIST
        WHERE USER = 'writer' AND NOT (COMMAND = 'Sleep' AND TIME >= 1)")" -gt 0 ]; do
        sleep 0.1
        left=$((left - 1))
    done
}
case $command in
    stop)
        sql "$new" -e 'SET GLOBAL read_only = ON'
        sql "$old" -e "SET sql_log_bin = 0; DROP USER 'writer'@'%'"
        wait_for_clients 15
        sql "$old" -e 'SET GLOBAL read_only = ON'
        wait_for_clients 5
        close_and_end_clients
        ;;
    start) sql "$new" -e 'SET GLOBAL read_only = OFF' ;;
esac
"#;

/// Its files, in a directory of the pair's.
struct Mha {
    place: PathBuf,
}

impl Mha {
    fn prepare(trio: &Trio) -> Self {
        for statement in [
            "CREATE USER 'mha'@'%' IDENTIFIED BY 'switches'",
            "GRANT ALL ON *.* TO 'mha'@'%' WITH GRANT OPTION",
            "CREATE USER 'mha_repl'@'%' IDENTIFIED BY 'follows'",
            "GRANT REPLICATION SLAVE ON *.* TO 'mha_repl'@'%'",
        ] {
            trio.server("a").execute(statement);
        }
        trio.wait_same("a", "b");
        let own = Self {
            place: trio.tool.base.join("mha"),
        };
        own.mend();
        let client = "[client]\nhost = 127.0.0.1\nuser = mha\npassword = switches\n";
        write(&own.path("client.cnf"), client, 0o600);
        write(&own.path("global.cnf"), "", 0o600);
        for (side, text) in [(1, AT_ONCE), (2, WAITING)] {
            let program = own.path(&format!("change{side}"));
            write(&program, &[BEGINNING, text].concat(), 0o700);
            own.configure(trio, side, &program);
        }
        own
    }

    fn path(&self, name: &str) -> PathBuf {
        self.place.join(name)
    }

    /// MHA 0.58 can't read a version of three numbers with a perl from 5.22 on ("Redundant argument in
    /// sprintf", which it makes fatal). A copy of the one module, with that warning off, comes before it.
    fn mend(&self) {
        let strict = "use warnings FATAL => 'all';\n";
        let text = std::fs::read_to_string(format!("{MODULES}/NodeUtil.pm")).unwrap();
        let mended = text.replacen(strict, &format!("{strict}no warnings 'redundant';\n"), 1);
        assert_ne!(mended, text, "it has no such line any more");
        std::fs::create_dir_all(self.path("MHA")).unwrap();
        write(&self.path("MHA/NodeUtil.pm"), &mended, 0o644);
    }

    fn configure(&self, trio: &Trio, side: usize, program: &Path) {
        let place = self.place.display();
        let mut text = format!(
            "[server default]\nmanager_workdir = {place}\nremote_workdir = {place}\nuser = mha\n\
             password = switches\nrepl_user = mha_repl\nrepl_password = follows\nssh_user = root\n\
             master_ip_online_change_script = {}\n",
            program.display()
        );
        for (index, server) in trio.servers.iter().enumerate() {
            text += &format!(
                "[server{}]\nhostname = 127.0.0.1\nport = {}\ncandidate_master = 1\n",
                index + 1,
                server.port
            );
        }
        write(&self.path(&format!("side{side}.cnf")), &text, 0o600);
    }

    fn switch(&self, trio: &Trio, side: usize, to: &str) {
        let conf = self.path(&format!("side{side}.cnf"));
        let output = Command::new(PROGRAM)
            .args(["--master_state=alive", "--orig_master_is_new_slave"])
            .args(["--interactive=0", "--new_master_host=127.0.0.1"])
            .arg(format!("--new_master_port={}", trio.server(to).port))
            .arg(format!("--conf={}", conf.display()))
            .arg(format!(
                "--global_conf={}",
                self.path("global.cnf").display()
            ))
            .env("PERL5LIB", &self.place)
            .current_dir(&self.place)
            .output()
            .unwrap();
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        assert!(output.status.success(), "{said}");
    }
}

/// The clients' account where the example took it away.
fn let_in_again(trio: &Trio, name: &str) {
    trio.server(name).execute_unlogged(&[
        "GRANT SELECT, INSERT ON lab.* TO 'writer'@'%' IDENTIFIED BY 'writes'".to_owned(),
    ]);
}

/// By one of [`SIDES`]: how long the client couldn't write, in ms. Nothing that was acknowledged is gone.
fn gap(trio: &Trio, mha: &Mha, side: usize, from: &str, to: &str) -> f64 {
    let writer = Writer::start(trio, trio.highest(from));
    writer.wait_more(100);
    match side {
        0 => drop(trio.switchover(to).ok()),
        _ => mha.switch(trio, side, to),
    }
    writer.wait_more(100);
    let (acknowledged, gap) = writer.end_moved();
    let_in_again(trio, from);
    trio.assert_source(to, &[from]);
    let ends = [acknowledged.first(), acknowledged.last()].map(Option::unwrap);
    let kept = format!(
        "SELECT COUNT(*) FROM lab.w WHERE id BETWEEN {} AND {}",
        ends[0], ends[1]
    );
    let kept: usize = trio.server(to).value(&kept).parse().unwrap();
    assert!(kept >= acknowledged.len(), "what was acknowledged is gone");
    gap.as_secs_f64() * 1000.0
}

/// The value so far into the sorted ones, between two of them.
fn at(sorted: &[f64], part: f64) -> f64 {
    let place = part * (sorted.len() - 1) as f64;
    let (low, high) = (place.floor() as usize, place.ceil() as usize);
    sorted[low] + (sorted[high] - sorted[low]) * place.fract()
}

fn told(what: &str, mut all: Vec<f64>, more: impl Fn(f64) -> String) {
    all.sort_by(f64::total_cmp);
    let [p10, median, p90] = [0.1, 0.5, 0.9].map(|part| at(&all, part));
    println!(
        "mysql-5.6 {what}: median {median:.2} ({p10:.2} to {p90:.2}), {} rounds{}",
        all.len(),
        more(median)
    );
}

/// For `scripts/bench failover`: how long a client that reconnects at once can't write, in our switchover
/// and in MHA's. By turns, so that each comes first, second and last, and in either direction, equally
/// often.
#[test]
#[ignore = "a measurement, run by scripts/bench failover"]
fn measures_beside_mha() {
    let missing = Flavour::Mysql56.missing().or_else(|| {
        let there = Path::new(PROGRAM).exists();
        (!there).then(|| format!("{PROGRAM} is missing (scripts/lab/packages bench)"))
    });
    if let Some(missing) = missing {
        println!("mysql-5.6 beside MHA: median of nothing, {missing}");
        return;
    }
    let rounds: usize = std::env::var("UNDERSTUDY_BENCH_ROUNDS").map_or(10, |n| n.parse().unwrap());
    let trio = Trio::start(Flavour::Mysql56, 2);
    let mha = Mha::prepare(&trio);
    let [mut from, mut to] = [NAMES[0], NAMES[1]];
    let mut gaps: [Vec<f64>; SIDES.len()] = Default::default();
    // Round 0 fills caches and counts for nothing.
    for round in 0..=rounds {
        for turn in 0..SIDES.len() {
            let side = (round + turn) % SIDES.len();
            let gap = gap(&trio, &mha, side, from, to);
            std::mem::swap(&mut from, &mut to);
            if round > 0 {
                gaps[side].push(gap);
            }
        }
    }
    for (side, gaps) in SIDES.iter().zip(&gaps) {
        told(&format!("client's gap, ms, {side}"), gaps.clone(), |_| {
            String::new()
        });
    }
    for side in 1..SIDES.len() {
        let ratios = gaps[0]
            .iter()
            .zip(&gaps[side])
            .map(|(ours, its)| ours / its);
        told(
            &format!("ours / {}", SIDES[side]),
            ratios.collect(),
            |median| {
                let word = if median <= 0.3 { "met" } else { "MISSED" };
                format!(", goal 0.3 {word}")
            },
        );
    }
}
