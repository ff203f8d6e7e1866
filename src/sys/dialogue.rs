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

use super::exec::{ExecError, Options, Program, end, render_argv};

/// At most this much of one answer is kept.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;
/// How long the program may take to end by itself.
const ENDING_LIMIT: Duration = Duration::from_secs(5);

/// A running program that answers questions. Dropping it ends the program.
#[derive(Debug)]
pub struct Dialogue {
    child: Child,
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
            child,
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
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    fn broken(&self, source: std::io::Error) -> ExecError {
        ExecError::Start {
            argv: self.argv.clone(),
            source,
        }
    }
}

impl Drop for Dialogue {
    fn drop(&mut self) {
        drop(self.input.take());
        let deadline = Instant::now() + Duration::from_millis(200);
        while Instant::now() < deadline {
            if let Ok(Some(_)) = self.child.try_wait() {
                return;
            }
            thread::sleep(Duration::from_millis(2));
        }
        end(&mut self.child, ENDING_LIMIT);
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
        assert_eq!(second, "\ntwo\n");
    }

    #[test]
    fn a_silent_program_is_left_at_the_limit_and_ended() {
        let cat = cat();
        let process = ProcessRef::of(cat.id()).unwrap();
        let error = cat
            .ask("one\n", "never said", Duration::from_millis(50))
            .unwrap_err();
        assert!(matches!(error, ExecError::TimedOut { .. }));
        assert!(!process.is_alive());
    }
}
