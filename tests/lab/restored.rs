//! A server on a writable copy of a snapshot's data.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::load::Progress;
use super::pair::Pair;
use super::server::{Flavour, Server, Start, sequence};
use super::storage::Storage;
use super::{limit, sh, trace, try_sh};

/// Dropped in this order: the server, then what it stands on.
pub struct Restored<'a> {
    pub server: Server,
    _copy: Copy<'a>,
    pair: &'a Pair,
}

impl<'a> Restored<'a> {
    /// Boots it: no networking, replication not started.
    pub fn boot(pair: &'a Pair, snapshot: &Value) -> Self {
        Self::boot_as(pair, snapshot, &pair.replica, 0)
    }

    /// As `boot`, for a snapshot of another server than the replica.
    pub fn boot_as(pair: &'a Pair, snapshot: &Value, of: &Server, index: usize) -> Self {
        let since = std::time::Instant::now();
        let copy = Copy::make(pair, &snapshot["volumes"][index], &of.data_dir);
        trace("made a writable copy", since);
        let data_dir = copy.data_dir.clone();
        drop(std::fs::remove_file(data_dir.join("auto.cnf")));
        let place = pair.base().join("r");
        drop(std::fs::remove_dir_all(&place));
        let start = Start {
            server_id: 99,
            extra: Vec::new(),
            aloof: true,
        };
        let mut server = Server::on(pair.flavour, &data_dir, &place, start);
        server.restart();
        Self {
            server,
            _copy: copy,
            pair,
        }
    }

    /// Its own position is the recorded one, and its tables hold exactly what the load had written
    /// up to there, row by row. `offset` is the load's.
    #[track_caller]
    pub fn assert_is_at(&self, snapshot: &Value, offset: u64) {
        let recorded = snapshot["position"]["gtid"].as_str().unwrap();
        let recorded = recorded.replace(char::is_whitespace, "");
        let own = match self.pair.flavour {
            Flavour::Mariadb | Flavour::MariadbOther => {
                self.server.value("SELECT @@GLOBAL.gtid_slave_pos")
            }
            Flavour::Mysql97 | Flavour::Mysql56 => {
                self.server.value("SELECT @@GLOBAL.gtid_executed")
            }
        };
        let own = own.replace(char::is_whitespace, "");
        assert_eq!(own, recorded, "the restored server is elsewhere");
        self.assert_holds_the_load(&recorded, offset);
    }

    /// The tables are what the load had written after as many transactions as `gtid` counts.
    #[track_caller]
    pub fn assert_holds_the_load(&self, gtid: &str, offset: u64) {
        let progress = Progress::of(&self.server);
        assert!(progress.is_a_state_of_the_load(), "{progress:?}");
        assert_eq!(
            progress.transactions() + offset,
            sequence(gtid),
            "{progress:?} isn't what the source had at {gtid}"
        );
        for (table, rows) in [("t", progress.transactional), ("m", progress.forgetful)] {
            let statement = format!("SELECT id, v FROM lab.{table} WHERE id <= {rows} ORDER BY id");
            let (here, there) = (
                self.server.rows(&statement),
                self.pair.source.rows(&statement),
            );
            assert!(here == there, "lab.{table} has other rows than the source");
        }
    }

    /// Replicates from the source to its end: whatever was missing or too much breaks it, or shows
    /// in the checksums.
    #[track_caller]
    pub fn assert_catches_up(&self) {
        let since = std::time::Instant::now();
        let forget = match self.pair.flavour {
            Flavour::Mysql97 => "RESET REPLICA ALL",
            Flavour::Mariadb | Flavour::MariadbOther | Flavour::Mysql56 => "RESET SLAVE ALL",
        };
        self.server.execute(forget);
        self.pair.follow(&self.server, &self.pair.source, "");
        self.pair.source.execute("INSERT INTO lab.ping VALUES ()");
        self.pair.wait_equal(&self.server, limit(30));
        trace("caught up", since);
        for table in ["t", "m", "c", "ping"] {
            let statement = format!("CHECKSUM TABLE lab.{table}");
            assert_eq!(
                self.server.rows(&statement),
                self.pair.source.rows(&statement),
                "lab.{table} differs after catching up"
            );
        }
        let check = "CHECK TABLE lab.t, lab.m, lab.c EXTENDED";
        for row in self.server.rows(check) {
            assert_eq!(row["msg_text"], "OK", "{row:?}");
        }
    }
}

/// The writable copy.
struct Copy<'a> {
    pair: &'a Pair,
    data_dir: PathBuf,
    undo: Vec<Vec<String>>,
}

impl<'a> Copy<'a> {
    fn make(pair: &'a Pair, volume: &Value, data_dir: &Path) -> Self {
        let name = volume["name"].as_str().unwrap();
        let path = Path::new(volume["path"].as_str().unwrap());
        let within = data_dir
            .strip_prefix(path)
            .unwrap_or_else(|_| panic!("{} isn't below {}", data_dir.display(), path.display()));
        let place = pair.base().join("copy").display().to_string();
        let mut copy = Self {
            pair,
            data_dir: Path::new(&place).join(within),
            undo: Vec::new(),
        };
        let storage = match Path::new(name).is_absolute() {
            true if pair.volume.storage == Storage::Btrfs && name.contains(".understudy") => {
                Storage::Btrfs
            }
            true => Storage::Copy,
            false => pair.volume.storage,
        };
        match storage {
            Storage::Copy | Storage::Reflink | Storage::ReflinkBtrfs => {
                sh(&["cp", "-a", "--reflink=auto", name, &place]);
                copy.undo(&["rm", "-rf", &place]);
            }
            Storage::Btrfs => {
                let place = pair.volume.mount.join("copy");
                copy.data_dir = place.join(within);
                let place = place.display().to_string();
                sh(&["btrfs", "-q", "subvolume", "snapshot", name, &place]);
                copy.undo(&["btrfs", "-q", "subvolume", "delete", &place]);
            }
            Storage::LvmThick => copy.mount(&format!("/dev/{name}"), &place, "rw"),
            Storage::LvmThin => {
                let group = &pair.volume.name;
                sh(&["lvcreate", "-q", "-s", "-kn", "-n", "copy", name]);
                copy.undo(&["lvremove", "-q", "-f", &format!("{group}/copy")]);
                sh(&["lvchange", "-ay", "-K", &format!("{group}/copy")]);
                copy.mount(&format!("/dev/{group}/copy"), &place, "nouuid");
            }
            Storage::Zfs => {
                let clone = format!("{}/copy", pair.volume.name);
                let option = format!("mountpoint={place}");
                sh(&["zfs", "clone", "-o", &option, name, &clone]);
                copy.undo(&["zfs", "destroy", "-f", &clone]);
            }
        }
        copy
    }

    fn mount(&mut self, device: &str, place: &str, options: &str) {
        std::fs::create_dir_all(place).unwrap();
        sh(&["mount", "-o", options, device, place]);
        self.undo(&["umount", place]);
    }

    fn undo(&mut self, argv: &[&str]) {
        self.undo
            .push(argv.iter().map(|&arg| arg.to_owned()).collect());
    }
}

impl Drop for Copy<'_> {
    fn drop(&mut self) {
        for argv in self.undo.iter().rev() {
            let argv: Vec<&str> = argv.iter().map(String::as_str).collect();
            if let Err(error) = try_sh(&argv) {
                eprintln!("lab: {}: {error}", self.pair.name());
            }
        }
    }
}
