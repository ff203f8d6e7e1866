//! What makes a pair ready for a failover: silence that is noticed, commits that wait for a replica, a
//! replica that comes up closed.

use std::os::unix::fs::MetadataExt;

use super::lab::couple::Couple;
use super::lab::server::{Flavour, Server, flavours};
use super::{assert_read_only, eventually, limit, may_only_what_is_printed, wait_equal, warnings};

/// Two servers with a table that both are compared by.
fn couple(flavour: Flavour) -> Couple {
    let couple = Couple::start(flavour);
    make_ping(&couple);
    couple
}

fn make_ping(couple: &Couple) {
    couple.source.execute("CREATE DATABASE lab");
    couple
        .source
        .execute("CREATE TABLE lab.ping (id INT PRIMARY KEY AUTO_INCREMENT) ENGINE=InnoDB");
}

/// The variables and plugins of a server that these flags change, and what it comes up with.
fn settings(server: &Server) -> Vec<String> {
    let mut statements = vec![
        "SHOW GLOBAL VARIABLES LIKE 'rpl_semi%'",
        "SHOW GLOBAL VARIABLES LIKE '%net_timeout'",
        "SHOW GLOBAL VARIABLES LIKE '%read_only'",
        "SELECT PLUGIN_NAME FROM information_schema.PLUGINS WHERE PLUGIN_NAME LIKE 'rpl_semi%'",
    ];
    if server.flavour == Flavour::Mysql97 {
        statements.push("SELECT * FROM performance_schema.persisted_variables ORDER BY 1");
    }
    let rows = |statement: &&str| server.rows(statement).into_iter();
    let rows = statements.iter().flat_map(rows);
    rows.filter(|row| {
        row.get("variable_name")
            .is_none_or(|name| !name.starts_with("innodb"))
    })
    .map(|row| format!("{row:?}"))
    .collect()
}

fn both(couple: &Couple) -> [Vec<String>; 2] {
    [settings(&couple.source), settings(&couple.replica)]
}

/// Seconds between two heartbeats of the replica's link.
fn heartbeat(couple: &Couple) -> f64 {
    let value = match couple.flavour.is_mariadb() {
        true => couple.replica.value(
            "SELECT VARIABLE_VALUE FROM information_schema.GLOBAL_STATUS \
             WHERE VARIABLE_NAME = 'SLAVE_HEARTBEAT_PERIOD'",
        ),
        false => couple.replica.value(
            "SELECT HEARTBEAT_INTERVAL FROM performance_schema.replication_connection_configuration",
        ),
    };
    value.parse().unwrap()
}

#[test]
fn a_silent_source_is_noticed_soon() {
    for flavour in flavours() {
        let couple = couple(flavour);
        let before = both(&couple);
        couple.setup_at("net-timeout:in=kill", &[]).expect_code(-1);
        assert_ne!(both(&couple), before);
        couple.tool.run(&["recover"]).ok();
        assert_eq!(both(&couple), before);

        couple.setup(&[]).ok();
        assert_eq!(heartbeat(&couple), 1.0);
        let (name, seconds) = match flavour.is_mariadb() {
            true => ("slave_net_timeout", "30"),
            false => ("replica_net_timeout", "4"),
        };
        for server in [&couple.source, &couple.replica] {
            assert_eq!(server.value(&format!("SELECT @@GLOBAL.{name}")), seconds);
        }
        // A new password of the link leaves it as it is.
        std::fs::remove_file(couple.password_file()).unwrap();
        couple.setup(&[]).ok();
        wait_equal(&couple);
        assert_eq!(heartbeat(&couple), 1.0);
        // A shorter one is somebody's choice.
        couple.replica.execute(&format!("SET GLOBAL {name} = 3"));
        couple.setup(&[]).ok();
        let now = couple.replica.value(&format!("SELECT @@GLOBAL.{name}"));
        assert_eq!(now, "3");
    }
}

/// How many commits of the source waited for an acknowledgement and got it.
fn acknowledged(couple: &Couple) -> u64 {
    let rows = couple
        .source
        .rows("SHOW GLOBAL STATUS LIKE 'Rpl_semi_sync_%_yes_tx'");
    rows[0]["value"].parse().unwrap()
}

fn is_semi_sync(couple: &Couple) -> bool {
    let acknowledged_before = acknowledged(couple);
    wait_equal(couple);
    acknowledged(couple) > acknowledged_before
}

#[test]
fn commits_wait_for_the_replica_when_asked() {
    for flavour in flavours() {
        let couple = couple(flavour);
        let before = both(&couple);
        let planned = couple.setup(&["--semi-sync", "--dry-run"]).ok().json();
        assert!(planned.to_string().contains("commits on src wait"));
        for place in ["plugins:in=kill", "semi-sync:in=kill"] {
            couple.setup_at(place, &["--semi-sync"]).expect_code(-1);
            couple.tool.run(&["recover"]).ok();
            assert_eq!(both(&couple), before, "{place}");
        }
        // Of a pair that runs, which goes on without.
        couple.setup(&[]).ok();
        let before = both(&couple);
        for place in ["semi-sync:in=kill", "verify:before=kill"] {
            couple.setup_at(place, &["--semi-sync"]).expect_code(-1);
            couple.tool.run(&["recover"]).ok();
            assert_eq!(both(&couple), before, "{place}");
            wait_equal(&couple);
        }
        let made = couple.setup(&["--semi-sync"]).ok().json();
        let steps = Couple::steps(&made);
        assert!(
            steps.contains(&"semi-sync: changed".to_owned()),
            "{steps:?}"
        );
        assert!(is_semi_sync(&couple));
        assert_read_only(&couple);
        let of_source = format!("{:?}", settings(&couple.source));
        assert!(of_source.contains("AFTER_SYNC"), "{of_source}");
        assert!(of_source.contains("1000"), "{of_source}");
        let again = couple.setup(&["--semi-sync"]).ok().json();
        let steps = Couple::steps(&again);
        assert!(!format!("{steps:?}").contains("changed"), "{steps:?}");
        assert_eq!(
            warnings(&again).contains(&"boot-settings".to_owned()),
            flavour.is_mariadb(),
            "{again}"
        );
    }
}

/// And with just the accounts that `grants` prints.
#[test]
fn the_printed_grants_do_for_semi_synchronous_replication() {
    for flavour in flavours() {
        let couple = couple(flavour);
        may_only_what_is_printed(&couple.source, &couple, "this server is the source");
        may_only_what_is_printed(&couple.replica, &couple, "this server is the replica");
        couple
            .setup_at("verify:before=kill", &["--semi-sync"])
            .expect_code(-1);
        couple.tool.run(&["recover"]).ok();
        let made = couple.setup(&["--semi-sync"]).ok().json();
        assert!(!warnings(&made).contains(&"privilege".to_owned()), "{made}");
        assert!(is_semi_sync(&couple));
    }
}

#[test]
fn a_server_without_the_plugin_is_told_beforehand() {
    let flavour = Flavour::Mysql56;
    if let Some(missing) = flavour.missing() {
        assert!(std::env::var_os("CI").is_none(), "{missing}");
        return;
    }
    let couple = Couple::start(flavour);
    for server in [&couple.source, &couple.replica] {
        server.execute_unlogged(&[
            "DELETE FROM mysql.user WHERE User = ''".to_owned(),
            "FLUSH PRIVILEGES".to_owned(),
        ]);
    }
    let (_, message) = couple.setup(&["--semi-sync"]).expect_code(4).error();
    assert!(message.contains("semisync_master.so"), "{message}");
    assert!(couple.replica.channels().is_empty());
}

/// A replica whose server reads the option files of `etc` beside it.
fn with_option_files(flavour: Flavour) -> (Couple, std::path::PathBuf) {
    let mut couple = couple(flavour);
    let base = couple.base().to_owned();
    let etc = base.join("etc");
    std::fs::create_dir(&etc).unwrap();
    let main = base.join("main.cnf");
    std::fs::write(&main, format!("!includedir {}\n", etc.display())).unwrap();
    couple.replica.read_options_of(&main);
    couple.replica.shut_down();
    couple.replica.restart();
    (couple, etc)
}

#[test]
fn a_replica_comes_up_closed_by_an_option_file_of_ours() {
    for flavour in flavours().into_iter().chain([Flavour::Mysql56]) {
        if flavour.missing().is_some() {
            continue;
        }
        let (mut couple, etc) = with_option_files(flavour);
        for server in [&couple.source, &couple.replica] {
            server.execute_unlogged(&["DELETE FROM mysql.user WHERE User = ''".to_owned()]);
            server.execute_unlogged(&["FLUSH PRIVILEGES".to_owned()]);
        }
        let path = etc.join("zz-understudy.cnf");
        let shown = path.display().to_string();
        let args = ["--write-option-file", shown.as_str()];
        if flavour == Flavour::Mysql97 {
            let made = couple.setup(&args).ok().json();
            assert!(Couple::steps(&made).contains(&"option-file: already-so".to_owned()));
            assert!(!path.exists());
            continue;
        }
        // What isn't ours is left alone, and nothing is changed.
        let refused = |word: &str| {
            let (_, message) = couple.setup(&args).expect_code(4).error();
            assert!(message.contains(word), "{message}");
            assert!(couple.replica.channels().is_empty());
        };
        std::fs::write(&path, "[mysqld]\n").unwrap();
        refused("not written by understudy");
        std::fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink(etc.join("elsewhere"), &path).unwrap();
        refused("symbolic link");
        std::fs::remove_file(&path).unwrap();
        let away = etc.join("away/zz.cnf").display().to_string();
        couple.setup(&["--write-option-file", &away]).expect_code(4);

        couple
            .setup_at("option-file:in=kill", &args)
            .expect_code(-1);
        assert!(path.exists());
        couple.tool.run(&["recover"]).ok();
        assert!(!path.exists());

        let made = couple.setup(&args).ok().json();
        let told = warnings(&made);
        assert!(!told.contains(&"boot-read-only".to_owned()), "{made}");
        assert!(!told.contains(&"option-file".to_owned()), "{made}");
        let there = std::fs::metadata(&path).unwrap();
        assert_eq!((there.mode() & 0o7777, there.uid()), (0o644, 0));
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains("\nread_only=ON\n"), "{text}");

        if flavour.is_mariadb() {
            // With another content, undone to the former one.
            let more = [&args[..], &["--semi-sync"]].concat();
            couple
                .setup_at("option-file:in=kill", &more)
                .expect_code(-1);
            assert_ne!(std::fs::read_to_string(&path).unwrap(), text);
            couple.tool.run(&["recover"]).ok();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
            couple.setup(&more).ok();
        }
        couple.replica.shut_down();
        couple.replica.restart();
        assert_eq!(couple.replica.value("SELECT @@GLOBAL.read_only"), "1");
        if flavour.is_mariadb() {
            eventually(limit(20), "it acknowledges again", || {
                wait_equal(&couple);
                is_semi_sync(&couple)
            });
            let again = couple
                .setup(&[&args[..], &["--semi-sync"]].concat())
                .ok()
                .json();
            let steps = Couple::steps(&again);
            assert!(!format!("{steps:?}").contains("changed"), "{again}");
        }
        // A file behind it says otherwise: told.
        std::fs::write(etc.join("zzz.cnf"), "[mysqld]\nread_only=OFF\n").unwrap();
        let made = couple.setup(&args).ok().json();
        assert!(
            warnings(&made).contains(&"option-file".to_owned()),
            "{made}"
        );
    }
}

#[test]
fn a_server_that_reads_no_option_file_is_told() {
    let couple = couple(Flavour::Mariadb);
    let path = couple.base().join("zz.cnf").display().to_string();
    let made = couple.setup(&["--write-option-file", &path]).ok().json();
    assert!(made.to_string().contains("--no-defaults"), "{made}");
}
