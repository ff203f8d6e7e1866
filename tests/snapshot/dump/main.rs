//! Dumps: taken of a replica under load, proven at both levels, given back; what is wrong with one found;
//! and what a killed, stopped or disturbed one leaves, which is nothing.
#![expect(clippy::unwrap_used, reason = "tests")]

#[expect(
    dead_code,
    reason = "shared with the other integration tests, which use other parts"
)]
#[path = "../../lab/mod.rs"]
mod lab;

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread::sleep;
use std::time::Duration;

use lab::left::Footprint;
use lab::load::{Load, Progress};
use lab::pair::{Pair, Special};
use lab::runner::{self, Group};
use lab::server::{Flavour, Server, Start, sequence};
use lab::{in_guest, limit};
use serde_json::Value;
use sha2::{Digest, Sha256};

fn main() -> ExitCode {
    // The storage doesn't matter: one is enough.
    let storage = runner::storages().into_iter().next();
    let storage = storage.filter(|_| !in_guest());
    let groups = storage.into_iter().flat_map(|storage| {
        [Flavour::Mariadb, Flavour::Mysql97].map(|flavour| {
            let mut cases = cases![
                false gives_back_what_was_there_at_its_position,
                false tells_what_is_wrong_with_it,
                false keeps_nothing_where_something_changed_meanwhile,
                false is_kept_as_every_other_snapshot,
            ];
            if flavour.is_mariadb() {
                cases.extend(cases![false leaves_nothing_of_a_killed_one]);
            }
            Group {
                flavour,
                storage,
                special: Special::default(),
                cases,
            }
        })
    });
    runner::main(groups.collect())
}

/// With dumps beside what the storage itself would keep.
fn use_dumps(pair: &Pair) -> PathBuf {
    let own = pair.volume.directory();
    let directory = own.clone().unwrap_or_else(|| pair.base().join("dumps"));
    std::fs::create_dir_all(&directory).unwrap();
    pair.configure(|settings| {
        settings.backend = "dump".to_owned();
        if own.is_none() {
            settings.snapshot = format!("directory = \"{}\"\n", directory.display());
        }
    });
    directory
}

fn id(snapshot: &Value) -> String {
    snapshot["id"].as_str().unwrap().to_owned()
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

/// On the files of a restored one.
fn boot(pair: &Pair, dir: &Path) -> Server {
    let place = pair.base().join("r");
    drop(std::fs::remove_dir_all(&place));
    let start = Start {
        server_id: 99,
        extra: Vec::new(),
        aloof: true,
    };
    let mut server = Server::on(pair.flavour, dir, &place, start);
    server.restart();
    server
}

/// Names and texts that a careless cut would take for something else, and one object of each kind.
fn odd_objects(pair: &Pair) {
    let mut statements = vec![
        "CREATE DATABASE odd".to_owned(),
        "CREATE DATABASE views".to_owned(),
        "CREATE TABLE odd.`x``;\nDROP TABLE IF EXISTS ``t``;` (`a;\nb` INT PRIMARY KEY COMMENT 'USE `lab`;', \
         v TEXT, f FLOAT, g INT AS (`a;\nb` + 1)) ENGINE=InnoDB"
            .to_owned(),
        "INSERT INTO odd.`x``;\nDROP TABLE IF EXISTS ``t``;` (`a;\nb`, v, f) VALUES \
         (1, ');\\nDROP TABLE IF EXISTS `t`;\\n\\'\\\\', 16777217), (2, NULL, 1.5)"
            .to_owned(),
        "CREATE TABLE odd.empty (id INT PRIMARY KEY) ENGINE=InnoDB".to_owned(),
        "CREATE TABLE odd.held (id INT PRIMARY KEY, b BLOB) ENGINE=MyISAM".to_owned(),
        "INSERT INTO odd.held VALUES (1, x'00ff27'), (2, NULL)".to_owned(),
        "CREATE VIEW views.first AS SELECT id FROM odd.empty".to_owned(),
        "CREATE VIEW odd.second AS SELECT id, 'it''s; `x`' AS c FROM views.first".to_owned(),
        "CREATE VIEW views.third AS SELECT id FROM odd.second".to_owned(),
        "CREATE TRIGGER odd.tr BEFORE INSERT ON odd.empty FOR EACH ROW BEGIN SET @a = 'x;\nUSE `b`;'; END"
            .to_owned(),
        "CREATE PROCEDURE odd.pr() BEGIN SELECT 'a;b'; END".to_owned(),
        "CREATE EVENT odd.ev ON SCHEDULE EVERY 1 DAY DISABLE DO SELECT 1".to_owned(),
        "CREATE USER 'odd'@'localhost' IDENTIFIED BY 'Odd-1 word'".to_owned(),
        "GRANT SELECT ON odd.* TO 'odd'@'localhost'".to_owned(),
    ];
    if pair.flavour.is_mariadb() {
        statements.push("CREATE SEQUENCE odd.seq START WITH 7".to_owned());
    }
    for statement in statements {
        pair.source.execute(&statement);
    }
    pair.wait_caught_up();
}

fn drop_odd_objects(pair: &Pair) {
    for statement in [
        "DROP DATABASE odd",
        "DROP DATABASE views",
        "DROP USER 'odd'@'localhost'",
    ] {
        pair.source.execute(statement);
    }
    pair.wait_caught_up();
}

fn verify(pair: &Pair, id: &str, level: &str) -> Value {
    let run = pair.tool.run(&["snapshot", "verify", id, "--level", level]);
    run.ok().json()["snapshot"].clone()
}

fn gives_back_what_was_there_at_its_position(pair: &mut Pair) {
    use_dumps(pair);
    odd_objects(pair);
    let before = Footprint::of(pair);
    let load = Load::start(&pair.source, Duration::from_millis(5));
    sleep(Duration::from_millis(400));
    let snapshot = pair.create(&[]);
    let offset = load.offset;
    load.stop();
    assert_eq!(snapshot["backend"], "dump");
    assert_eq!(snapshot["state"], "complete");
    assert!(
        snapshot["archive"]["tables"].as_u64().unwrap() >= 7,
        "{snapshot}"
    );
    assert!(
        snapshot["timing"]["pause_ms"].as_u64().unwrap() < 10_000,
        "{snapshot}"
    );
    let warnings = snapshot["warnings"].to_string();
    assert!(warnings.contains("FLOAT"), "{warnings}");
    let id = id(&snapshot);
    assert_eq!(verify(pair, &id, "boot")["proof"], "read");
    let checked = verify(pair, &id, "tables");
    assert_eq!(checked["proof"], "checked", "{checked}");
    before.assert_nothing_left(pair);

    let dir = pair.base().join("whole");
    drop(std::fs::remove_dir_all(&dir));
    std::fs::create_dir(&dir).unwrap();
    let run = pair
        .tool
        .run(&["snapshot", "restore", &id, "--to", &text(&dir)]);
    let restored = run.ok().json()["restore"].clone();
    let server = boot(pair, &dir);
    let progress = Progress::of(&server);
    assert!(progress.is_a_state_of_the_load(), "{progress:?}");
    let recorded = snapshot["position"]["gtid"].as_str().unwrap();
    assert_eq!(
        progress.transactions() + offset,
        sequence(recorded),
        "{progress:?}"
    );
    let ours = "SELECT COUNT(*) FROM mysql.user WHERE User LIKE 'understudy____'";
    assert_eq!(server.value(ours), "0", "the private account stayed");
    let counts = [
        ("SELECT COUNT(*) FROM mysql.user WHERE User = 'odd'", "1"),
        ("SELECT COUNT(*) FROM views.third", "0"),
        ("SELECT COUNT(*) FROM odd.held", "2"),
        (
            "SELECT COUNT(*) FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = 'odd'",
            "1",
        ),
        (
            "SELECT COUNT(*) FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA = 'odd'",
            "1",
        ),
        (
            "SELECT COUNT(*) FROM information_schema.EVENTS WHERE EVENT_SCHEMA = 'odd'",
            "1",
        ),
        (
            "SELECT COUNT(*) FROM odd.`x``;\nDROP TABLE IF EXISTS ``t``;` WHERE v LIKE '%DROP%'",
            "1",
        ),
    ];
    for (statement, wanted) in counts {
        assert_eq!(server.value(statement), wanted, "{statement}");
    }
    follows_and_is_equal(pair, &server, &restored);
    drop(server);
    std::fs::remove_dir_all(&dir).unwrap();

    extracts(pair, &id);
    drop_odd_objects(pair);
    pair.delete_all();
    before.assert_nothing_left(pair);
}

/// The printed statements, with the account filled in, make a replica of it.
fn follows_and_is_equal(pair: &Pair, server: &Server, restored: &Value) {
    for statement in restored["statements"].as_array().unwrap() {
        let statement = statement.as_str().unwrap().replacen("'…'", "'repl'", 2);
        let statement = match pair.flavour {
            Flavour::Mysql97 => statement.replace(
                "SOURCE_AUTO_POSITION",
                "GET_SOURCE_PUBLIC_KEY = 1, SOURCE_AUTO_POSITION",
            ),
            Flavour::Mariadb | Flavour::MariadbOther | Flavour::Mysql56 => statement,
        };
        server.execute(&statement);
    }
    pair.source.execute("INSERT INTO lab.ping VALUES ()");
    pair.wait_equal(server, limit(30));
    for table in ["lab.t", "lab.m", "lab.c", "lab.ping", "odd.held"] {
        let statement = format!("CHECKSUM TABLE {table}");
        assert_eq!(
            server.rows(&statement),
            pair.source.rows(&statement),
            "{table}"
        );
    }
}

fn extracts(pair: &Pair, id: &str) {
    let to = pair.base().join("one.sql");
    let path = text(&to);
    let args = [
        "snapshot", "extract", id, "--table", "odd.held", "--to", &path,
    ];
    pair.tool.run(&args).ok();
    let sql = std::fs::read_to_string(&to).unwrap();
    assert!(
        sql.contains("0x00FF27") && !sql.contains("`empty`"),
        "{sql}"
    );
    std::fs::remove_file(&to).unwrap();
    let source = pair.source_name();
    let into = |more: &[&str]| {
        let args = ["snapshot", "extract", id, "--yes", "--into", &source];
        pair.tool.run(&[&args[..], more].concat())
    };
    pair.source.execute("DELETE FROM odd.held WHERE id = 1");
    into(&["--table", "odd.held"]).expect_code(1);
    into(&["--table", "odd.held", "--missing-rows"]).ok();
    assert_eq!(pair.source.value("SELECT COUNT(*) FROM odd.held"), "2");
    pair.source.execute("DROP DATABASE odd");
    into(&["--schema", "odd"]).ok();
    assert_eq!(pair.source.value("SELECT COUNT(*) FROM odd.held"), "2");
    assert_eq!(pair.source.value("SELECT COUNT(*) FROM odd.second"), "0");
    pair.source.execute("DELETE FROM odd.held");
    into(&["--table", "odd.held", "--replace"]).ok();
    assert_eq!(pair.source.value("SELECT COUNT(*) FROM odd.held"), "2");
    let run = into(&["--table", "odd.nothing"]).expect_code(4);
    assert!(run.error().1.contains("odd.nothing"));
    pair.wait_caught_up();
}

fn tells_what_is_wrong_with_it(pair: &mut Pair) {
    let directory = use_dumps(pair);
    pair.source
        .execute("CREATE TABLE lab.few (id INT PRIMARY KEY, v TEXT) ENGINE=InnoDB");
    pair.source
        .execute("INSERT INTO lab.few VALUES (1,'one'),(2,'two'),(3,'three')");
    pair.wait_caught_up();
    let snapshot = pair.create(&[]);
    let id = id(&snapshot);
    let dump = directory.join(&id).join("dump");
    let index_path = dump.join("archive.json");
    let whole_index = std::fs::read_to_string(&index_path).unwrap();
    let mut index: Value = serde_json::from_str(&whole_index).unwrap();
    let tables = index["tables"].as_array().unwrap();
    let at = tables
        .iter()
        .position(|table| table["name"] == "few")
        .unwrap();
    assert_eq!(tables[at]["rows"], 3, "{}", tables[at]);
    let file = dump.join(tables[at]["stream"]["file"].as_str().unwrap());
    let whole = std::fs::read(&file).unwrap();

    let bad = |level: &str, flaw: &str, words: &str| {
        let run = pair
            .tool
            .run(&["snapshot", "verify", &id, "--level", level]);
        let json = run.expect_code(1).json();
        let record = &json["snapshot"]["verification"];
        assert_eq!(record["flaw"], flaw, "{record}");
        let detail = record["detail"].as_str().unwrap();
        assert!(detail.contains(words), "{detail}");
        assert_eq!(json["snapshot"]["proof"], "failed");
    };
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 1;
    std::fs::write(&file, &flipped).unwrap();
    bad("read", "broken-stream", "checksum");
    let to = pair.base().join("broken.sql");
    let args = [
        "snapshot",
        "extract",
        &id,
        "--table",
        "lab.few",
        "--to",
        &text(&to),
    ];
    let run = pair.tool.run(&args).expect_code(1);
    assert!(
        run.error().1.contains("isn't what was written"),
        "{:?}",
        run.error()
    );
    assert!(!to.exists(), "half of it was given");
    std::fs::write(&file, &whole[..whole.len() - 3]).unwrap();
    bad("read", "broken-stream", "bytes instead of");
    std::fs::remove_file(&file).unwrap();
    bad("boot", "missing-file", "is gone");
    std::fs::write(&file, &whole).unwrap();
    assert_eq!(verify(pair, &id, "read")["proof"], "read");

    // A row is lost, and every checksum of a file says that all is well.
    let mut sql = String::new();
    zstd::Decoder::new(&whole[..])
        .unwrap()
        .read_to_string(&mut sql)
        .unwrap();
    let fewer = sql.replace("(2,'two'),\n", "").replace("(2,'two'),", "");
    assert_ne!(sql, fewer);
    let packed = zstd::encode_all(fewer.as_bytes(), 3).unwrap();
    std::fs::write(&file, &packed).unwrap();
    let hex = |bytes: &[u8]| -> String {
        let sum = Sha256::digest(bytes);
        sum.iter().map(|byte| format!("{byte:02x}")).collect()
    };
    let stream = &mut index["tables"][at]["stream"];
    stream["bytes"] = packed.len().into();
    stream["raw_bytes"] = fewer.len().into();
    stream["sha256"] = hex(&packed).into();
    let new_index = serde_json::to_string_pretty(&index).unwrap();
    let (old, new) = (hex(whole_index.as_bytes()), hex(new_index.as_bytes()));
    std::fs::write(&index_path, &new_index).unwrap();
    // An index that isn't the one that was written is no snapshot any more.
    assert_eq!(pair.list()[0]["state"], "invalid");
    for path in [
        directory.join(&id).join("understudy.json"),
        pair.state_dir()
            .join("snapshots")
            .join(format!("{id}.json")),
    ] {
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(&old));
        std::fs::write(&path, text.replace(&old, &new)).unwrap();
    }
    assert_eq!(verify(pair, &id, "read")["proof"], "read");
    bad(
        "tables",
        "loaded-differs",
        "lab.few has 2 rows instead of 3",
    );
    pair.source.execute("DROP TABLE lab.few");
    pair.delete_all();
}

fn leaves_nothing_of_a_killed_one(pair: &mut Pair) {
    let directory = use_dumps(pair);
    pair.wait_caught_up();
    let before = Footprint::of(pair);
    let name = pair.name();
    for place in [
        "journal-begun",
        "dump-made",
        "stopped",
        "dump-held",
        "dump-begun",
        "released",
        "dumping",
        "dump-objects",
        "dumped",
        "dump-synced",
        "dump-indexed",
        "sealed",
    ] {
        let run = pair
            .tool
            .run_at(&format!("{place}=kill"), &["snapshot", "create", &name]);
        assert_ne!(run.code(), 0, "{place} wasn't reached");
        before.assert_threads_come_back(pair, limit(20));
        let half = pair.list();
        assert!(
            half.iter().all(|one| one["state"] != "complete"),
            "{place}: {half:?}"
        );
        pair.tool.run(&["recover", &name]).ok();
        let left: Vec<_> = std::fs::read_dir(&directory).unwrap().flatten().collect();
        assert!(left.is_empty(), "{place}: {left:?}");
        before.assert_nothing_new(pair);
    }
    let id = id(&pair.create(&[]));
    for (place, args) in [
        ("installed", ["verify", &id, "--level=tables"]),
        ("loaded", ["verify", &id, "--level=tables"]),
        ("volume-deleted", ["delete", &id, "--yes"]),
    ] {
        let args = [&["snapshot"], &args[..]].concat();
        let run = pair.tool.run_at(&format!("{place}=kill"), &args);
        assert_ne!(run.code(), 0, "{place} wasn't reached");
        pair.tool.run(&["recover", &name]).ok();
        let hidden =
            |entry: &std::fs::DirEntry| entry.file_name().to_string_lossy().starts_with('.');
        let left = std::fs::read_dir(&directory).unwrap().flatten();
        assert_eq!(left.filter(hidden).count(), 0, "{place}");
    }
    before.assert_nothing_new(pair);
}

fn keeps_nothing_where_something_changed_meanwhile(pair: &mut Pair) {
    let directory = use_dumps(pair);
    let before = Footprint::of(pair);
    let name = pair.name();
    for (change, back, words) in [
        (
            "CREATE TABLE lab.late (id INT PRIMARY KEY)",
            "DROP TABLE lab.late",
            "the table lab.late",
        ),
        (
            "CREATE VIEW lab.seen AS SELECT 1 AS one",
            "DROP VIEW lab.seen",
            "the view lab.seen",
        ),
        (
            "CREATE USER 'late'@'localhost'",
            "DROP USER 'late'@'localhost'",
            "an account",
        ),
    ] {
        let args = ["snapshot", "create", &name];
        let mut running = pair.tool.spawn_at("dumping=sleep:2500", &args);
        running.wait_at("dumping");
        pair.source.execute(change);
        let run = running.wait().expect_code(1);
        let (_, message) = run.error();
        assert!(
            message.contains(words) && message.contains("changed"),
            "{message}"
        );
        pair.source.execute(back);
        pair.wait_caught_up();
        assert_eq!(
            std::fs::read_dir(&directory).unwrap().count(),
            0,
            "{change}"
        );
        before.assert_nothing_new(pair);
    }
    // Interrupted while it writes.
    let mut running = pair
        .tool
        .spawn_at("dumping=sleep:1500", &["snapshot", "create", &name]);
    running.wait_at("dumping");
    running.signal(nix::sys::signal::Signal::SIGTERM);
    running.wait().expect_code(1);
    assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 0);
    before.assert_nothing_new(pair);
}

fn is_kept_as_every_other_snapshot(pair: &mut Pair) {
    let directory = use_dumps(pair);
    let before = Footprint::of(pair);
    let snapshot = pair.create(&["--label", "by SQL"]);
    let id = id(&snapshot);
    let show = pair.tool.run(&["snapshot", "show", &id]).ok().json();
    assert_eq!(show["snapshot"]["archive"]["version"], 1);
    for args in [
        vec!["snapshot", "mount", &id, "/mnt"],
        vec!["snapshot", "restore", &id, "--in-place"],
    ] {
        let run = pair.tool.run(&args).expect_code(4);
        assert!(run.error().1.contains("dump"), "{:?}", run.error());
    }
    // Without its manifest it is listed by what lies beside it, and still gives its tables.
    let manifest = pair
        .state_dir()
        .join("snapshots")
        .join(format!("{id}.json"));
    std::fs::remove_file(&manifest).unwrap();
    let orphan = pair.list().remove(0);
    assert_eq!(orphan["state"], "orphan");
    assert_eq!(orphan["backend"], "dump");
    assert_eq!(orphan["position"]["gtid"], snapshot["position"]["gtid"]);
    let to = pair.base().join("orphan.sql");
    let args = [
        "snapshot",
        "extract",
        &id,
        "--table",
        "lab.c",
        "--to",
        &text(&to),
    ];
    pair.tool.run(&args).ok();
    std::fs::remove_file(&to).unwrap();
    pair.delete_all();
    assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 0);

    // What the account may not see would be missing.
    for server in [&pair.source, &pair.replica] {
        server.execute_unlogged(&["REVOKE EVENT ON *.* FROM 'understudy'@'%'".to_owned()]);
    }
    let run = pair
        .tool
        .run(&["snapshot", "create", &pair.name()])
        .expect_code(4);
    assert!(run.error().1.contains("lacks EVENT"), "{:?}", run.error());
    for server in [&pair.source, &pair.replica] {
        server.execute_unlogged(&["GRANT EVENT ON *.* TO 'understudy'@'%'".to_owned()]);
    }

    // Named in the command instead of the configuration, with the source asked for.
    let source = pair.source_name();
    let args = ["snapshot", "create", &source, "--backend", "dump"];
    pair.tool.run(&args).expect_code(4);
    let taken = pair
        .tool
        .run(&[&args[..], &["--allow-source"]].concat())
        .ok();
    let taken = taken.json()["snapshot"].clone();
    assert_eq!(taken["consistency"], "lock");
    let own = taken["id"].as_str().unwrap();
    assert_eq!(verify(pair, own, "tables")["proof"], "checked");
    pair.tool.run(&["snapshot", "delete", own, "--yes"]).ok();
    before.assert_nothing_new(pair);
}
