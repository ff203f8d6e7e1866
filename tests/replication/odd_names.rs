//! Objects of every kind under odd names and with odd texts: a dump brings them whole, or is refused
//! before it begins.

use super::lab::couple::{Couple, content};
use super::lab::server::{Flavour, Server, flavours};

/// Each becomes the name and the text of an object of every kind.
const NAMES: [&str; 63] = [
    "a`b",
    "``",
    "a\nb",
    "a\r\nb",
    "a\rb",
    "a\tb",
    " a",
    "\na",
    "a ",
    "a'b",
    "a\"b",
    "a;b",
    "a;;b",
    ";;a",
    "a;",
    "a*/b",
    "a/*b",
    "/*!99999 a",
    "/*a*/",
    "a-- b",
    "-- a",
    "#a",
    "a#b",
    "#sql-1_2",
    "a\\b",
    "a\\",
    "a\\nb",
    "a\\'b",
    "a\\`b",
    "a.b",
    "a/b",
    "a@b",
    "@0041",
    "a%b",
    "a_b",
    "axb",
    "$a",
    "123",
    "1.5",
    "1e5",
    "\u{e9}\u{e9}",
    "a\u{200b}b",
    "\u{200b}",
    "\u{feff}a",
    "a\u{a0}",
    "a\u{1}b",
    "a\u{1a}b",
    "a\u{7f}b",
    "\u{1b}[31m",
    "a\nDELIMITER //\nb",
    "delimiter ;",
    "a\nsource /x\nb",
    "a\n\\! id\nb",
    "--help",
    "a=b",
    "a\nUSE mysql\n",
    "select",
    "a)b(",
    "\\d //",
    "a#P#b",
    "CASE",
    "SYS",
    "case",
];

/// One on which several statements share what is set for it.
struct Session(mysql::Conn);

impl Session {
    /// Whether the server took it.
    fn attempt(&mut self, statement: &str) -> bool {
        use mysql::prelude::Queryable;
        self.0.query_drop(statement).is_ok()
    }

    #[track_caller]
    fn execute(&mut self, statement: &str) {
        use mysql::prelude::Queryable;
        self.0
            .query_drop(statement)
            .unwrap_or_else(|error| panic!("{statement}: {error}"));
    }
}

/// In the schema, in the bytes of sjis, which only a client that knows it reads right.
fn execute_in_sjis(flavour: Flavour, source: &Server, schema: &str, statement: &[u8]) {
    use std::os::unix::ffi::OsStrExt;
    let client = match flavour {
        Flavour::Mariadb | Flavour::MariadbOther => "mariadb",
        Flavour::Mysql97 | Flavour::Mysql56 => "mysql",
    };
    let status = std::process::Command::new(flavour.home().join("bin").join(client))
        .args([
            "--no-defaults",
            "--default-character-set=sjis",
            "--user=root",
        ])
        .arg(format!("--socket={}", source.socket().display()))
        .arg(format!("--database={schema}"))
        .arg("--execute")
        .arg(std::ffi::OsStr::from_bytes(statement))
        .status()
        .unwrap();
    assert!(status.success());
}

fn name(text: &str) -> String {
    format!("`{}`", text.replace('`', "``"))
}

fn text(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

/// What is said of it in a comment of an object's own text.
fn in_comment(text: &str) -> String {
    text.replace("*/", "* /").replace("/*!", "/ *!")
}

/// Whether the dump programs of this flavour can take a schema or a foreign key of that name, or an
/// event with that text.
struct Can {
    schema: bool,
    key: bool,
    event: bool,
}

impl Can {
    fn of(flavour: Flavour, name: &str) -> Self {
        let is_mysql = flavour == Flavour::Mysql97;
        Self {
            schema: is_mysql || !name.contains(['\'', '"', '\\', '\n', '\r', '\u{1a}']),
            key: is_mysql || !name.contains('`'),
            event: !name.contains(";;"),
        }
    }
}

/// How many of each kind the server took.
fn fill(flavour: Flavour, source: &Server) -> Vec<(&'static str, usize)> {
    let mut session = Session(source.connect());
    for schema in ["odd", "odd views", "odd keys"] {
        session.execute(&format!("CREATE DATABASE `{schema}` CHARACTER SET utf8mb4"));
    }
    let mut taken: Vec<(&'static str, usize)> = Vec::new();
    let longest = ["\u{4e2d}", "\u{e9}", "x"].map(|letter| letter.repeat(64));
    let names = NAMES.into_iter().chain(longest.iter().map(String::as_str));
    for (number, odd) in names.enumerate() {
        let (n, t, c) = (name(odd), text(odd), in_comment(odd));
        let can = Can::of(flavour, odd);
        let mut kinds = vec![
            (
                "table",
                format!(
                    "CREATE TABLE odd.{n} (id INT PRIMARY KEY COMMENT {t}, {n} INT, g VARCHAR(300) AS \
                 (CONCAT({t}, id)) STORED, v VARCHAR(300) DEFAULT {t}, e ENUM ({t}, 'x,y'), \
                     KEY {n} ({n}), CONSTRAINT {n} CHECK (v <> {t})) COMMENT {t}"
                ),
            ),
            (
                "row",
                format!("INSERT INTO odd.{n} (id, {n}, v) VALUES (1, 2, 'x')"),
            ),
            (
                "partition",
                format!(
                    "CREATE TABLE odd.p{number} (v VARCHAR(300)) PARTITION BY LIST COLUMNS (v) \
                     (PARTITION {n} VALUES IN ({t}))"
                ),
            ),
            (
                "trigger",
                format!(
                    "CREATE TRIGGER odd.{n} BEFORE INSERT ON odd.{n} FOR EACH ROW BEGIN SET NEW.v = {t}; /* {c} */ END"
                ),
            ),
            (
                "view",
                format!(
                    "CREATE VIEW `odd views`.{n} AS SELECT id AS {n}, {t} AS t FROM odd.{n} AS {n}"
                ),
            ),
            (
                "procedure",
                format!(
                    "CREATE PROCEDURE odd.{n}({n} INT) COMMENT {t} BEGIN /* {c} */ SELECT {t}; -- why\n END"
                ),
            ),
            (
                "function",
                format!(
                    "CREATE FUNCTION odd.{n}() RETURNS VARCHAR(300) CHARSET utf8mb4 DETERMINISTIC RETURN {t}"
                ),
            ),
        ];
        if can.key {
            kinds.push((
                "key",
                format!(
                    "CREATE TABLE `odd keys`.k{number} (id INT PRIMARY KEY, p INT, \
                 CONSTRAINT {n} FOREIGN KEY (p) REFERENCES k{number} (id))"
                ),
            ));
        }
        if can.event {
            kinds.push(("event", format!(
                "CREATE EVENT odd.{n} ON SCHEDULE EVERY 1 YEAR STARTS '2035-01-01' DISABLE COMMENT {t} \
                 DO BEGIN SELECT {t}; /* {c} */ END")));
        }
        if can.schema && session.attempt(&format!("CREATE DATABASE {n}")) {
            kinds.push(("schema", format!("CREATE TABLE {n}.t (id INT PRIMARY KEY)")));
        }
        for (kind, statement) in kinds {
            let count = usize::from(session.attempt(&statement));
            match taken.iter_mut().find(|(known, _)| *known == kind) {
                Some((_, counted)) => *counted += count,
                None => taken.push((kind, count)),
            }
        }
    }
    taken
}

/// What no name tells, and a careless dump loses or garbles without a word.
fn fill_delicate(flavour: Flavour, source: &Server) {
    let mut session = Session(source.connect());
    session.execute("CREATE DATABASE delicate CHARACTER SET utf8mb4");
    session.execute("USE delicate");
    for statement in [
        "SET SESSION sql_mode = 'ALLOW_INVALID_DATES'",
        "CREATE TABLE dates (id INT PRIMARY KEY, d DATE DEFAULT '2001-02-31')",
        "INSERT INTO dates VALUES (1, '2001-02-31'), (2, '2001-02-00'), (3, '0000-00-00')",
        "SET SESSION sql_mode = 'ANSI_QUOTES,NO_BACKSLASH_ESCAPES'",
        "CREATE TABLE mode (id INT PRIMARY KEY, v VARCHAR(9) DEFAULT 'a\\')",
        "CREATE TRIGGER mode BEFORE INSERT ON mode FOR EACH ROW SET NEW.v = 'a\\'",
        "CREATE PROCEDURE mode() SELECT \"id\", 'a\\' FROM mode",
        "SET SESSION sql_mode = DEFAULT",
        "CREATE TABLE big (id INT PRIMARY KEY, b LONGBLOB)",
        "INSERT INTO big VALUES (1, REPEAT('x', 12000000))",
        "CREATE TABLE a_b (id INT)",
        "CREATE TABLE axb (id INT)",
        "CREATE TRIGGER t1 BEFORE INSERT ON a_b FOR EACH ROW SET @a = 1",
        "CREATE TRIGGER t3 BEFORE INSERT ON axb FOR EACH ROW SET @a = 1",
        "CREATE TRIGGER t2 BEFORE INSERT ON axb FOR EACH ROW PRECEDES t3 SET @a = 2",
        "CREATE VIEW z AS SELECT id FROM axb",
        "CREATE VIEW a AS SELECT id FROM z",
    ] {
        session.execute(statement);
    }
    execute_in_sjis(
        flavour,
        source,
        "delicate",
        b"CREATE PROCEDURE sjis() SELECT '\x83\x5ca'",
    );
    if flavour == Flavour::Mariadb {
        for statement in [
            "CREATE TABLE versioned (id INT PRIMARY KEY, v INT) WITH SYSTEM VERSIONING",
            "INSERT INTO versioned VALUES (1, 1), (2, 2)",
            "UPDATE versioned SET v = 5",
            "DELETE FROM versioned WHERE id = 2",
            "CREATE SEQUENCE `odd ``seq` START WITH 7",
            "SET SESSION sql_mode = ORACLE",
            "CREATE PACKAGE pk AS PROCEDURE p; END",
            "CREATE PACKAGE BODY pk AS PROCEDURE p AS BEGIN NULL; END; END",
        ] {
            session.execute(statement);
        }
    }
}

/// What a dump can't bring, what is said of it, and what takes it away again.
fn obstacles(flavour: Flavour, source: &Server) -> Vec<(&'static str, &'static str)> {
    let mut session = Session(source.connect());
    session.execute("CREATE DATABASE bad");
    session.execute("USE bad");
    let of_both = [
        (
            "CREATE DEFINER = 'a;;b'@'localhost' EVENT definer ON SCHEDULE EVERY 1 YEAR DISABLE DO SELECT 1",
            "bad.definer",
            "DROP EVENT bad.definer",
        ),
        (
            "CREATE PROCEDURE nested() BEGIN /* a /*! b */ SELECT 1; END",
            "procedure bad.nested",
            "DROP PROCEDURE bad.nested",
        ),
        ("CREATE DATABASE `Mysql`", "Mysql", "DROP DATABASE `Mysql`"),
        ("SET time_zone = 'Far/Away'", "", "DO 1"),
        (
            "CREATE EVENT zoned ON SCHEDULE EVERY 1 YEAR DISABLE DO SELECT 1",
            "bad.zoned (Far/Away)",
            "DROP EVENT bad.zoned",
        ),
    ];
    let of_one: &[_] = match flavour {
        Flavour::Mysql97 | Flavour::Mysql56 => &[
            (
                "CREATE TABLESPACE shared ADD DATAFILE 'shared.ibd'",
                "",
                "DO 1",
            ),
            (
                "CREATE TABLE shared (id INT PRIMARY KEY) TABLESPACE shared",
                "bad.shared (shared)",
                "ALTER TABLE bad.shared TABLESPACE innodb_file_per_table",
            ),
        ],
        Flavour::Mariadb | Flavour::MariadbOther => &[
            (
                "CREATE DATABASE `bad'name`",
                "bad'name",
                "DROP DATABASE `bad'name`",
            ),
            (
                "CREATE TABLE k (id INT PRIMARY KEY, CONSTRAINT `bad``key` FOREIGN KEY (id) REFERENCES k (id))",
                "bad.k (bad`key)",
                "DROP TABLE bad.k",
            ),
            (
                "CREATE DEFINER = 'a@b'@'localhost' EVENT halved ON SCHEDULE EVERY 1 YEAR DISABLE DO SELECT 1",
                "bad.halved (a@b@localhost)",
                "DROP EVENT bad.halved",
            ),
            (
                "CREATE TABLE precise (id INT, s BIGINT UNSIGNED GENERATED ALWAYS AS ROW START, \
              e BIGINT UNSIGNED GENERATED ALWAYS AS ROW END, PERIOD FOR SYSTEM_TIME (s, e)) \
              WITH SYSTEM VERSIONING ENGINE=InnoDB",
                "bad.precise",
                "DROP TABLE bad.precise",
            ),
        ],
    };
    source.execute_unlogged(&[
        "INSERT INTO mysql.time_zone (Time_zone_id, Use_leap_seconds) VALUES (1, 'N')".to_owned(),
        "INSERT INTO mysql.time_zone_name VALUES ('Far/Away', 1)".to_owned(),
        "INSERT INTO mysql.time_zone_transition_type VALUES (1, 0, 3600, 0, 'FA')".to_owned(),
    ]);
    let all: Vec<_> = of_both.iter().chain(of_one).collect();
    for (statement, _, _) in &all {
        session.execute(statement);
    }
    execute_in_sjis(
        flavour,
        source,
        "bad",
        b"CREATE PROCEDURE lost() SELECT '\x83\x5c'",
    );
    let told = all.iter().map(|(_, told, cure)| (*told, *cure));
    told.chain([("procedure bad.lost", "DROP PROCEDURE bad.lost")])
        .collect()
}

#[test]
fn what_has_an_odd_name_comes_whole_or_is_found_beforehand() {
    for flavour in flavours() {
        let couple = Couple::start(flavour);
        for (kind, taken) in fill(flavour, &couple.source) {
            assert!(taken > 40, "{kind}: the server took {taken} names");
        }
        fill_delicate(flavour, &couple.source);
        let obstacles = obstacles(flavour, &couple.source);
        couple.source.execute("FLUSH BINARY LOGS");
        let before = (couple.source.gtid(), couple.state(&couple.replica));
        let dump = ["--provision", "dump"];
        let refused = couple.setup(&dump).expect_code(4).json()["error"].clone();
        let refused =
            refused["message"].as_str().unwrap().to_owned() + &refused["hints"].to_string();
        for (told, _) in &obstacles {
            assert!(refused.contains(told), "{told}: {refused}");
        }
        for good in ["odd.", "odd keys", "delicate."] {
            assert!(!refused.contains(good), "{good}: {refused}");
        }
        assert_eq!(
            (couple.source.gtid(), couple.state(&couple.replica)),
            before
        );

        for (_, cure) in &obstacles {
            couple.source.execute(cure);
        }
        let packet = || couple.replica.value("SELECT @@GLOBAL.max_allowed_packet");
        let narrow = packet();
        couple.setup(&dump).ok();
        assert_eq!(packet(), narrow);
        let (here, there) = (content(&couple.replica), content(&couple.source));
        let only = |own: &[String], other: &[String]| -> Vec<String> {
            let lacks = own.iter().filter(|line| !other.contains(line));
            lacks.cloned().collect()
        };
        assert_eq!(only(&here, &there), only(&there, &here));
        if flavour == Flavour::Mariadb {
            let history = "SELECT COUNT(*) FROM delicate.versioned FOR SYSTEM_TIME ALL";
            assert_eq!(couple.replica.value(history), "4");
        }
        let dates = "SELECT COUNT(*) FROM delicate.dates WHERE CAST(d AS CHAR) = '2001-02-31'";
        assert_eq!(couple.replica.value(dates), "1");
        couple.assert_nothing_in_hand();
    }
}
