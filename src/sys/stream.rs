//! Programs whose output or input is too large to hold: read and fed piece by piece.

use std::ffi::OsString;
use std::io::{self, BufRead, Read, Write};
use std::process::{Child, ChildStdin, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread;
use std::time::Duration;

use super::exec::{self, ExecError, Options, Program, render_argv};

const PIECE_BYTES: usize = 256 * 1024;
/// Pieces that may wait for a slow reader.
const PIECES_MAX: usize = 4;
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// So much of what a program complains of is kept.
const STDERR_BYTES_MAX: u64 = 64 * 1024;

/// What ended a stream early.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    #[error(transparent)]
    Exec(#[from] ExecError),
    /// Whoever takes the pieces failed.
    #[error("{0}")]
    Sink(#[source] io::Error),
    /// `is_stopped` said so.
    #[error("stopped")]
    Stopped,
}

/// Runs a program to its end and hands what it says to `sink`, piece by piece. It has no time limit,
/// since what it has to say may be terabytes; `is_stopped` is looked at several times a second. It dies
/// with us.
pub fn read(
    program: &Program,
    args: &[OsString],
    is_stopped: &dyn Fn() -> bool,
    sink: &mut dyn FnMut(&[u8]) -> io::Result<()>,
) -> Result<(), StreamError> {
    let argv = render_argv(program.path(), args);
    let mut command = program.command(args, &Options::default());
    exec::die_with_starter(&mut command);
    let mut child = command.spawn().map_err(|source| ExecError::Start {
        argv: argv.clone(),
        source,
    })?;
    let pieces = pieces_of(child.stdout.take());
    let complaints = text_of(child.stderr.take());
    let moved = loop {
        match pieces.recv_timeout(LOOK_EVERY) {
            Ok(Ok(piece)) => {
                if let Err(error) = sink(&piece) {
                    break Err(StreamError::Sink(error));
                }
            }
            Ok(Err(error)) => break Err(StreamError::Sink(error)),
            Err(RecvTimeoutError::Disconnected) => break Ok(()),
            Err(RecvTimeoutError::Timeout) => {}
        }
        if is_stopped() {
            break Err(StreamError::Stopped);
        }
    };
    if let Err(error) = moved {
        exec::end(&mut child, Duration::ZERO);
        return Err(error);
    }
    finish(&mut child, argv, &complaints)?;
    Ok(())
}

/// A program that is fed piece by piece.
pub struct Eater {
    child: Child,
    stdin: Option<ChildStdin>,
    /// Hands on what it says.
    listener: Option<thread::JoinHandle<()>>,
    complaints: Receiver<String>,
    argv: String,
}

impl Eater {
    /// What it says is of no interest.
    pub fn start(program: &Program, args: &[OsString]) -> Result<Self, ExecError> {
        Self::start_with(program, args, Stdio::null())
    }

    /// Each line that it says goes to `hear`, on a thread of its own.
    pub fn start_heard(
        program: &Program,
        args: &[OsString],
        mut hear: impl FnMut(&str) + Send + 'static,
    ) -> Result<Self, ExecError> {
        let mut eater = Self::start_with(program, args, Stdio::piped())?;
        if let Some(stdout) = eater.child.stdout.take() {
            eater.listener = Some(thread::spawn(move || {
                let lines = io::BufReader::new(stdout).split(b'\n');
                for line in lines.map_while(Result::ok) {
                    hear(&String::from_utf8_lossy(&line));
                }
            }));
        }
        Ok(eater)
    }

    fn start_with(program: &Program, args: &[OsString], stdout: Stdio) -> Result<Self, ExecError> {
        let argv = render_argv(program.path(), args);
        let mut command = program.command(args, &Options::default());
        command.stdin(Stdio::piped()).stdout(stdout);
        let mut child = command.spawn().map_err(|source| ExecError::Start {
            argv: argv.clone(),
            source,
        })?;
        Ok(Self {
            listener: None,
            stdin: child.stdin.take(),
            complaints: text_of(child.stderr.take()),
            child,
            argv,
        })
    }

    /// BrokenPipe when it has ended; `finish` then tells why.
    pub fn feed(&mut self, piece: &[u8]) -> io::Result<()> {
        match &mut self.stdin {
            Some(stdin) => stdin.write_all(piece),
            None => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    /// Whether it has ended by itself; `finish` then tells why.
    pub fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// Tells it that this was all, and waits until it is done with it and all that it said was heard.
    pub fn finish(mut self) -> Result<(), ExecError> {
        drop(self.stdin.take());
        let argv = std::mem::take(&mut self.argv);
        let finished = finish(&mut self.child, argv, &self.complaints);
        if let Some(listener) = self.listener.take() {
            drop(listener.join());
        }
        finished
    }
}

impl Drop for Eater {
    fn drop(&mut self) {
        if !matches!(self.child.try_wait(), Ok(Some(_))) {
            exec::end(&mut self.child, Duration::ZERO);
        }
    }
}

pub(super) fn finish(
    child: &mut Child,
    argv: String,
    complaints: &Receiver<String>,
) -> Result<(), ExecError> {
    let status = child.wait().map_err(|source| ExecError::Start {
        argv: argv.clone(),
        source,
    })?;
    if status.success() {
        return Ok(());
    }
    Err(ExecError::Failed {
        argv,
        status,
        stdout: String::new(),
        stderr: complaints
            .recv_timeout(Duration::from_secs(1))
            .unwrap_or_default(),
    })
}

fn pieces_of<R: Read + Send + 'static>(stream: Option<R>) -> Receiver<io::Result<Vec<u8>>> {
    let (sender, receiver) = sync_channel(PIECES_MAX);
    thread::spawn(move || {
        let Some(mut stream) = stream else { return };
        loop {
            let mut piece = vec![0; PIECE_BYTES];
            match stream.read(&mut piece) {
                Ok(0) => return,
                Ok(length) => {
                    piece.truncate(length);
                    if sender.send(Ok(piece)).is_err() {
                        return;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    drop(sender.send(Err(error)));
                    return;
                }
            }
        }
    });
    receiver
}

pub(super) fn text_of<R: Read + Send + 'static>(stream: Option<R>) -> Receiver<String> {
    let (sender, receiver) = sync_channel(1);
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut stream) = stream {
            drop(
                stream
                    .by_ref()
                    .take(STDERR_BYTES_MAX)
                    .read_to_end(&mut bytes),
            );
            drop(io::copy(&mut stream, &mut io::sink()));
        }
        drop(sender.send(String::from_utf8_lossy(&bytes).into_owned()));
    });
    receiver
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(name: &str) -> Program {
        Program::find(name).unwrap()
    }

    #[test]
    fn all_of_a_long_output_arrives() {
        let mut bytes = 0;
        let args = ["-c".into(), "3000000".into(), "/dev/zero".into()];
        read(&program("head"), &args, &|| false, &mut |piece| {
            bytes += piece.len();
            Ok(())
        })
        .unwrap();
        assert_eq!(bytes, 3_000_000);
    }

    #[test]
    fn a_failure_says_what_the_program_said() {
        let error = read(&program("ls"), &["/nowhere".into()], &|| false, &mut |_| {
            Ok(())
        });
        assert!(error.unwrap_err().to_string().contains("No such file"));
        let error = read(&program("sleep"), &["60".into()], &|| true, &mut |_| Ok(()));
        assert!(matches!(error, Err(StreamError::Stopped)));
    }

    #[test]
    fn an_eater_is_heard_to_its_end() {
        let (sender, receiver) = std::sync::mpsc::channel();
        let hear = move |line: &str| drop(sender.send(line.to_owned()));
        let mut eater = Eater::start_heard(&program("cat"), &["-u".into()], hear).unwrap();
        eater.feed(b"one\n").unwrap();
        assert_eq!(
            receiver.recv_timeout(Duration::from_secs(20)).unwrap(),
            "one"
        );
        assert!(!eater.has_ended());
        eater.feed(b"two\nthree").unwrap();
        eater.finish().unwrap();
        assert_eq!(receiver.iter().collect::<Vec<_>>(), ["two", "three"]);
    }

    #[test]
    fn an_eater_that_fails_tells_why_at_the_end() {
        let mut eater = Eater::start(&program("grep"), &["-q".into(), "x".into()]).unwrap();
        eater.feed(b"a\nx\n").unwrap();
        eater.finish().unwrap();
        let eater = Eater::start(&program("ls"), &["/nowhere".into()]).unwrap();
        assert!(
            eater
                .finish()
                .unwrap_err()
                .to_string()
                .contains("No such file")
        );
    }
}
