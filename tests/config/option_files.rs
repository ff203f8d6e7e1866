//! Our reading of option files against the real program's.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests are tests; clippy.toml reaches only #[test]"
)]

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use understudy::config::option_file::parse_options;

const GROUPS: [&str; 2] = ["client", "understudy"];

/// Name, content; `DIR` stands for the scratch directory.
const FILES: &[(&str, &str)] = &[
    ("empty", ""),
    ("plain", "[client]\nuser=x\npassword = y\n"),
    ("no newline at the end", "[client]\nuser=x"),
    (
        "carriage returns",
        "[client]\r\nuser = x \r\npassword=\"a b \"\r\n",
    ),
    ("old line ends are none", "[client]\ruser=x\r"),
    (
        "tabs and other white space",
        "[client]\n\tuser\t=\t\"x y\"\t\n\x0b\x0cb\x0b=\x0b\x0cx\x0b\x0c\n",
    ),
    ("no group", "user=x\n[client]\npassword=y\n"),
    ("open group", "[client\nuser=x\n"),
    ("open group later", "[client]\nuser=x\n[foo\nuser=y\n"),
    (
        "spellings of groups",
        "[CLIENT]\nUser=x\n[ client ]\na=1\n[client ]\nb=1\n[client] # hi\nc=1\n[client]junk\nd=1\n\
         [clientx]\ne=1\n[clien]\nf=1\n[]\ng=1\n  [understudy]\nh=1\n",
    ),
    (
        "later groups",
        "[understudy]\nuser=a\n[mysqld]\nuser=b\n[client]\nuser=c\n[understudy]\nuser=d\n",
    ),
    (
        "escapes",
        "[client]\npassword=a\\bb\\tc\\re\\\\f\\sg\\qh\\\"i\\'j\\\nuser=\\\na=\\\\\nb=\\s\nc=\"\\s\" #\n\
         d=\"a\\\"\ne='\\'\nf=\\\\\\\ng=a\\nb\n",
    ),
    (
        "quotes",
        "[client]\na=\"x\nb=x\"\nc=\"x\"y\"\nd='\"'x\"\ne=\"\"\nf=\"\ng=\"a\\\"\"\nh='a b'\ni='\ns=' '\n\
         t= ' x ' \n",
    ),
    (
        "comments",
        "#a\n;b\n[client]\n#x=1\n ;y=2\na=1;b\nb = 2 # c\nc#d=3\nd = \"x\" # tail\ne=\"x\" y # \"z\"\n\
         f=it's # c\ng=it's' # c\nh='a#b'\ni=a#b\nj=a\\#b\nk=\"a#b\nl=a\"b#c\"d\nm=\"a\\\"#b\"\n\
         n='a\\'#b'\no=\"a\\\\\"#b\"\np=\\\"#\"\n",
    ),
    (
        "no values",
        "[client]\nfoo\n bar  \nbaz #c\nq=\nr =   \nfoo bar = baz = qux\n--dash=1\nloose-ssl_ca=/x\n\
         skip_password\n   \n\n\nlast",
    ),
    (
        "letters beyond ASCII",
        "[client]\npassword=pässwörd\nuser=\"à\"\nx='voilà'\n€=1\n",
    ),
    (
        "unknown directives",
        "[client]\nuser=a\n!foo bar\n!includes x\npassword=z\n",
    ),
    (
        "include",
        "[client]\nuser=a\n!include DIR/inner.txt\npassword=z\n",
    ),
    (
        "include with white space",
        "[client]\nuser=a\n ! include \t DIR/inner.txt \t \npassword=z\n",
    ),
    (
        "include what isn't there",
        "[client]\nuser=a\n!include DIR/missing\npassword=z\n",
    ),
    (
        "include nothing",
        "[client]\nuser=a\n!include\npassword=z\n",
    ),
    (
        "include white space",
        "[client]\nuser=a\n!include  \npassword=z\n",
    ),
    (
        "includedir nothing",
        "[client]\nuser=a\n!includedir\npassword=z\n",
    ),
    (
        "include has no comments",
        "[client]\nuser=a\n!include DIR/inner.txt # c\npassword=z\n",
    ),
    (
        "include has no quotes",
        "[client]\nuser=a\n!include \"DIR/inner.txt\"\npassword=z\n",
    ),
    (
        "include in another group",
        "[other]\nq=1\n!include DIR/inner.txt\nafter=1\n[client]\n!include DIR/inner.txt\nafter=2\n",
    ),
    (
        "include before any group",
        "!include DIR/inner.txt\n[client]\nafter=1\n",
    ),
    (
        "option after an include only",
        "!include DIR/inner.txt\nafter=1\n",
    ),
    (
        "includedir",
        "[client]\nuser=a\n!includedir DIR/conf.d\npassword=z\n",
    ),
    (
        "includedir with a slash",
        "[client]\nuser=a\n!includedir DIR/conf.d/\npassword=z\n",
    ),
    (
        "includedir that isn't there",
        "[client]\nuser=a\n!includedir DIR/no.d\npassword=z\n",
    ),
    (
        "cycle",
        "[client]\nuser=a\n!include DIR/file.cnf\npassword=z\n",
    ),
    (
        "longer cycle",
        "[client]\nuser=a\n!include DIR/back.txt\npassword=z\n",
    ),
];

fn write(path: &Path, content: &[u8]) {
    std::fs::write(path, content).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

/// A directory with everything that the files include.
fn scratch() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().to_owned();
    write(
        &root.join("inner.txt"),
        b"[understudy]\nuser=b\n[foo]\nc=1\n",
    );
    let back = format!("!include {}/file.cnf\n", root.display());
    write(&root.join("back.txt"), back.as_bytes());
    let conf_d = root.join("conf.d");
    std::fs::create_dir_all(conf_d.join("directory.cnf")).unwrap();
    for name in [
        "b.cnf",
        "a.cnf",
        "B.cnf",
        ".h.cnf",
        "c.ini",
        "d.cnf.bak",
        "10.cnf",
        "9.cnf",
        "ä.cnf",
        "x.y.cnf",
        "cnf",
        "e.CNF",
    ] {
        write(
            &conf_d.join(name),
            format!("[client]\nfrom={name}\n").as_bytes(),
        );
    }
    (dir, root)
}

/// What the real program says; `None` when it gives up.
fn real(path: &Path) -> Option<String> {
    let output = Command::new("my_print_defaults")
        .arg(format!("--defaults-file={}", path.display()))
        .args(GROUPS)
        .output()
        .unwrap();
    let text = || String::from_utf8_lossy(&output.stdout).into_owned();
    output.status.success().then(text)
}

/// What we say, in the real program's words.
fn ours(path: &Path) -> Option<String> {
    let options = parse_options(path, &GROUPS).ok()?;
    let lines = options.into_iter().map(|(name, value)| match value {
        Some(value) => format!("--{name}={value}\n"),
        None => format!("--{name}\n"),
    });
    Some(lines.collect())
}

/// Whether the program is there; in CI it must be.
fn have_the_real_program() -> bool {
    let found = Command::new("my_print_defaults").arg("--version").output();
    let there = found.is_ok_and(|output| output.status.success());
    if !there {
        assert!(
            std::env::var_os("CI").is_none(),
            "my_print_defaults is missing: apt-get install mariadb-client-core"
        );
        eprintln!("SKIPPED: my_print_defaults is missing, nothing was compared");
    }
    there
}

#[test]
fn reads_option_files_as_the_real_program_does() {
    if !have_the_real_program() {
        return;
    }
    for (name, content) in FILES {
        let (_dir, root) = scratch();
        let path = root.join("file.cnf");
        let content = content.replace("DIR", root.to_str().unwrap());
        write(&path, content.as_bytes());
        assert_eq!(ours(&path), real(&path), "{name}");
    }
}

mod generated {
    use proptest::prelude::*;

    use super::*;

    /// Lines of the characters that matter; a name never begins with `=` or `#` (there the real
    /// program reads before its buffer).
    fn line() -> impl Strategy<Value = String> {
        prop_oneof![
            "[a-c]{1,3}[ \t]{0,2}(=[ \t]{0,2}[ab#;'\"\\\\nst=\\[\\]! \t]{0,12})?",
            "[ \t]{0,2}\\[(client|other|understudy|Client )\\][ #a]{0,2}",
            "[ \t]{0,2}[#;][ab'\"]{0,4}",
            Just(String::new()),
        ]
    }

    fn config() -> ProptestConfig {
        ProptestConfig {
            cases: 300,
            failure_persistence: None,
            ..ProptestConfig::default()
        }
    }

    proptest! {
        #![proptest_config(config())]
        #[test]
        fn reads_any_lines_as_the_real_program_does(
            lines in prop::collection::vec(line(), 0..12),
        ) {
            if have_the_real_program() {
                let dir = tempfile::tempdir().unwrap();
                let path = dir.path().join("file.cnf");
                write(&path, format!("[client]\n{}\n", lines.join("\n")).as_bytes());
                prop_assert_eq!(ours(&path), real(&path));
            }
        }
    }
}

#[test]
fn a_byte_order_mark_is_skipped() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file.cnf");
    write(&path, b"\xef\xbb\xbf[client]\nuser=x\n");
    assert_eq!(ours(&path).as_deref(), Some("--user=x\n"));
}

#[test]
fn a_cycle_that_multiplies_is_cut_short() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file.cnf");
    let include = format!("!include {}\n", path.display());
    write(&path, include.repeat(8).as_bytes());
    let error = parse_options(&path, &GROUPS).unwrap_err().to_string();
    assert!(error.contains("more than 256 included files"), "{error}");
}

#[test]
fn what_the_real_program_would_guess_at_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file.cnf");
    let long = format!("[client]\npassword={}\n", "x".repeat(5000));
    let files: [&[u8]; 5] = [
        long.as_bytes(),
        b"[client]\nuser=a\0b\n",
        b"[client]\n=x\n",
        b"[client]\nuser=\xe9\n",
        b"[client]\n!include ~/x.cnf\n",
    ];
    for content in files {
        write(&path, content);
        assert!(ours(&path).is_none(), "{content:?}");
    }
}
