//! The manual is followed word by word on real servers, and what it shows is what is said.
#![expect(clippy::unwrap_used, reason = "tests")]

mod page;
mod stage;

use page::{blocks, compare, shown, steps};
use stage::Stage;

const PAIR: &str = "/srv/pair";

/// Runs the commands of a page's blocks that begin so; what says something else is noted.
#[track_caller]
fn follow(stage: &Stage, page: &str, beginning: &str, wrong: &mut Vec<String>) {
    for one in shown(page, beginning) {
        let said = stage.run(PAIR, &one.command);
        if std::env::var_os("UNDERSTUDY_TEST_TRACE").is_some() {
            eprintln!("$ {}\n{}", one.command, said.text);
        }
        assert_eq!(said.code, 0, "{page}: $ {}\n{}", one.command, said.text);
        wrong.extend(compare(page, &one, &said.text).err());
    }
}

/// README.md's pair in five minutes, up to the words that set it up; and the words from there on.
fn five_minutes() -> (String, String) {
    let block = blocks("README.md", "sh")
        .into_iter()
        .find(|block| block.contains("/srv/pair"));
    let block = block.unwrap();
    let at = block.find("\nunderstudy setup lab\n").unwrap();
    (block[..at].to_owned(), block[at..].to_owned())
}

/// From nothing to a pair, a night, a table that comes back, changed roles, a dead source and an errant
/// transaction, as README.md, PAIRS.md, NIGHTLY.md, RESTORE.md, FAILOVER.md and STATUS.md have it.
#[test]
fn a_pair_is_made_kept_and_failed_over_as_the_manual_says() {
    let (stage, mut wrong) = (Stage::new(), Vec::new());
    stage.ok(
        "/srv",
        "mkdir pair && btrfs -q subvolume create pair/db1 && btrfs -q subvolume create pair/db2",
    );
    let (before, after) = five_minutes();
    stage.ok("/srv", &before);
    follow(&stage, "docs/PAIRS.md", "understudy setup lab", &mut wrong);
    let said = stage.ok(PAIR, &after);
    assert!(
        said.contains("already so") && said.contains("Pinky"),
        "{said}"
    );

    // Nights: one before, one that fails, and those that are shown.
    stage.ok(PAIR, "understudy run db2");
    stage.ok(
        PAIR,
        "printf '[server.db2.snapshot]\\nkeep = { last = 1 }\\n' >>understudy.toml",
    );
    stage.ok(
        PAIR,
        "kill -STOP $(cat db2.pid); understudy run db2; test $? = 1; kill -CONT $(cat db2.pid)",
    );
    follow(&stage, "docs/NIGHTLY.md", "understudy run", &mut wrong);
    follow(&stage, "docs/NIGHTLY.md", "understudy history", &mut wrong);
    follow(
        &stage,
        "README.md",
        "understudy snapshot create",
        &mut wrong,
    );
    follow(&stage, "README.md", "understudy status", &mut wrong);
    follow(
        &stage,
        "docs/RESTORE.md",
        "understudy snapshot verify",
        &mut wrong,
    );
    follow(&stage, "docs/RESTORE.md", "mariadb", &mut wrong);
    follow(&stage, "docs/RESTORE.md", "install", &mut wrong);

    // Roles: there and back, and once more as FAILOVER.md shows it.
    follow(&stage, "README.md", "understudy switchover", &mut wrong);
    stage.ok(PAIR, "understudy switchover lab --yes");
    follow(
        &stage,
        "docs/FAILOVER.md",
        "understudy switchover",
        &mut wrong,
    );
    stage.ok(PAIR, "understudy switchover lab --yes");
    the_source_dies(&stage);

    stage.ok(PAIR, "understudy switchover lab --yes");
    stage.ok(
        PAIR,
        "mariadb -S db2.sock -e 'INSERT INTO lab.mouse VALUES (99, \"errant\")'",
    );
    follow(&stage, "docs/STATUS.md", "understudy status", &mut wrong);
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

/// Two servers that replicate already, as START.md finds them, with their host names and addresses.
const A_PAIR_THAT_IS_THERE: &str = r#"
set -eu
for n in 1 2; do btrfs -q subvolume create db$n; done
mariadb-install-db --no-defaults --user=root --datadir=/srv/db1 --auth-root-authentication-method=normal \
  --skip-test-db >/dev/null
cp -a db1/. db2/
start() {
  unshare --uts /bin/sh -c "hostname db$1; exec mariadbd --no-defaults --user=root --datadir=/srv/db$1 \
    --socket=$2 --pid-file=/srv/db$1.pid --bind-address=$3 --port=3306 --server-id=$1 \
    --log-bin=binlog --binlog-format=ROW --log-slave-updates --sync-binlog=1" >db$1.log 2>&1 </dev/null &
}
start 1 /srv/db1.sock 192.0.2.1
start 2 /run/mysqld/mysqld.sock 127.0.0.1
for socket in /srv/db1.sock /run/mysqld/mysqld.sock; do
  until mariadb -S $socket -e 'DO 1' 2>/dev/null; do sleep 0.2; done
done
mariadb -S /srv/db1.sock -e "CREATE USER repl@'%' IDENTIFIED BY 'r'; GRANT REPLICATION SLAVE ON *.* TO repl@'%'"
mariadb -e "CHANGE MASTER TO MASTER_HOST = '192.0.2.1', MASTER_USER = 'repl', MASTER_PASSWORD = 'r',
  MASTER_USE_GTID = slave_pos; SET GLOBAL read_only = 1; START SLAVE"
"#;

/// As START.md has it: the account, `init` on a terminal, a night by hand.
#[test]
fn a_pair_that_is_there_gets_its_first_night_as_the_manual_says() {
    let (stage, mut wrong) = (Stage::new(), Vec::new());
    stage.ok("/srv", "hostname db2");
    stage.ok("/srv", A_PAIR_THAT_IS_THERE);
    let accounts = &blocks("docs/START.md", "sql")[0];
    stage.ok(
        "/srv",
        &format!("mariadb -S /srv/db1.sock <<'END'\n{accounts}END"),
    );
    stage.ok(
        "/srv",
        "until mariadb -u understudy -p… -e 'DO 1' 2>/dev/null; do sleep 0.1; done",
    );
    for one in shown("docs/START.md", "understudy init") {
        // The usual account, and the password of the page.
        let said = stage.ok("/srv", &format!(
            "(sleep 1; echo; sleep 1; echo …; sleep 1) | script -qec '{}' /dev/null | sed 's/\\x1b\\[[0-9;]*m//g; s/\\r//'",
            one.command
        ));
        wrong.extend(compare("docs/START.md", &one, &said).err());
    }
    for block in blocks("docs/START.md", "sh") {
        for line in block.lines() {
            stage.ok("/srv", line);
        }
    }
    // And it becomes one whose roles can be moved.
    assert_ne!(stage.run("/srv", "understudy doctor lab").code, 0);
    stage.ok("/srv", "understudy setup lab && understudy doctor lab");
    let said = stage.ok("/srv", "understudy config check");
    assert!(said.contains("is good"), "{said}");
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

/// FAILOVER.md's steps for the night, one by one.
fn the_source_dies(stage: &Stage) {
    let steps = steps("docs/FAILOVER.md", "The source is down: what to do");
    let kinds: Vec<&str> = steps
        .iter()
        .map(|step| step.split(' ').nth(1).unwrap())
        .collect();
    assert_eq!(
        kinds,
        ["status", "failover", "failover", "rejoin"],
        "{steps:?}"
    );
    let start = stage.ok(PAIR, "tr '\\0' ' ' </proc/$(cat db1.pid)/cmdline");
    stage.ok(
        PAIR,
        "kill -KILL $(cat db1.pid); while kill -0 $(cat db1.pid) 2>/dev/null; do sleep 0.1; done",
    );
    let said = stage.ok(PAIR, &steps[0]);
    assert!(
        said.contains("db1 source") || said.contains("no answer"),
        "{said}"
    );
    let said = stage.ok(PAIR, &steps[1]);
    assert!(said.contains("db2"), "{said}");
    // Where there is no terminal to ask on.
    let said = stage.ok(PAIR, &format!("{} --yes", steps[2]));
    assert!(said.contains("db2 is the source now"), "{said}");
    stage.ok(PAIR, &format!("{start} >db1.log 2>&1 </dev/null & until mariadb -S db1.sock -e 'DO 1' 2>/dev/null; do sleep 0.2; done"));
    let said = stage.ok(PAIR, &steps[3]);
    assert!(said.contains("follow"), "{said}");
}
