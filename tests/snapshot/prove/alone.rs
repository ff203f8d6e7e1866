//! The private server is alone: it contacts nobody, writes to nothing but its clone and its own
//! place, and nobody learns its password.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use nix::sys::signal::Signal;

use crate::lab::kept;
use crate::lab::left::Footprint;
use crate::lab::pair::Pair;
use crate::lab::private::{self, PrivateServer};
use crate::lab::server::try_rows;
use crate::lab::tool::Running;
use crate::lab::try_sh;
use crate::{kept_snapshot, verify_at};

/// The live server is stopped meanwhile (SIGSTOP), so that whatever changes in its files was written
/// by somebody else.
pub fn touches_nothing_else(pair: &mut Pair) {
    let before = Footprint::of(pair);
    let snapshot = kept_snapshot(pair);
    let kept_dir = kept::data_dir(pair, &snapshot);
    let mut source = Source::watch(pair);
    pair.replica.signal(Signal::SIGSTOP);
    let digests = || {
        (
            kept::digest(&pair.replica.data_dir),
            kept::digest(&kept_dir),
        )
    };
    let (live, kept) = digests();
    let mut running = verify_at(pair, &snapshot, "asked=sleep:2000");
    running.wait_at("asked");
    let server = private::server(pair);
    assert_out_of_reach(pair, server, &kept_dir);
    assert_secret(pair, server, &running);
    let run = running.wait().ok();
    let (live_after, kept_after) = digests();
    pair.replica.signal(Signal::SIGCONT);
    assert_eq!(live_after, live, "the live files");
    assert_eq!(kept_after, kept, "the kept files");
    assert_eq!(run.json()["snapshot"]["proof"], "checked");
    source.assert_nobody_came(pair);
    pair.wait_caught_up();
    before.assert_nothing_left(pair);
}

/// Everything that it can write to is the clone's or its own, and it sees no network.
fn assert_out_of_reach(pair: &Pair, server: PrivateServer, kept_dir: &Path) {
    let of = |dirs: &[&Path]| -> Vec<private::Identity> {
        dirs.iter().flat_map(|dir| kept::identities(dir)).collect()
    };
    let foreign = of(&[&pair.replica.data_dir, &pair.source.data_dir, kept_dir]);
    let own = of(&[&clone_dir(pair), &server.place()]);
    let written = server.written_files();
    let in_clone = written.iter().filter(|(file, _)| own.contains(file));
    assert!(in_clone.count() > 3, "it has nothing open: {written:?}");
    for (file, path) in &written {
        assert!(!foreign.contains(file), "{} is foreign", path.display());
    }
    let data_dir = &pair.replica.data_dir;
    for (mount, root) in server.writable_mounts() {
        let of_a_use = root.contains(&format!("verify-{}", pair.name()));
        assert!(of_a_use, "{} shows {root}, writable", mount.display());
        let is_its = mount.starts_with("/run/understudy") || mount.starts_with(data_dir);
        assert!(is_its || data_dir.starts_with(&mount), "{mount:?}");
    }
    assert!(!server.shares("net") && !server.shares("mnt"));
    let loopback = ("lo".to_owned(), "0 0".to_owned());
    assert_eq!(server.network(), [loopback], "packets");
}

/// The one clone there is.
fn clone_dir(pair: &Pair) -> PathBuf {
    let entries = std::fs::read_dir(pair.volume.kept_dir().unwrap()).unwrap();
    let found: Vec<PathBuf> = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.display().to_string().contains(".use-"))
        .collect();
    assert_eq!(found.len(), 1, "{found:?}");
    found[0].join("1")
}

/// Its password is in one file that nobody else may read, and nowhere else.
fn assert_secret(pair: &Pair, server: PrivateServer, running: &Running) {
    let place = server.place();
    let init = std::fs::read_to_string(place.join("init")).unwrap();
    let password = init.split("BY '").nth(1).unwrap();
    let password = password.split('\'').next().unwrap();
    assert!(password.len() > 30, "{init}");
    for pid in private::processes() {
        for name in ["cmdline", "environ"] {
            let bytes = std::fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default();
            let text = String::from_utf8_lossy(&bytes);
            assert!(!text.contains(password), "{name} of {pid}");
        }
    }
    for path in [place.join("log"), place.join("options")] {
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(!text.contains(password), "{}", path.display());
    }
    assert!(!running.stderr().contains(password), "our own log");
    let state_dir = pair.state_dir().display().to_string();
    let found = try_sh(&["grep", "-r", password, &state_dir]);
    assert!(found.is_err(), "{found:?}");
    for path in [&place, &place.join("tmp"), &clone_dir(pair).join("..")] {
        assert_eq!(mode(path), 0o700, "{}", path.display());
    }
    for name in ["init", "options", "log"] {
        assert_eq!(mode(&place.join(name)), 0o600, "{name}");
    }
}

fn mode(path: &Path) -> u32 {
    path.metadata().unwrap().permissions().mode() & 0o7777
}

/// The source's own view of who is there. One connection counts, so that counting adds none.
struct Source {
    conn: mysql::Conn,
    connections: u64,
    threads: Vec<String>,
}

impl Source {
    fn watch(pair: &Pair) -> Self {
        let mut conn = pair.source.connect();
        Self {
            connections: Self::count(&mut conn),
            threads: Self::threads(&mut conn),
            conn,
        }
    }

    fn count(conn: &mut mysql::Conn) -> u64 {
        let rows = try_rows(conn, "SHOW GLOBAL STATUS LIKE 'Connections'").unwrap();
        rows[0]["value"].parse().unwrap()
    }

    /// Users with their connections' ids.
    fn threads(conn: &mut mysql::Conn) -> Vec<String> {
        let rows = try_rows(conn, "SHOW PROCESSLIST").unwrap();
        let mut threads: Vec<String> = rows
            .iter()
            .map(|row| format!("{} {}", row["id"], row["user"]))
            .collect();
        threads.sort();
        threads
    }

    #[track_caller]
    fn assert_nobody_came(&mut self, pair: &Pair) {
        assert_eq!(Self::count(&mut self.conn), self.connections, "connections");
        for thread in Self::threads(&mut self.conn) {
            assert!(self.threads.contains(&thread), "{thread} is new");
        }
        // What is looked at does tell.
        drop(pair.source.connect());
        assert_eq!(Self::count(&mut self.conn), self.connections + 1);
    }
}
