//! Programs: found in fixed places, never by PATH, never through a shell, always with an end.
//!
//! Captured output is bounded; the child gets an empty environment but for LC_ALL=C and PATH.

use std::ffi::{OsStr, OsString};
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::prctl::{set_no_new_privs, set_pdeathsig};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::{Pid, getpid, getppid};

use super::cancel::Cancel;

/// Where programs may live. A user's PATH must not decide what root runs.
const PLACES: [&str; 6] = [
    "/usr/sbin",
    "/sbin",
    "/usr/bin",
    "/bin",
    "/usr/local/sbin",
    "/usr/local/bin",
];

/// At most this much of each stream is kept.
const OUTPUT_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Whether it is time to end a program.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// How long the pipes of a program that has ended are waited for.
const AFTER_END: Duration = Duration::from_secs(1);

#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    #[error("program {name} is in none of {}", PLACES.join(", "))]
    NotFound { name: String },
    #[error("start {argv}: {source}")]
    Start {
        argv: String,
        #[source]
        source: std::io::Error,
    },
    #[error("{argv} didn't end within {limit:?} and was killed")]
    TimedOut { argv: String, limit: Duration },
    #[error("{argv} was ended: interrupted")]
    Interrupted { argv: String },
    #[error("{argv} ended with {status}: {}", stderr.trim())]
    Failed {
        argv: String,
        status: ExitStatus,
        stdout: String,
        stderr: String,
    },
}

/// A program by its fixed path.
#[derive(Debug, Clone)]
pub struct Program {
    path: PathBuf,
    /// What runs it, and that one's arguments before the program's own: a dynamic loader.
    loader: Option<(PathBuf, Vec<OsString>)>,
    /// User and group, if not ours.
    account: Option<(u32, u32)>,
    /// How long it may take to end by itself (SIGTERM) once its time is up, before SIGKILL.
    grace: Duration,
}

impl Program {
    /// Looks for `name` in the fixed places.
    pub fn find(name: &str) -> Result<Self, ExecError> {
        PLACES
            .iter()
            .map(|place| Path::new(place).join(name))
            .find(|path| path.is_file())
            .map(Self::at)
            .ok_or_else(|| ExecError::NotFound {
                name: name.to_owned(),
            })
    }

    /// A program that configuration named by its absolute path.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            loader: None,
            account: None,
            grace: Duration::ZERO,
        }
    }

    /// The program at `path`, run by `loader` with arguments that end in it.
    pub(super) fn loaded(path: PathBuf, loader: (PathBuf, Vec<OsString>)) -> Self {
        Self {
            loader: Some(loader),
            ..Self::at(path)
        }
    }

    /// The same program, run as that user and group, without a way to more rights.
    pub fn as_account(self, (user, group): (u32, u32)) -> Self {
        Self {
            account: Some((user, group)),
            ..self
        }
    }

    /// The same program, but asked to end before it is killed: for what must not be killed in the
    /// middle, such as LVM between suspending a device and resuming it (it blocks SIGTERM there).
    pub fn with_grace(self, grace: Duration) -> Self {
        Self { grace, ..self }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn grace(&self) -> Duration {
        self.grace
    }

    /// Runs it to its end; an exit status other than 0 is `Failed`.
    pub fn run<I, S>(&self, args: I, limit: Duration) -> Result<Output, ExecError>
    where
        I: IntoIterator<Item = S>,
        S: Into<OsString>,
    {
        self.run_with(args, limit, Options::default())
    }

    /// As `run`, with input or more environment.
    pub fn run_with<I, S>(
        &self,
        args: I,
        limit: Duration,
        options: Options,
    ) -> Result<Output, ExecError>
    where
        I: IntoIterator<Item = S>,
        S: Into<OsString>,
    {
        let args: Vec<OsString> = args.into_iter().map(Into::into).collect();
        let argv = render_argv(&self.path, &args);
        let mut command = self.command(&args, &options);
        let started = Instant::now();
        let mut child = command.spawn().map_err(|source| ExecError::Start {
            argv: argv.clone(),
            source,
        })?;
        let input = options.input.clone();
        let stdin = child.stdin.take();
        let feeder = thread::spawn(move || {
            if let (Some(mut pipe), Some(bytes)) = (stdin, input) {
                drop(pipe.write_all(&bytes));
            }
        });
        let stdout = drain(child.stdout.take());
        let stderr = drain(child.stderr.take());
        let status = wait(&mut child, &argv, limit, (self.grace, &options.cancel))?;
        // A grandchild (a server that was just started) may keep the pipes open: don't wait for it.
        let stdout = stdout.recv_timeout(AFTER_END).unwrap_or_default();
        let stderr = stderr.recv_timeout(AFTER_END).unwrap_or_default();
        drop(feeder);
        let output = Output {
            stdout: String::from_utf8_lossy(&stdout).into_owned(),
            stderr: String::from_utf8_lossy(&stderr).into_owned(),
            elapsed: started.elapsed(),
        };
        if status.success() {
            Ok(output)
        } else {
            Err(ExecError::Failed {
                argv,
                status,
                stdout: output.stdout,
                stderr: output.stderr,
            })
        }
    }

    pub(super) fn command(&self, args: &[OsString], options: &Options) -> Command {
        let mut command = match &self.loader {
            None => Command::new(&self.path),
            Some((loader, arguments)) => {
                let mut command = Command::new(loader);
                command.args(arguments);
                command
            }
        };
        if let Some((user, group)) = self.account {
            command.gid(group).uid(user).current_dir("/");
            gain_nothing(&mut command);
        }
        command
            .args(args)
            .env_clear()
            .env("LC_ALL", "C")
            .env("PATH", PLACES.join(":"))
            .envs(options.env.iter().cloned())
            .stdin(if options.input.is_some() {
                Stdio::piped()
            } else {
                Stdio::null()
            })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        command
    }
}

/// Starts this very binary with one argument, its input and output piped to us; the child outlives
/// us if it wants to.
pub fn spawn_self(argument: &str) -> Result<Child, ExecError> {
    let path = Path::new("/proc/self/exe");
    Command::new(path)
        .arg(argument)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|source| ExecError::Start {
            argv: format!("{} {argument}", path.display()),
            source,
        })
}

/// What a run may be given beyond its arguments.
#[derive(Debug, Clone, Default)]
pub struct Options {
    pub input: Option<Vec<u8>>,
    pub env: Vec<(OsString, OsString)>,
    /// Ends it when it is set.
    pub cancel: Cancel,
}

/// What a program that succeeded said.
#[derive(Debug, Clone)]
pub struct Output {
    pub stdout: String,
    pub stderr: String,
    pub elapsed: Duration,
}

pub(super) fn render_argv(path: &Path, args: &[OsString]) -> String {
    std::iter::once(path.as_os_str())
        .chain(args.iter().map(OsString::as_os_str))
        .map(OsStr::to_string_lossy)
        .collect::<Vec<_>>()
        .join(" ")
}

fn drain<R: Read + Send + 'static>(stream: Option<R>) -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut stream) = stream {
            drop(
                stream
                    .by_ref()
                    .take(OUTPUT_BYTES_MAX as u64)
                    .read_to_end(&mut bytes),
            );
            drop(std::io::copy(&mut stream, &mut std::io::sink()));
        }
        drop(sender.send(bytes));
    });
    receiver
}

/// Waits with an end; past it, or interrupted, the child's whole process group is ended and reaped.
fn wait(
    child: &mut Child,
    argv: &str,
    limit: Duration,
    (grace, cancel): (Duration, &Cancel),
) -> Result<ExitStatus, ExecError> {
    let argv = || argv.to_owned();
    let until = Instant::now() + limit;
    loop {
        let look = until.min(Instant::now() + LOOK_EVERY);
        let ended = wait_until(child, look).map_err(|source| ExecError::Start {
            argv: argv(),
            source,
        })?;
        if let Some(status) = ended {
            return Ok(status);
        }
        let is_late = Instant::now() >= until;
        if is_late || cancel.is_set() {
            end(child, grace);
            return Err(match is_late {
                true => ExecError::TimedOut {
                    argv: argv(),
                    limit,
                },
                false => ExecError::Interrupted { argv: argv() },
            });
        }
    }
}

/// `Ok(None)` when it still ran at the deadline.
pub(super) fn wait_until(
    child: &mut Child,
    deadline: Instant,
) -> std::io::Result<Option<ExitStatus>> {
    let mut nap = Duration::from_micros(500);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= deadline {
            return Ok(None);
        }
        thread::sleep(nap);
        nap = (nap * 2).min(Duration::from_millis(4));
    }
}

/// Ends a child and its process group, by SIGTERM if there is grace, then by SIGKILL; reaps it.
pub(super) fn end(child: &mut Child, grace: Duration) {
    let group = Pid::from_raw(child.id() as i32);
    if !grace.is_zero() {
        let _ = killpg(group, Signal::SIGTERM);
        if let Ok(Some(_)) = wait_until(child, Instant::now() + grace) {
            return;
        }
    }
    let _ = killpg(group, Signal::SIGKILL);
    drop(child.wait());
}

/// What is started by it can't gain rights, as from a set-user-id program.
pub(super) fn gain_nothing(command: &mut Command) {
    // SAFETY: between fork and exec only a system call is made.
    unsafe {
        command.pre_exec(|| Ok(set_no_new_privs()?));
    }
}

/// What is started by it dies with the thread that starts it, however that ends.
pub(super) fn die_with_starter(command: &mut Command) {
    let starter = getpid();
    // SAFETY: between fork and exec only system calls are made.
    unsafe {
        command.pre_exec(move || {
            set_pdeathsig(Signal::SIGKILL)?;
            // The starter may have gone before the signal was asked for.
            if getppid() == starter {
                Ok(())
            } else {
                Err(std::io::ErrorKind::BrokenPipe.into())
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failure_carries_argv_and_stderr() {
        let error = Program::find("ls")
            .unwrap()
            .run(["/nowhere-at-all"], Duration::from_secs(5))
            .unwrap_err();
        let text = error.to_string();
        assert!(text.contains("/nowhere-at-all"), "{text}");
        assert!(text.contains("No such file"), "{text}");
    }

    #[test]
    fn hanging_program_is_killed_at_the_limit() {
        let started = Instant::now();
        let error = Program::find("sleep")
            .unwrap()
            .run(["60"], Duration::from_millis(100))
            .unwrap_err();
        assert!(matches!(error, ExecError::TimedOut { .. }));
        assert!(started.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn with_grace_it_ends_by_itself_first() {
        let error = Program::find("bash")
            .unwrap()
            .with_grace(Duration::from_secs(5))
            .run(
                [
                    "-c",
                    "trap 'exit 7' TERM; while :; do read -rt 0.05 <> <(:); done",
                ],
                Duration::from_millis(300),
            )
            .unwrap_err();
        assert!(matches!(error, ExecError::TimedOut { .. }));
    }

    #[test]
    fn input_reaches_the_program() {
        let options = Options {
            input: Some(b"hello".to_vec()),
            ..Options::default()
        };
        let output = Program::find("cat")
            .unwrap()
            .run_with(Vec::<OsString>::new(), Duration::from_secs(5), options)
            .unwrap();
        assert_eq!(output.stdout, "hello");
    }

    #[test]
    fn an_interruption_ends_it_at_once() {
        let cancel = Cancel::default();
        cancel.set();
        let options = Options {
            cancel,
            ..Options::default()
        };
        let since = Instant::now();
        let limit = Duration::from_secs(60);
        let ended = Program::at("/bin/sleep").run_with(["60"], limit, options);
        assert!(matches!(ended, Err(ExecError::Interrupted { .. })));
        assert!(since.elapsed() < Duration::from_secs(5));
    }
}
