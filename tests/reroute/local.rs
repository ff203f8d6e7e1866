//! Files of clients, and programs of users.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use understudy::reroute::{Outcome, Seen, check, perform, see, side_by_side, undo};

use super::lab::scratch::Scratch;
use super::{act, act_on, checked, performs, two_servers, undoes, write};

fn file_lines(path: &Path, format: &str, more: &str) -> String {
    format!(
        "way = \"file\"\npath = \"{}\"\nformat = \"{format}\"\nkey = \"database.host\"\n\
         addresses = {{ db1 = \"db1.lab:3306\", db2 = \"db2.lab:3307\" }}\nport_key = \"database.port\"\n{more}",
        path.display()
    )
}

#[test]
fn a_file_changes_in_two_values_and_keeps_its_mode_and_owner() {
    let scratch = Scratch::new();
    for (format, text, mode) in [
        // DataJoint's two.
        (
            "json",
            "{\n  \"database.host\": \"db1.lab\",\n  \"database.port\": 3306, \"z\": [1.50]\n}",
            0o604,
        ),
        (
            "json",
            "{\"database\": {\"port\": 3306, \"host\": \"db1.lab\"}}\n",
            0o4750,
        ),
        (
            "toml",
            "# ours\n[database]\nport = 3306 # as always\nhost = 'db1.lab'\n",
            0o400,
        ),
        (
            "ini",
            "[database]\r\nhost=db1.lab ; the source\r\nport = 3306\r\n",
            0o666,
        ),
    ] {
        let path = scratch.path.join(format!("file{mode:o}"));
        write(&path, text, mode);
        std::os::unix::fs::chown(&path, Some(12345), Some(23456)).unwrap();
        write(&path, text, mode);
        let mut act = act(&file_lines(&path, format, ""), [1, 2]);
        checked(&mut act);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        performs(&act);
        let expected = text.replace("db1.lab", "db2.lab").replace("3306", "3307");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), expected);
        assert!(matches!(see(&act).unwrap(), Seen::Asked(_)));
        let there = std::fs::metadata(&path).unwrap();
        assert_eq!(
            (there.uid(), there.gid(), there.mode() & 0o7777),
            (12345, 23456, mode)
        );
        undoes(&act);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        assert!(see(&act).is_err());
    }
    let left = std::fs::read_dir(&scratch.path).unwrap().count();
    assert_eq!(left, 4, "a temporary file is left");
}

#[test]
fn a_file_that_cannot_be_replaced_as_it_is_is_refused() {
    let scratch = Scratch::new();
    let text = "{\"database.host\": \"db1.lab\", \"database.port\": 3306}";
    let path = |name: &str| scratch.path.join(name);
    write(&path("file"), text, 0o600);
    std::os::unix::fs::symlink(path("file"), path("link")).unwrap();
    write(&path("one"), text, 0o600);
    std::fs::hard_link(path("one"), path("two")).unwrap();
    write(&path("keyless"), "{\"database.host\": 1}", 0o600);
    write(&path("broken"), "{", 0o600);
    std::fs::create_dir(path("dir")).unwrap();
    for (name, expected) in [
        ("link", "symbolic link"),
        ("one", "several names"),
        ("keyless", "there is no key database.port"),
        ("broken", "it is no JSON"),
        ("none", "it isn't there"),
        ("dir", "Is a directory"),
    ] {
        let act = act(&file_lines(&path(name), "json", ""), [1, 2]);
        for error in [check(&act).unwrap_err(), perform(&act).unwrap_err()] {
            assert!(error.message.contains(expected), "{name}: {error}");
        }
    }
    assert_eq!(std::fs::read_to_string(path("file")).unwrap(), text);
}

fn program(scratch: &Scratch, text: &str) -> String {
    let path = scratch.path.join("program");
    write(&path, &format!("#!/bin/sh\n{text}\n"), 0o700);
    format!("way = \"exec\"\nargv = [\"{}\", \"a b\"]\n", path.display())
}

#[test]
fn a_program_is_told_everything_and_its_status_counts() {
    let scratch = Scratch::new();
    let said = scratch.path.join("said");
    let lines = program(
        &scratch,
        &format!(
            "(echo \"$1\"; env | grep ^UNDERSTUDY | sort) >>{}\necho done",
            said.display()
        ),
    );
    let mut act = act(&lines, [3311, 3312]);
    let found = checked(&mut act);
    assert_eq!(found.warnings.len(), 1, "{found:?}");
    let of = |phase: &str| {
        format!(
            "a b\nUNDERSTUDY_NEW_HOST=127.0.0.1\nUNDERSTUDY_NEW_PORT=3312\nUNDERSTUDY_NEW_SOCKET=\n\
             UNDERSTUDY_NEW_SOURCE=db2\nUNDERSTUDY_OLD_HOST=127.0.0.1\nUNDERSTUDY_OLD_PORT=3311\n\
             UNDERSTUDY_OLD_SOCKET=\nUNDERSTUDY_OLD_SOURCE=db1\nUNDERSTUDY_PAIR=lab\nUNDERSTUDY_PHASE={phase}\n"
        )
    };
    let done = perform(&act).unwrap();
    assert_eq!(
        done.outcome,
        Outcome::Changed("ended with 0 (done)".to_owned())
    );
    assert_eq!(see(&act).unwrap(), Seen::Unseen);
    undo(&super::later(&act)).unwrap();
    let all = ["check", "do", "undo"].map(of).concat();
    assert_eq!(std::fs::read_to_string(&said).unwrap(), all);

    let lines = program(&scratch, "echo no such address >&2; exit 3");
    let act = super::act(&lines, [1, 2]);
    for error in [check(&act).unwrap_err(), perform(&act).unwrap_err()] {
        assert!(
            error.message.contains("exit status: 3 (no such address)"),
            "{error}"
        );
        assert!(error.name.ends_with("/program"), "{error}");
    }
    write(&scratch.path.join("program"), "#!/bin/sh\n", 0o722);
    let error = perform(&act).unwrap_err();
    assert!(
        error.message.contains("may be written by others"),
        "{error}"
    );
}

#[test]
fn a_program_that_hangs_ends_at_its_limit_and_holds_up_nobody() {
    let scratch = Scratch::new();
    let pid = scratch.path.join("pid");
    let hangs = program(
        &scratch,
        &format!(
            "trap '' TERM\necho $$ >{}\nwhile :; do sleep 1; done",
            pid.display()
        ),
    );
    let hangs = act(&format!("{hangs}timeout = \"2s\""), [1, 2]);
    let file = scratch.path.join("file");
    write(
        &file,
        "{\"database.host\": \"db1.lab\", \"database.port\": 3306}",
        0o600,
    );
    let works = act(&file_lines(&file, "json", ""), [1, 2]);
    let began = Instant::now();
    let acts = [hangs, works];
    let results = std::thread::scope(|scope| {
        let all = scope.spawn(|| side_by_side(&acts, perform));
        std::thread::sleep(Duration::from_millis(800));
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(text.contains("db2.lab"), "it waits for the one that hangs");
        all.join().unwrap()
    });
    assert!(began.elapsed() < Duration::from_secs(5));
    let error = results[0].as_ref().unwrap_err();
    assert!(
        error.name.ends_with("/program") && error.message.contains("didn't end within"),
        "{error}"
    );
    assert!(results[1].is_ok());
    let pid = std::fs::read_to_string(&pid).unwrap();
    assert!(
        !Path::new(&format!("/proc/{}", pid.trim())).exists(),
        "it still runs"
    );
}

#[test]
fn a_program_that_lies_is_found_out() {
    let scratch = Scratch::new();
    let servers = two_servers(&scratch);
    let lines = program(&scratch, "exit 0");
    let through = |port: u16| format!("{lines}through = \"127.0.0.1:{port}\"\ntimeout = \"2s\"");
    let act = act_on(&through(servers[0].port), &servers, &scratch);
    perform(&act).unwrap();
    let error = see(&act).unwrap_err();
    assert!(error.message.contains("answers there, not db2"), "{error}");
    let act = act_on(&through(servers[1].port), &servers, &scratch);
    assert!(matches!(see(&act).unwrap(), Seen::Reached { .. }));
    // Nobody is there at all.
    let act = act_on(&through(1), &servers, &scratch);
    assert!(
        see(&act)
            .unwrap_err()
            .message
            .contains("clients don't reach db2")
    );
}
