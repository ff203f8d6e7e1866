//! A program that is started early and asked later, so that asking costs no process start.
//!
//! It reads commands from its standard input; each question is followed by a marker, and the
//! program's complaint about the marker ends the answer. It can't outlive us: our end of its input
//! is closed when we die, whatever of, and it ends at end-of-file. (A parent-death signal would be
//! weaker: the kernel sends it when the *thread* that started the program ends.)

use std::ffi::OsString;
use std::io::{PipeReader, Read, Write, pipe};
use std::process::{Child, ChildStdin, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use super::exec::{ExecError, Options, Program, end, render_argv, wait_until};

/// At most this much of one answer is kept.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;
/// How long whoever drops a dialogue waits for the program's end.
const PARTING: Duration = Duration::from_millis(200);

/// A running program that answers questions. Dropping it ends the program.
#[derive(Debug)]
pub struct Dialogue {
    /// `None` only while it is dropped.
    child: Option<Child>,
    grace: Duration,
    /// `None` once closed.
    input: Option<ChildStdin>,
    output: Receiver<Vec<u8>>,
    argv: String,
}

impl Dialogue {
    /// Starts the program; both its output streams are read as one.
    pub fn start(
        program: &Program,
        args: &[OsString],
        options: &Options,
    ) -> Result<Self, ExecError> {
        let argv = render_argv(program.path(), args);
        let failed = |source| ExecError::Start {
            argv: argv.clone(),
            source,
        };
        let (reader, writer) = pipe().map_err(failed)?;
        let mut command = program.command(args, options);
        command
            .stdin(Stdio::piped())
            .stdout(writer.try_clone().map_err(failed)?)
            .stderr(writer);
        let mut child = command.spawn().map_err(failed)?;
        Ok(Self {
            input: child.stdin.take(),
            output: read_in_background(reader),
            child: Some(child),
            grace: program.grace(),
            argv,
        })
    }

    /// Writes `question`, and returns everything that is said until `answer_end` is said.
    /// After an error the program is in an unknown state: the dialogue is consumed by it.
    pub fn ask(
        mut self,
        question: &str,
        answer_end: &str,
        limit: Duration,
    ) -> Result<(Self, String), ExecError> {
        let deadline = Instant::now() + limit;
        let mut answer = Vec::new();
        let written = match self.input.as_mut() {
            Some(input) => input.write_all(question.as_bytes()),
            None => Err(std::io::ErrorKind::BrokenPipe.into()),
        };
        written.map_err(|source| self.broken(source))?;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.output.recv_timeout(left) {
                Ok(bytes) if answer.len() + bytes.len() <= ANSWER_BYTES_MAX => answer.extend(bytes),
                Ok(_) => return Err(self.broken(std::io::ErrorKind::FileTooLarge.into())),
                Err(RecvTimeoutError::Timeout) => {
                    return Err(ExecError::TimedOut {
                        argv: format!("{} ({})", self.argv, question.trim_end()),
                        limit,
                    });
                }
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(self.broken(std::io::ErrorKind::UnexpectedEof.into()));
                }
            }
            let said = String::from_utf8_lossy(&answer);
            if let Some(at) = said.find(answer_end) {
                let said = said[..at].to_owned();
                return Ok((self, said));
            }
        }
    }

    /// The process id, to be seen in tests and logs.
    pub fn id(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    fn broken(&self, source: std::io::Error) -> ExecError {
        ExecError::Start {
            argv: self.argv.clone(),
            source,
        }
    }
}

impl Drop for Dialogue {
    /// Closes its input and gives it a moment; one that is in the middle of something is asked to
    /// end, and waited for elsewhere, so that whoever drops it in a pause isn't held up.
    fn drop(&mut self) {
        drop(self.input.take());
        let Some(mut child) = self.child.take() else {
            return;
        };
        if let Ok(Some(_)) = wait_until(&mut child, Instant::now() + PARTING) {
            return;
        }
        let grace = self.grace;
        thread::spawn(move || end(&mut child, grace));
    }
}

fn read_in_background(mut reader: PipeReader) -> Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        loop {
            match reader.read(&mut buffer) {
                Ok(0) | Err(_) => return,
                Ok(count) if sender.send(buffer[..count].to_vec()).is_err() => return,
                Ok(_) => {}
            }
        }
    });
    receiver
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::process::ProcessRef;

    fn cat() -> Dialogue {
        let program = Program::find("cat").unwrap();
        Dialogue::start(&program, &[], &Options::default()).unwrap()
    }

    #[test]
    fn answers_end_at_the_marker() {
        let (cat, first) = cat()
            .ask("one\ndone-1\n", "done-1", Duration::from_secs(5))
            .unwrap();
        assert_eq!(first, "one\n");
        let (_, second) = cat
            .ask("two\ndone-2\n", "done-2", Duration::from_secs(5))
            .unwrap();
        assert_eq!(second.trim(), "two");
    }

    #[test]
    fn a_silent_program_is_left_at_the_limit_and_ended() {
        let cat = cat();
        let process = ProcessRef::of(cat.id().unwrap()).unwrap();
        let error = cat
            .ask("one\n", "never said", Duration::from_millis(50))
            .unwrap_err();
        assert!(matches!(error, ExecError::TimedOut { .. }));
        assert!(!process.is_alive());
    }

    #[test]
    fn the_program_ends_when_its_parent_is_gone() {
        let output = Program::at(std::env::current_exe().unwrap())
            .run(
                [
                    "--exact",
                    "sys::dialogue::tests::parent_that_dies",
                    "--ignored",
                    "--nocapture",
                ],
                Duration::from_secs(20),
            )
            .unwrap_err();
        let ExecError::Failed { stdout, .. } = output else {
            panic!("{output}");
        };
        let pid = stdout
            .lines()
            .find_map(|line| line.strip_prefix("pid "))
            .unwrap();
        let deadline = Instant::now() + Duration::from_secs(5);
        while let Some(process) = ProcessRef::of(pid.parse().unwrap()) {
            assert!(Instant::now() < deadline, "{process:?} outlived its parent");
            thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    #[ignore = "run by the test above, in a process of its own"]
    fn parent_that_dies() {
        let cat = cat();
        println!("\npid {}", cat.id().unwrap());
        std::process::abort();
    }
}
