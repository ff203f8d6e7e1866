//! `snapshot extract` of rows and what hangs on them: a pipeline as DataJoint makes them, and what it never
//! makes (cycles, tables without keys), out of a snapshot into an empty server and back where it was.

use std::collections::BTreeSet;

use serde_json::Value;

use super::lab::left::Footprint;
use super::lab::pair::Pair;
use super::lab::program::DataJoint;
use super::lab::server::{Server, Start};
use super::{id, leavings, new_dir, text};

/// Tables, and what is chosen of them from subject 5 with parents and children: all of its lineage.
const LINEAGE: [(&str, &str); 15] = [
    ("lab_ref.#species", "species = 'mouse'"),
    ("lab_ref.probe", "lab = 'a'"),
    ("lab_ref.rig", "rig IN (1, 3)"),
    ("lab_ref.item", "item IN (10, 30)"),
    ("lab_ephys.subject", "subject_id IN (1, 2, 5, 6, 7)"),
    ("lab_ephys.session", "subject_id IN (5, 7)"),
    ("lab_ephys.session__trial", "subject_id IN (5, 7)"),
    ("lab_ana.#filter", "filter_id = 1"),
    ("lab_ana.__spikes", "subject_id = 5"),
    ("lab_ana.__spikes__peak", "subject_id = 5"),
    ("lab_ana.pairing", "left_subject = 5"),
    ("lab_ana.tag", "subject_id = 5"),
    ("lab_ana.note", "subject_id = 5"),
    ("lab_ana.memo", "subject_id = 5"),
    ("lab_ana.memo__page", "topic = 'five'"),
];

/// Nothing of these.
const APART: [&str; 2] = ["lab_ana.alone", "lab_ana.memo__never"];

fn tables() -> Vec<String> {
    let chosen = LINEAGE.iter().map(|(table, _)| (*table).to_owned());
    chosen.chain(APART.map(str::to_owned)).collect()
}

fn quoted(table: &str) -> String {
    let (schema, table) = table.split_once('.').unwrap();
    format!("`{schema}`.`{table}`")
}

fn make(server: &Server) {
    let statements = [
        "CREATE DATABASE lab_ref",
        "CREATE DATABASE lab_ephys",
        "CREATE DATABASE lab_ana",
        "CREATE TABLE lab_ref.`#species` (species VARCHAR(20) PRIMARY KEY)",
        "CREATE TABLE lab_ref.probe (lab CHAR(1), id INT, serial INT UNIQUE, PRIMARY KEY (lab, id))",
        // Each refers to the other.
        "CREATE TABLE lab_ref.rig (rig INT PRIMARY KEY, main INT)",
        "CREATE TABLE lab_ref.item (item INT PRIMARY KEY, rig INT NOT NULL, \
         CONSTRAINT of_rig FOREIGN KEY (rig) REFERENCES lab_ref.rig (rig))",
        "ALTER TABLE lab_ref.rig ADD CONSTRAINT main FOREIGN KEY (main) REFERENCES lab_ref.item (item)",
        "CREATE TABLE lab_ephys.subject (subject_id INT PRIMARY KEY, species VARCHAR(20) NOT NULL, \
         mother INT, rig INT, photo LONGBLOB, \
         CONSTRAINT species FOREIGN KEY (species) REFERENCES lab_ref.`#species` (species), \
         CONSTRAINT mother FOREIGN KEY (mother) REFERENCES lab_ephys.subject (subject_id), \
         CONSTRAINT rig FOREIGN KEY (rig) REFERENCES lab_ref.rig (rig))",
        "CREATE TABLE lab_ephys.session (subject_id INT, session SMALLINT, d DATE, \
         PRIMARY KEY (subject_id, session), \
         CONSTRAINT s1 FOREIGN KEY (subject_id) REFERENCES lab_ephys.subject (subject_id))",
        "CREATE TABLE lab_ephys.session__trial (subject_id INT, session SMALLINT, trial INT, \
         PRIMARY KEY (subject_id, session, trial), CONSTRAINT t1 FOREIGN KEY (subject_id, session) \
         REFERENCES lab_ephys.session (subject_id, session))",
        "CREATE TABLE lab_ana.`#filter` (filter_id INT PRIMARY KEY)",
        "CREATE TABLE lab_ana.`__spikes` (subject_id INT, session SMALLINT, filter_id INT, \
         PRIMARY KEY (subject_id, session, filter_id), \
         CONSTRAINT sp1 FOREIGN KEY (subject_id, session) REFERENCES lab_ephys.session (subject_id, session), \
         CONSTRAINT sp2 FOREIGN KEY (filter_id) REFERENCES lab_ana.`#filter` (filter_id))",
        "CREATE TABLE lab_ana.`__spikes__peak` (subject_id INT, session SMALLINT, filter_id INT, peak INT, \
         probe_lab CHAR(1), probe_id INT, PRIMARY KEY (subject_id, session, filter_id, peak), \
         CONSTRAINT p1 FOREIGN KEY (subject_id, session, filter_id) \
         REFERENCES lab_ana.`__spikes` (subject_id, session, filter_id), \
         CONSTRAINT p2 FOREIGN KEY (probe_lab, probe_id) REFERENCES lab_ref.probe (lab, id))",
        // Renamed, and two to the same table.
        "CREATE TABLE lab_ana.pairing (pairing INT PRIMARY KEY, left_subject INT, right_subject INT, \
         CONSTRAINT l1 FOREIGN KEY (left_subject) REFERENCES lab_ephys.subject (subject_id), \
         CONSTRAINT r1 FOREIGN KEY (right_subject) REFERENCES lab_ephys.subject (subject_id))",
        // Onto what isn't the primary key.
        "CREATE TABLE lab_ana.tag (tag INT PRIMARY KEY, subject_id INT, serial INT, \
         CONSTRAINT g1 FOREIGN KEY (subject_id) REFERENCES lab_ephys.subject (subject_id), \
         CONSTRAINT g2 FOREIGN KEY (serial) REFERENCES lab_ref.probe (serial))",
        // Without any key of its own; columns named as ours are.
        "CREATE TABLE lab_ana.note (subject_id INT, k1 TEXT, r FLOAT, \
         CONSTRAINT n1 FOREIGN KEY (subject_id) REFERENCES lab_ephys.subject (subject_id))",
        // A master that may be reached by its part alone.
        "CREATE TABLE lab_ana.memo (topic VARCHAR(9) PRIMARY KEY, subject_id INT, \
         CONSTRAINT m0 FOREIGN KEY (subject_id) REFERENCES lab_ephys.subject (subject_id))",
        "CREATE TABLE lab_ana.memo__page (topic VARCHAR(9), page INT, about INT, PRIMARY KEY (topic, page), \
         CONSTRAINT m1 FOREIGN KEY (topic) REFERENCES lab_ana.memo (topic), \
         CONSTRAINT m2 FOREIGN KEY (about) REFERENCES lab_ephys.subject (subject_id))",
        "CREATE TABLE lab_ana.memo__never (topic VARCHAR(9) PRIMARY KEY, \
         CONSTRAINT m3 FOREIGN KEY (topic) REFERENCES lab_ana.memo (topic))",
        "CREATE TABLE lab_ana.alone (id INT PRIMARY KEY)",
        "CREATE VIEW lab_ana.seen AS SELECT * FROM lab_ana.alone",
    ];
    for statement in statements {
        server.execute(statement);
    }
    fill(server);
}

fn fill(server: &Server) {
    for statement in [
        "INSERT INTO lab_ref.`#species` VALUES ('mouse'), ('rat')",
        "INSERT INTO lab_ref.probe VALUES ('a', 1, 100), ('a', 2, 200), ('b', 1, 300)",
        "INSERT INTO lab_ref.rig VALUES (1, NULL), (2, NULL), (3, NULL)",
        "INSERT INTO lab_ref.item VALUES (10, 3), (20, 2), (30, 1), (40, 1)",
        "UPDATE lab_ref.rig SET main = CASE rig WHEN 1 THEN 10 WHEN 2 THEN 20 ELSE 30 END",
        "INSERT INTO lab_ephys.subject VALUES (1, 'mouse', NULL, NULL, NULL), \
         (2, 'mouse', 1, NULL, x'00FF27225C'), (3, 'rat', NULL, 2, NULL)",
        "INSERT INTO lab_ephys.subject VALUES (5, 'mouse', 2, 1, REPEAT('x', 70000)), \
         (6, 'mouse', 1, NULL, NULL), (7, 'mouse', 5, NULL, '7')",
        "INSERT INTO lab_ephys.session VALUES (3, 1, NULL), (5, 1, '2024-05-01'), (5, 2, NULL), \
         (6, 1, NULL), (7, 1, NULL)",
        "INSERT INTO lab_ephys.session__trial VALUES (3, 1, 1), (5, 1, 1), (5, 1, 2), (6, 1, 1), (7, 1, 1)",
        "INSERT INTO lab_ana.`#filter` VALUES (1), (2)",
        "INSERT INTO lab_ana.`__spikes` VALUES (3, 1, 2), (5, 1, 1), (6, 1, 1)",
        "INSERT INTO lab_ana.`__spikes__peak` VALUES (3, 1, 2, 1, 'b', 1), (5, 1, 1, 1, 'a', 1), \
         (5, 1, 1, 2, NULL, NULL), (5, 1, 1, 3, 'b', NULL), (6, 1, 1, 1, 'b', 1)",
        "INSERT INTO lab_ana.pairing VALUES (1, 5, 6), (2, 3, 6), (3, NULL, NULL)",
        "INSERT INTO lab_ana.tag VALUES (1, 5, 200), (2, 6, 300), (3, 3, NULL)",
        "INSERT INTO lab_ana.note VALUES (5, 'twice', 0.1), (5, 'twice', 0.1), (5, NULL, NULL), \
         (6, 'x', 1), (NULL, 'nobody', 2)",
        "INSERT INTO lab_ana.memo VALUES ('five', 5), ('six', 6)",
        "INSERT INTO lab_ana.memo__page VALUES ('five', 1, 5), ('five', 2, NULL), ('five', 3, 1), ('six', 1, NULL)",
        "INSERT INTO lab_ana.memo__never VALUES ('six')",
        "INSERT INTO lab_ana.alone VALUES (1)",
    ] {
        server.execute(statement);
    }
}

fn drop_all(pair: &Pair) {
    for schema in ["lab_ana", "lab_ephys", "lab_ephys_2", "lab_ref"] {
        let all = format!("DROP DATABASE IF EXISTS {schema}");
        let mut conn = pair.source.connect();
        mysql::prelude::Queryable::query_drop(&mut conn, "SET foreign_key_checks = 0").unwrap();
        mysql::prelude::Queryable::query_drop(&mut conn, all).unwrap();
    }
    pair.wait_caught_up();
}

fn sums(server: &Server) -> Vec<(String, String)> {
    let sum = |table: String| {
        let rows = server.rows(&format!("CHECKSUM TABLE {}", quoted(&table)));
        let sum = rows[0]["checksum"].clone();
        (table, sum)
    };
    tables().into_iter().map(sum).collect()
}

/// Rows of foreign keys whose parent isn't there, by every key of that server.
fn orphans(server: &Server) -> Vec<String> {
    let keys = server.rows(
        "SELECT TABLE_SCHEMA s, TABLE_NAME t, CONSTRAINT_NAME n, REFERENCED_TABLE_SCHEMA ps, \
         REFERENCED_TABLE_NAME p, \
         GROUP_CONCAT(CONCAT('c.`', COLUMN_NAME, '` = p.`', REFERENCED_COLUMN_NAME, '`') SEPARATOR ' AND ') j, \
         GROUP_CONCAT(CONCAT('c.`', COLUMN_NAME, '` IS NOT NULL') SEPARATOR ' AND ') w \
         FROM information_schema.KEY_COLUMN_USAGE WHERE REFERENCED_TABLE_NAME IS NOT NULL \
         GROUP BY 1, 2, 3, 4, 5",
    );
    assert!(keys.len() >= 15, "{} foreign keys came along", keys.len());
    let of =
        |key: &std::collections::BTreeMap<String, String>| {
            let count = server.value(&format!(
            "SELECT COUNT(*) FROM `{}`.`{}` c LEFT JOIN `{}`.`{}` p ON {} WHERE {} AND ISNULL({})",
            key["s"], key["t"], key["ps"], key["p"], key["j"], key["w"],
            key["j"].split(" = ").nth(1).unwrap().split(" AND ").next().unwrap(),
        ));
            (count != "0").then(|| format!("{}: {count}", key["n"]))
        };
    keys.iter()
        .filter_map(|key| of(&key.clone().into_iter().collect()))
        .collect()
}

/// The rows of a table, each as a text.
fn content(server: &Server, table: &str, condition: &str) -> Vec<String> {
    let rows = server.rows(&format!(
        "SELECT * FROM {} WHERE {condition}",
        quoted(table)
    ));
    let mut rows: Vec<String> = rows
        .iter()
        .map(|row| {
            let sorted: std::collections::BTreeMap<_, _> = row.iter().collect();
            format!("{sorted:?}")
        })
        .collect();
    rows.sort();
    rows
}

/// A server with nothing but our account, known to the configuration as `empty`.
fn empty_server(pair: &Pair) -> Server {
    let dir = new_dir(pair, "edata");
    std::fs::remove_dir_all(&dir).unwrap();
    let start = Start {
        server_id: 77,
        extra: Vec::new(),
        aloof: false,
    };
    let mut server = Server::fresh(pair.flavour, &dir, &pair.base().join("e"), start);
    server.restart();
    server.execute("CREATE USER understudy@'%' IDENTIFIED BY 'secret word'");
    server.execute("GRANT ALL ON *.* TO understudy@'%' WITH GRANT OPTION");
    let entry = format!(
        "[server.empty]\nsocket = \"{}\"\ncredentials = \"{}\"\n",
        text(&server.socket()),
        text(&pair.base().join("db.cnf"))
    );
    pair.configure(|settings| settings.more = entry);
    server
}

fn rows_of(extracted: &Value) -> Vec<(String, u64)> {
    let rows = extracted["extract"]["rows"].as_array().unwrap().iter();
    rows.map(|row| {
        (
            row["table"].as_str().unwrap().to_owned(),
            row["rows"].as_u64().unwrap(),
        )
    })
    .collect()
}

/// `snapshot extract` of subject 5, or of what another condition says.
struct Extract<'a> {
    pair: &'a Pair,
    snapshot: String,
}

impl Extract<'_> {
    fn run(&self, table: &str, condition: &str, more: &[&str]) -> super::lab::tool::Run {
        let begin = [
            "snapshot",
            "extract",
            &self.snapshot,
            "--yes",
            "--table",
            table,
        ];
        let condition = ["--where", condition];
        self.pair.tool.run(&[&begin[..], &condition, more].concat())
    }

    fn subject(&self, more: &[&str]) -> super::lab::tool::Run {
        self.run("lab_ephys.subject", "subject_id = 5", more)
    }
}

pub fn extracts_a_lineage_that_loads(pair: &mut Pair) {
    let before = Footprint::of(pair);
    make(&pair.source);
    pair.wait_caught_up();
    let extract = Extract {
        pair,
        snapshot: id(&pair.create(&[])),
    };
    let all = ["--with-parents", "--with-children"];
    let dry = extract
        .subject(&[&all[..], &["--dry-run"]].concat())
        .ok()
        .json();
    let counted = rows_of(&dry);
    for (table, condition) in LINEAGE {
        let wanted = content(&pair.source, table, condition).len();
        let own = counted.iter().find(|(name, _)| name == table);
        assert_eq!(
            own.map(|(_, rows)| *rows),
            Some(wanted as u64),
            "{table}: {counted:?}"
        );
    }
    assert_eq!(counted.len(), LINEAGE.len(), "{counted:?}");
    assert_eq!(
        (&dry["dry_run"], &dry["extract"]["bytes"]),
        (&Value::Bool(true), &Value::from(0))
    );
    let at = |table: &str| counted.iter().position(|(name, _)| name == table).unwrap();
    for (parent, child) in [
        ("lab_ref.#species", "lab_ephys.subject"),
        ("lab_ref.rig", "lab_ephys.subject"),
        ("lab_ephys.session", "lab_ana.__spikes"),
        ("lab_ana.__spikes", "lab_ana.__spikes__peak"),
        ("lab_ref.probe", "lab_ana.tag"),
    ] {
        assert!(
            at(parent) < at(child),
            "{parent} after {child}: {counted:?}"
        );
    }

    let server = empty_server(pair);
    let into = extract
        .subject(&[&all[..], &["--into", "empty"]].concat())
        .ok()
        .json();
    assert_eq!(rows_of(&into), counted);
    for (table, condition) in LINEAGE {
        let there = content(&server, table, "TRUE");
        assert_eq!(there, content(&pair.source, table, condition), "{table}");
    }
    assert_eq!(orphans(&server), Vec::<String>::new());
    let schemas =
        "SELECT COUNT(*) FROM information_schema.SCHEMATA WHERE SCHEMA_NAME LIKE 'understudy%'";
    assert_eq!(server.value(schemas), "0", "our own schema came along");
    // Once more, among what is there: nothing is added, and nothing of it is changed.
    let again = [&all[..], &["--into", "empty", "--missing-rows"]].concat();
    let again = extract.subject(&again).ok().json();
    // A table without a key has no row that is there already.
    let notes = content(&pair.source, "lab_ana.note", "subject_id = 5").len() as u64;
    let rows: u64 = rows_of(&again).iter().map(|(_, rows)| rows).sum();
    assert_eq!(again["extract"]["there_already"], rows - notes, "{again}");
    if pair.flavour.is_mariadb() {
        let there = [&all[..], &["--into", "empty"]].concat();
        let there = extract.subject(&there).expect_code(1);
        assert!(there.stdout.contains("--missing-rows"), "{}", there.stdout);
    }
    drop(server);
    std::fs::remove_dir_all(pair.base().join("edata")).unwrap();
    pair.configure_plain();

    if pair.flavour.is_mariadb() {
        brings_parts_with_their_masters(&extract);
    }
    assert_eq!(leavings(pair), Vec::<String>::new());
    drop_all(pair);
    pair.delete_all();
    before.assert_nothing_new(pair);
}

/// Not what else refers to the subject of a part; and told as people read it.
fn brings_parts_with_their_masters(extract: &Extract) {
    let more = ["--with-children", "--dry-run"];
    let part = extract.run("lab_ana.memo__page", "about = 1", &more);
    let part = rows_of(&part.ok().json());
    let wanted = [
        ("lab_ana.memo".to_owned(), 1),
        ("lab_ana.memo__page".to_owned(), 3),
    ];
    assert_eq!(part, wanted);
    let args = [
        &["snapshot", "extract", &extract.snapshot, "-n"][..],
        &["--table", "lab_ephys.subject", "--where", "subject_id = 5"],
        &["--with-children"],
    ];
    let told = extract.pair.tool.text(&args.concat(), false);
    let told = told.expect_code(0).stdout;
    let line = told.lines().nth(2).unwrap_or_default();
    let words: Vec<&str> = line.split_whitespace().collect();
    assert_eq!(words[..2], ["lab_ephys.subject", "2"], "{told}");
    assert!(
        told.starts_with("would extract 21 rows of 10 tables of "),
        "{told}"
    );
}

/// "Undo my delete", of rows.
pub fn brings_deleted_rows_back_or_none(pair: &mut Pair) {
    let before = Footprint::of(pair);
    make(&pair.source);
    pair.wait_caught_up();
    let extract = Extract {
        pair,
        snapshot: id(&pair.create(&[])),
    };
    let wanted = sums(&pair.source);
    delete_subject(&pair.source);
    let after = sums(&pair.source);
    let source = pair.source_name();
    let rows = ["--into", &source, "--missing-rows"];
    let tables: BTreeSet<String> = differing(&wanted, &after);
    assert!(tables.len() > 8, "{tables:?}");
    // What they refer to isn't there, by a key that is looked at while they load, and by one afterwards.
    for (table, condition, words) in [
        (
            "lab_ephys.session",
            "subject_id = 5",
            "foreign key constraint fails",
        ),
        (
            "lab_ephys.subject",
            "subject_id = 7",
            "refer to nothing: lab_ephys.subject (mother)",
        ),
    ] {
        let refused = extract.run(table, condition, &rows).expect_code(1);
        assert!(refused.stdout.contains(words), "{}", refused.stdout);
        assert!(
            refused.stdout.contains("Nothing of it was loaded"),
            "{}",
            refused.stdout
        );
        assert_eq!(sums(&pair.source), after, "{table}");
    }
    // Killed with rows loaded.
    let places: &[&str] = match pair.flavour.is_mariadb() {
        true => &["chosen", "dumped"],
        false => &["dumped"],
    };
    for place in places {
        let args = [
            &["snapshot", "extract", &extract.snapshot, "--yes"][..],
            &["--table", "lab_ephys.subject", "--where", "subject_id = 5"],
            &["--with-children"],
            &rows,
        ]
        .concat();
        pair.tool
            .run_at(&format!("{place}=kill"), &args)
            .expect_code(-1);
        pair.tool.run(&["recover"]).ok();
        assert_eq!(leavings(pair), Vec::<String>::new(), "{place}");
        assert_eq!(sums(&pair.source), after, "{place}");
    }
    // The table is narrower now: nothing is cut.
    pair.source
        .execute("ALTER TABLE lab_ephys.subject MODIFY photo VARBINARY(10)");
    let cut = extract
        .subject(&[&["--with-children"], &rows[..]].concat())
        .expect_code(1);
    assert!(cut.stdout.contains("photo"), "{}", cut.stdout);
    pair.source
        .execute("ALTER TABLE lab_ephys.subject MODIFY photo LONGBLOB");
    let back = extract
        .subject(&[&["--with-children"], &rows[..]].concat())
        .ok()
        .json();
    assert_eq!(sums(&pair.source), wanted);
    assert_eq!(back["extract"]["there_already"], 0);
    assert_eq!(orphans(&pair.source), Vec::<String>::new());
    pair.wait_caught_up();
    assert_eq!(sums(&pair.replica), wanted);
    drop_all(pair);
    pair.delete_all();
    before.assert_nothing_new(pair);
}

/// As DataJoint does it: parts with their masters, what refers to a row before the row.
fn delete_subject(server: &Server) {
    for statement in [
        "DELETE FROM lab_ana.`__spikes__peak` WHERE subject_id = 5",
        "DELETE FROM lab_ana.`__spikes` WHERE subject_id = 5",
        "DELETE FROM lab_ephys.session__trial WHERE subject_id IN (5, 7)",
        "DELETE FROM lab_ephys.session WHERE subject_id IN (5, 7)",
        "DELETE FROM lab_ana.pairing WHERE left_subject = 5",
        "DELETE FROM lab_ana.tag WHERE subject_id = 5",
        "DELETE FROM lab_ana.note WHERE subject_id = 5",
        "DELETE FROM lab_ana.memo__page WHERE topic = 'five'",
        "DELETE FROM lab_ana.memo WHERE topic = 'five'",
        "DELETE FROM lab_ephys.subject WHERE subject_id = 7",
        "DELETE FROM lab_ephys.subject WHERE subject_id = 5",
    ] {
        server.execute(statement);
    }
}

fn differing(one: &[(String, String)], other: &[(String, String)]) -> BTreeSet<String> {
    let pairs = one.iter().zip(other).filter(|(one, other)| one != other);
    pairs.map(|((table, _), _)| table.clone()).collect()
}

/// The real client makes a pipeline, deletes a mouse and all that was computed of it, and has it back.
pub fn brings_back_what_datajoint_deleted(pair: &mut Pair) {
    let before = Footprint::of(pair);
    pair.source
        .execute("CREATE USER 'lab'@'%' IDENTIFIED BY 'lab at work'");
    pair.source.execute("GRANT ALL ON `lab\\_%`.* TO 'lab'@'%'");
    for datajoint in super::lab::program::datajoints() {
        brings_back_what_it_deleted(pair, &datajoint);
    }
    pair.source.execute("DROP USER 'lab'@'%'");
    drop_all(pair);
    pair.delete_all();
    before.assert_nothing_new(pair);
}

fn brings_back_what_it_deleted(pair: &Pair, datajoint: &DataJoint) {
    let schema = match datajoint.name {
        "datajoint-2" => "lab_ephys_2",
        _ => "lab_ephys",
    };
    let port = pair.source.port.to_string();
    let run = |script: &str, what: &str| datajoint.said(pair.base(), script, &[what, &port]);
    let wanted = run("pipeline.py", "write");
    pair.wait_caught_up();
    let extract = Extract {
        pair,
        snapshot: id(&pair.create(&[])),
    };
    run("delete.py", "2");
    let left = run("pipeline.py", "show");
    assert!(left.lines().count() < wanted.lines().count(), "{left}");
    let source = pair.source_name();
    let rows = ["--with-children", "--missing-rows", "--into", &source];
    let back = extract
        .run(&format!("{schema}.mouse"), "mouse_id = 2", &rows)
        .ok()
        .json();
    assert_eq!(run("pipeline.py", "show"), wanted, "{}", datajoint.name);
    let named: Vec<String> = rows_of(&back).into_iter().map(|(table, _)| table).collect();
    let computed = ["__spikes", "__spikes__peak"].map(|table| format!("{schema}.{table}"));
    assert!(named.ends_with(&computed), "{named:?}");
}

pub fn refuses_a_lineage_that_is_none(pair: &mut Pair) {
    let before = Footprint::of(pair);
    make(&pair.source);
    pair.source.execute("SET GLOBAL foreign_key_checks = 0");
    pair.source
        .execute("INSERT INTO lab_ana.pairing VALUES (9, 99, NULL)");
    pair.source.execute("SET GLOBAL foreign_key_checks = 1");
    pair.wait_caught_up();
    let extract = Extract {
        pair,
        snapshot: id(&pair.create(&[])),
    };
    let dry = ["--dry-run"];
    let subject = "lab_ephys.subject";
    // Before there is a clone.
    for (condition, more, words) in [
        ("subject_id = 5; DROP TABLE x", &dry[..], "semicolon"),
        ("(subject_id = 5", &dry[..], "isn't closed"),
        ("", &dry[..], "empty"),
        (
            "subject_id = 5",
            &["--table", "lab_ephys.session", "--dry-run"][..],
            "one table",
        ),
        (
            "subject_id = 5",
            &["--schema", "lab_ephys", "--dry-run"][..],
            "--schema",
        ),
        (
            "subject_id = 5",
            &["--replace", "--to", "/x"][..],
            "--replace",
        ),
    ] {
        let said = extract.run(subject, condition, more).expect_code(2);
        let both = format!("{}{}", said.stdout, said.stderr);
        assert!(both.contains(words), "{condition}: {both}");
    }
    let naked = [
        "snapshot",
        "extract",
        &extract.snapshot,
        "--with-children",
        "--dry-run",
    ];
    pair.tool.run(&naked).expect_code(2);
    for (table, condition, more, words) in [
        (subject, "subjekt = 5", &dry[..], "subjekt"),
        (subject, "subject_id = = 5", &dry[..], "1064"),
        (
            subject,
            "subject_id = (SELECT subject_id FROM session)",
            &dry[..],
            "1242",
        ),
        (subject, "subject_id = 55", &dry[..], "no row"),
        ("lab_ephys.nothing", "id = 5", &dry[..], "lab_ephys.nothing"),
        ("lab_ana.seen", "id = 5", &dry[..], "view"),
        (
            "lab_ana.pairing",
            "pairing = 9",
            &["--with-parents", "--dry-run"][..],
            "aren't there",
        ),
    ] {
        let said = extract.run(table, condition, more).expect_code(4);
        assert!(said.stdout.contains(words), "{condition}: {}", said.stdout);
    }
    let file = new_dir(pair, "out").join("x.sql");
    extract
        .run(subject, "subject_id = 55", &["--to", &text(&file)])
        .expect_code(4);
    assert!(!file.exists());
    // Whole tables are counted, too.
    let args = [
        "snapshot",
        "extract",
        &extract.snapshot,
        "--schema",
        "lab_ana",
        "--dry-run",
    ];
    let whole = rows_of(&pair.tool.run(&args).ok().json());
    assert!(whole.contains(&("lab_ana.note".to_owned(), 5)), "{whole:?}");
    assert_eq!(whole.len(), 10, "{whole:?}");
    assert_eq!(leavings(pair), Vec::<String>::new());
    std::fs::remove_dir_all(pair.base().join("out")).unwrap();
    drop_all(pair);
    pair.delete_all();
    before.assert_nothing_new(pair);
}
