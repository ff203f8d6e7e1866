//! Our algebra of GTID sets against a live MySQL's `GTID_SUBSET()` and `GTID_SUBTRACT()`.
//!
//! The server is the lab's (scripts/lab), on a socket in a scratch directory, without network.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests are tests; clippy.toml reaches only #[test]"
)]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use mysql::prelude::Queryable;
use mysql::{Conn, OptsBuilder};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use understudy::server::gtid::MysqlGtidSet;

const START_TIME_MAX: Duration = Duration::from_secs(90);
const STOP_TIME_MAX: Duration = Duration::from_secs(30);

/// A server of our own; stops it and removes its files at the end, also after a panic.
struct Server {
    child: Child,
    /// Short, since a socket's path has at most 107 bytes.
    dir: tempfile::TempDir,
}

impl Server {
    /// Nothing when the lab isn't there; in CI it must be.
    fn start() -> Option<Self> {
        let lab = std::env::var_os("UNDERSTUDY_LAB")
            .map_or_else(|| PathBuf::from("/var/cache/understudy-lab"), PathBuf::from);
        let home = lab.join("mysql-9.7");
        let (program, template) = (home.join("bin/mysqld"), home.join("template"));
        if !program.exists() || !template.exists() {
            let missing = format!(
                "no MySQL 9.7 in {}: scripts/lab/mysql makes it",
                home.display()
            );
            assert!(std::env::var_os("CI").is_none(), "{missing}");
            eprintln!("SKIPPED: {missing}");
            return None;
        }
        let dir = tempfile::Builder::new()
            .prefix("us-gtid-")
            .tempdir_in("/tmp")
            .unwrap();
        copy(&template, &dir.path().join("data"));
        let child = Command::new(program)
            .args([
                "--no-defaults",
                "--user=root",
                "--skip-networking",
                "--mysqlx=0",
            ])
            .args(["--innodb-use-native-aio=0", "--secure-file-priv="])
            .arg(option("--datadir", &dir.path().join("data")))
            .arg(option("--socket", &dir.path().join("sock")))
            .arg(option("--pid-file", &dir.path().join("pid")))
            .arg(option("--log-error", &dir.path().join("log")))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Some(Self { child, dir })
    }

    fn connect(&mut self) -> Conn {
        let socket = self.dir.path().join("sock").display().to_string();
        let opts = || {
            OptsBuilder::new()
                .user(Some("root"))
                .socket(Some(socket.clone()))
        };
        let deadline = Instant::now() + START_TIME_MAX;
        loop {
            match Conn::new(opts()) {
                Ok(conn) => return conn,
                Err(error) => {
                    let log = || std::fs::read_to_string(self.dir.path().join("log"));
                    let ended = self.child.try_wait().unwrap();
                    assert!(ended.is_none(), "mysqld ended: {ended:?}\n{:?}", log());
                    assert!(Instant::now() < deadline, "{error}\n{:?}", log());
                }
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The child isn't waited for yet, so its id can be nobody else's.
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.child.id()).unwrap());
        let asked = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        let deadline = Instant::now() + STOP_TIME_MAX;
        while asked.is_ok()
            && matches!(self.child.try_wait(), Ok(None))
            && Instant::now() < deadline
        {
            std::thread::sleep(Duration::from_millis(50));
        }
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn option(name: &str, path: &Path) -> String {
    format!("{name}={}", path.display())
}

fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp")
        .args(["-a", "--reflink=auto"])
        .args([from, to])
        .status();
    assert!(status.unwrap().success());
}

const SOURCES: [&str; 3] = [
    "3e11fa47-71ca-11e1-9e33-c80aa9429562",
    "4E11FA47-71CA-11E1-9E33-C80AA9429562",
    "00000000-0000-0000-0000-000000000001",
];
const TAGS: [&str; 5] = [
    "",
    ":a",
    ":Tag_2",
    ":_x",
    ":zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz",
];

/// Texts as messy as a server accepts them: overlaps, any order, white space, upper case, numbers
/// at both ends of the range.
fn set_text() -> impl Strategy<Value = String> {
    let number = prop_oneof![8 => 1..40_u64, 1 => (1..6_u64).prop_map(|less| (1 << 63) - 1 - less)];
    let interval = (number, 0..10_u64).prop_map(|(first, more)| {
        let last = (first + more).min((1 << 63) - 2);
        match first == last {
            true => format!(":{first}"),
            false => format!(": {first}-{last}"),
        }
    });
    let tagged = (
        prop::sample::select(&TAGS[..]),
        prop::collection::vec(interval, 1..5),
    )
        .prop_map(|(tag, intervals)| format!("{tag}{}", intervals.concat()));
    let source = (
        prop::sample::select(&SOURCES[..]),
        prop::collection::vec(tagged, 1..3),
    )
        .prop_map(|(source, tagged)| format!("{source}{}", tagged.concat()));
    prop::collection::vec(source, 0..5).prop_map(|sources| sources.join(",\n "))
}

/// As many values as wanted; a failed comparison tells its texts.
fn sample<T: std::fmt::Debug>(strategy: impl Strategy<Value = T>, count: usize) -> Vec<T> {
    let mut runner = TestRunner::default();
    (0..count)
        .map(|_| strategy.new_tree(&mut runner).unwrap().current())
        .collect()
}

#[test]
fn agrees_with_a_live_server() {
    let Some(mut server) = Server::start() else {
        return;
    };
    let mut conn = server.connect();
    compares_equal(&mut conn);
    accepts_no_more(&mut conn);
}

/// Subset, subtraction, union and intersection of random pairs, many per query.
fn compares_equal(conn: &mut Conn) {
    let pairs = sample((set_text(), set_text()), 2000);
    // Pairs of unrelated sets are rarely subsets: half of them are made to be.
    let pairs: Vec<_> = pairs
        .into_iter()
        .enumerate()
        .map(|(index, (a, b))| match index % 2 {
            0 => (a, b),
            _ => (a.clone(), format!("{a},{b}")),
        })
        .collect();
    let mut subsets_count = 0;
    for chunk in pairs.chunks(250) {
        let selects: Vec<_> = chunk
            .iter()
            .enumerate()
            .map(|(index, (a, b))| {
                format!(
                    "SELECT {index} AS i, GTID_SUBSET('{a}', '{b}'), GTID_SUBTRACT('{a}', '{b}'), \
                     GTID_SUBTRACT('{a},{b}', ''), GTID_SUBTRACT('{a}', GTID_SUBTRACT('{a}', '{b}'))"
                )
            })
            .collect();
        let query = format!("{} ORDER BY i", selects.join(" UNION ALL "));
        let rows: Vec<(usize, bool, String, String, String)> = conn.query(query).unwrap();
        assert_eq!(rows.len(), chunk.len());
        for (index, is_subset, difference, union, common) in rows {
            let (a_text, b_text) = &chunk[index];
            let told = format!("{a_text}\n--- {b_text}");
            let (a, b): (MysqlGtidSet, MysqlGtidSet) =
                (a_text.parse().unwrap(), b_text.parse().unwrap());
            subsets_count += usize::from(is_subset);
            assert_eq!(a.is_subset_of(&b), is_subset, "{told}");
            assert_eq!(a.subtract(&b).to_string(), difference, "{told}");
            assert_eq!(a.union(&b).to_string(), union, "{told}");
            assert_eq!(a.intersect(&b).to_string(), common, "{told}");
        }
    }
    assert!(
        subsets_count >= 1000,
        "only {subsets_count} subsets were compared"
    );
}

/// Sets with a slip in them: what we accept the server accepts, and makes the same of it.
fn accepts_no_more(conn: &mut Conn) {
    let slip = (
        set_text(),
        any::<prop::sample::Index>(),
        "[0-9a-f:,\\- xA]{0,2}",
        0..3_usize,
    );
    let mut accepted_count = 0;
    for (text, at, inserted, removed_count) in sample(slip, 1000) {
        let at = at.index(text.len() + 1);
        let after = (at + removed_count).min(text.len());
        let text = format!("{}{inserted}{}", &text[..at], &text[after..]);
        let theirs: Result<Option<String>, _> =
            conn.exec_first("SELECT GTID_SUBTRACT(?, '')", (&text,));
        if let Ok(ours) = MysqlGtidSet::parse(&text) {
            accepted_count += 1;
            assert_eq!(theirs.unwrap(), Some(ours.to_string()), "{text}");
        }
    }
    assert!(
        (100..900).contains(&accepted_count),
        "{accepted_count} of 1000 were accepted"
    );
}
