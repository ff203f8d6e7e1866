//! Running the real binary.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::unistd::Pid;
use serde_json::Value;

use super::limit;

/// In the environment of everything that a pair's tool starts, so that its processes are told from
/// those of others.
pub const MARK: &str = "UNDERSTUDY_TEST_PAIR";

static NEXT: AtomicU32 = AtomicU32::new(1);

/// How the tool is called.
#[derive(Debug, Clone)]
pub struct Tool {
    /// The pair's directory: configuration, and where output goes.
    pub base: PathBuf,
}

/// Cargo's build, or another one to be tested, which must have the failpoints.
fn binary() -> PathBuf {
    std::env::var_os("UNDERSTUDY_TEST_BINARY")
        .map_or_else(|| env!("CARGO_BIN_EXE_understudy").into(), PathBuf::from)
}

/// A run that has ended.
#[derive(Debug)]
pub struct Run {
    pub argv: String,
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
    pub took: Duration,
}

impl Run {
    /// The exit code; -1 when a signal ended it.
    pub fn code(&self) -> i32 {
        self.status.code().unwrap_or(-1)
    }

    /// Fails with all that was said, unless it ended so.
    #[track_caller]
    pub fn expect_code(self, code: i32) -> Self {
        assert_eq!(
            self.code(),
            code,
            "{} ended with {}\nstdout: {}\nstderr: {}",
            self.argv,
            self.status,
            self.stdout,
            self.stderr
        );
        self
    }

    #[track_caller]
    pub fn ok(self) -> Self {
        self.expect_code(0)
    }

    /// The one document on stdout.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| {
            panic!(
                "{}: no JSON document: {error}\nstdout: {}\nstderr: {}",
                self.argv, self.stdout, self.stderr
            )
        })
    }

    /// `kind` and `message` of the error document.
    #[track_caller]
    pub fn error(&self) -> (String, String) {
        let json = self.json();
        let text = |name: &str| json["error"][name].as_str().unwrap_or_default().to_owned();
        (text("kind"), text("message"))
    }
}

/// A run that goes on.
pub struct Running {
    child: Child,
    argv: String,
    /// Behind the program and the configuration.
    args: String,
    out: PathBuf,
    err: PathBuf,
    began: Instant,
}

impl Tool {
    /// Runs it to its end, with JSON asked for.
    pub fn run(&self, args: &[&str]) -> Run {
        self.spawn(args, &[]).wait()
    }

    /// As `run`, with a failpoint.
    pub fn run_at(&self, failpoint: &str, args: &[&str]) -> Run {
        self.spawn(args, &[("UNDERSTUDY_FAILPOINT", failpoint)])
            .wait()
    }

    pub fn spawn_at(&self, failpoint: &str, args: &[&str]) -> Running {
        self.spawn(args, &[("UNDERSTUDY_FAILPOINT", failpoint)])
    }

    /// As people and monitoring systems call it, from a machine without a network when `cut`.
    pub fn text(&self, args: &[&str], cut: bool) -> Run {
        let mut command = match cut {
            true => {
                let mut command = Command::new("/usr/bin/unshare");
                command.arg("--net").arg(binary());
                command
            }
            false => Command::new(binary()),
        };
        command
            .arg("--config")
            .arg(self.base.join("understudy.toml"));
        command.args(args);
        self.start(command, args, &[]).wait()
    }

    /// What it shows on a terminal so wide, without colours unless they are asked for.
    pub fn on_terminal(&self, args: &[&str], columns: u16, has_colours: bool) -> String {
        let size = nix::pty::Winsize {
            ws_row: 24,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let terminal = nix::pty::openpty(&size, None).expect("a terminal");
        let mut command = Command::new(binary());
        command
            .env(MARK, &self.base)
            .env("NO_COLOR", if has_colours { "" } else { "1" });
        command
            .arg("--config")
            .arg(self.base.join("understudy.toml"));
        command
            .args(args)
            .stdin(Stdio::null())
            .stderr(Stdio::null());
        command.stdout(Stdio::from(terminal.slave));
        let mut child = command.spawn().expect("it starts");
        // The slave's last other end, so that reading ends with the program.
        drop(command);
        let mut text = Vec::new();
        // A terminal whose program is gone answers with an error.
        drop(std::io::Read::read_to_end(
            &mut File::from(terminal.master),
            &mut text,
        ));
        child.wait().expect("it was started here");
        String::from_utf8_lossy(&text).replace("\r\n", "\n")
    }

    pub fn spawn(&self, args: &[&str], env: &[(&str, &str)]) -> Running {
        let mut command = Command::new(binary());
        command.args(["--output", "json", "--config"]);
        command.arg(self.base.join("understudy.toml")).args(args);
        self.start(command, args, env)
    }

    /// By another program, which gets its command line as arguments.
    pub fn run_under(&self, mut other: Command, args: &[&str]) -> Run {
        other.arg(binary()).args(["--output", "json", "--config"]);
        other.arg(self.base.join("understudy.toml")).args(args);
        self.start(other, args, &[]).wait()
    }

    fn start(&self, mut command: Command, args: &[&str], env: &[(&str, &str)]) -> Running {
        let number = NEXT.fetch_add(1, Ordering::SeqCst);
        let out = self.base.join(format!("out{number}"));
        let err = self.base.join(format!("err{number}"));
        let child = command
            .envs(env.iter().copied())
            .env(MARK, &self.base)
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(File::create(&out).unwrap())
            .stderr(File::create(&err).unwrap())
            .spawn()
            .unwrap();
        Running {
            child,
            argv: format!("understudy {} {env:?}", args.join(" ")),
            args: args.join(" "),
            out,
            err,
            began: Instant::now(),
        }
    }

    /// Watchdogs of this pair's tool that are alive.
    pub fn watchdogs(&self) -> Vec<u32> {
        let mark = format!("{MARK}={}", self.base.display());
        let entries = std::fs::read_dir("/proc").unwrap();
        entries
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
            .filter(|pid| {
                let read = |name: &str| std::fs::read(format!("/proc/{pid}/{name}"));
                let has = |bytes: Vec<u8>, wanted: &str| {
                    bytes
                        .split(|byte| *byte == 0)
                        .any(|part| part == wanted.as_bytes())
                };
                read("cmdline").is_ok_and(|bytes| has(bytes, "__watchdog"))
                    && read("environ").is_ok_and(|bytes| has(bytes, &mark))
            })
            .collect()
    }
}

impl Running {
    pub fn signal(&self, signal: Signal) {
        nix::sys::signal::kill(self.pid(), signal).unwrap();
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).unwrap())
    }

    /// Whether it sleeps under SIGSTOP.
    pub fn is_stopped(&self) -> bool {
        std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).is_ok_and(|stat| {
            stat.rsplit_once(") ")
                .is_some_and(|(_, rest)| rest.starts_with('T'))
        })
    }

    /// Waits until it is at a failpoint.
    #[track_caller]
    pub fn wait_at(&mut self, place: &str) {
        let told = format!("failpoint: {place}");
        super::eventually(limit(60), &told, || {
            let there = self.stderr().contains(&told);
            assert!(there || !self.has_ended(), "it ended before {place}");
            there
        });
    }

    /// What it has said up to now.
    pub fn stderr(&self) -> String {
        let bytes = std::fs::read(&self.err).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    pub fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits for its end; one that doesn't end is killed, and that is a failure. What it printed is held to
    /// docs/schema/, whether the test looks at it or not.
    #[track_caller]
    pub fn wait(mut self) -> Run {
        let until = Instant::now() + limit(150);
        let status = loop {
            match self.child.try_wait().unwrap() {
                Some(status) => break status,
                None if Instant::now() < until => sleep(Duration::from_millis(5)),
                None => {
                    let err = std::fs::read_to_string(&self.err).unwrap_or_default();
                    panic!("{} doesn't end\nstderr: {err}", self.argv);
                }
            }
        };
        super::trace(&self.argv, self.began);
        let text = |path| {
            let bytes = std::fs::read(path).unwrap_or_default();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        let stdout = text(&self.out);
        super::contract::hold(&self.args, &stdout);
        Run {
            argv: self.argv.clone(),
            status,
            stdout,
            stderr: text(&self.err),
            took: self.began.elapsed(),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            drop(self.child.kill());
            drop(self.child.wait());
        }
    }
}
