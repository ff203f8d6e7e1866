//! One program's output straight into another's input: what goes between them passes through the
//! kernel, not through us, but for its beginning.
//!
//! Both programs die with us.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::Receiver;
use std::thread;
use std::time::Duration;

use nix::fcntl::{FcntlArg, SpliceFFlags, fcntl, splice};

use super::edit::{Edit, Editor};
use super::exec::{self, ExecError, Options, Program, render_argv};
use super::stream::text_of;

/// As large as an ordinary user may make a pipe.
const PIPE_BYTES: i32 = 1 << 20;

/// So much of the beginning is read by us on its way.
pub const HEAD_BYTES: usize = 256 * 1024;

const LOOK_EVERY: Duration = Duration::from_millis(100);

/// A program with its arguments.
pub struct End<'a> {
    pub program: &'a Program,
    pub args: &'a [OsString],
}

/// Why it didn't end well.
#[derive(Debug, thiserror::Error)]
pub enum FlowError {
    /// The first program; the second one may have taken all that came.
    #[error(transparent)]
    From(ExecError),
    #[error(transparent)]
    Into(ExecError),
    #[error("move the data: {0}")]
    Between(#[source] io::Error),
    #[error("stopped")]
    Stopped,
}

/// What is told while it goes on.
pub enum Told<'a> {
    /// The beginning, once, as soon as it is whole or the end has come.
    Head(&'a [u8]),
    /// Bytes that have passed.
    Moved(u64),
}

/// Runs both to their ends. `tell` may end it by returning false. The bytes that passed.
pub fn flow(
    from: &End<'_>,
    into: &End<'_>,
    tell: &mut dyn FnMut(Told<'_>) -> bool,
) -> Result<u64, FlowError> {
    flow_edited(from, into, None, tell)
}

/// As [`flow`], with something changed on the way.
pub fn flow_edited(
    from: &End<'_>,
    into: &End<'_>,
    edit: Option<Edit>,
    tell: &mut dyn FnMut(Told<'_>) -> bool,
) -> Result<u64, FlowError> {
    let mut eater = spawn(into, Stdio::piped(), Stdio::null()).map_err(FlowError::Into)?;
    let mut feeder = match spawn(from, Stdio::null(), Stdio::piped()) {
        Ok(child) => child,
        Err(error) => {
            exec::end(&mut eater, Duration::ZERO);
            return Err(FlowError::From(error));
        }
    };
    let feeder_says = text_of(feeder.stderr.take());
    let eater_says = text_of(eater.stderr.take());
    let output = feeder.stdout.take().expect("it was piped");
    let input = eater.stdin.take().expect("it was piped");
    let moved = AtomicU64::new(0);
    let head_is_whole = AtomicBool::new(false);
    let head = std::sync::Mutex::new(Vec::new());
    let mut head_was_told = false;
    let between = thread::scope(|scope| {
        let mover = scope.spawn(|| carry(output, input, edit, &moved, (&head, &head_is_whole)));
        loop {
            let is_over = mover.is_finished();
            let mut go_on = true;
            if !head_was_told && head_is_whole.load(Ordering::SeqCst) {
                head_was_told = true;
                let head = head.lock().map(|head| head.clone()).unwrap_or_default();
                go_on = tell(Told::Head(&head));
            }
            go_on &= tell(Told::Moved(moved.load(Ordering::Relaxed)));
            if !go_on {
                exec::end(&mut feeder, Duration::ZERO);
                exec::end(&mut eater, Duration::ZERO);
                drop(mover.join());
                return Err(FlowError::Stopped);
            }
            if is_over {
                return mover
                    .join()
                    .unwrap_or_else(|_| Err(io::Error::other("the mover panicked")))
                    .map_err(FlowError::Between);
            }
            thread::sleep(LOOK_EVERY);
        }
    });
    if matches!(between, Err(FlowError::Stopped)) {
        return Err(FlowError::Stopped);
    }
    if between.is_err() {
        // The eater went away, or will not get the rest.
        exec::end(&mut feeder, Duration::ZERO);
    }
    let fed = ended(&mut feeder, from, &feeder_says);
    let eaten = wait_for(&mut eater, into, &eater_says, tell);
    match (between, fed, eaten) {
        // The eater's own words are the cause; that the feeder couldn't go on only followed.
        (_, _, Err(error)) => Err(error),
        (Err(error), _, Ok(())) => Err(error),
        (Ok(()), Err(error), Ok(())) => Err(FlowError::From(error)),
        (Ok(()), Ok(()), Ok(())) => Ok(moved.into_inner()),
    }
}

fn spawn(end: &End<'_>, stdin: Stdio, stdout: Stdio) -> Result<Child, ExecError> {
    let mut command = end.program.command(end.args, &Options::default());
    command.stdin(stdin).stdout(stdout);
    exec::die_with_starter(&mut command);
    command.spawn().map_err(|source| ExecError::Start {
        argv: render_argv(end.program.path(), end.args),
        source,
    })
}

/// The beginning through our hands, the rest from pipe to pipe.
fn carry(
    mut output: ChildStdout,
    mut input: ChildStdin,
    edit: Option<Edit>,
    moved: &AtomicU64,
    (head, head_is_whole): (&std::sync::Mutex<Vec<u8>>, &AtomicBool),
) -> io::Result<()> {
    // A smaller pipe does as well, if it must.
    let _ = fcntl(&output, FcntlArg::F_SETPIPE_SZ(PIPE_BYTES));
    let _ = fcntl(&input, FcntlArg::F_SETPIPE_SZ(PIPE_BYTES));
    let carried = carry_head(&mut output, &mut input, Editor::new(edit), moved, head);
    head_is_whole.store(true, Ordering::SeqCst);
    if carried? {
        return Ok(());
    }
    loop {
        let flags = SpliceFFlags::SPLICE_F_MOVE | SpliceFFlags::SPLICE_F_MORE;
        match splice(&output, None, &input, None, PIPE_BYTES as usize, flags) {
            Ok(0) => return Ok(()),
            Ok(bytes) => {
                moved.fetch_add(bytes as u64, Ordering::Relaxed);
            }
            Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// True when that was all.
fn carry_head(
    output: &mut ChildStdout,
    input: &mut ChildStdin,
    mut editor: Editor,
    moved: &AtomicU64,
    head: &std::sync::Mutex<Vec<u8>>,
) -> io::Result<bool> {
    let mut piece = vec![0; 64 * 1024];
    loop {
        let length = match output.read(&mut piece) {
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let Ok(mut head) = head.lock() else {
            return Err(io::Error::other("the beginning is lost"));
        };
        head.extend_from_slice(&piece[..length]);
        let passed = match length {
            0 => editor.finish(),
            _ => editor.pass(&piece[..length]),
        };
        input.write_all(&passed)?;
        moved.fetch_add(passed.len() as u64, Ordering::Relaxed);
        if length == 0 {
            return Ok(true);
        }
        if editor.is_done() && head.len() >= HEAD_BYTES {
            return Ok(false);
        }
    }
}

/// The eater has all, and may need long for the last of it.
fn wait_for(
    eater: &mut Child,
    end: &End<'_>,
    says: &Receiver<String>,
    tell: &mut dyn FnMut(Told<'_>) -> bool,
) -> Result<(), FlowError> {
    loop {
        match eater.try_wait() {
            Ok(None) => {}
            Ok(Some(_)) | Err(_) => return ended(eater, end, says).map_err(FlowError::Into),
        }
        if !tell(Told::Moved(0)) {
            exec::end(eater, Duration::ZERO);
            return Err(FlowError::Stopped);
        }
        thread::sleep(LOOK_EVERY / 5);
    }
}

fn ended(child: &mut Child, end: &End<'_>, says: &Receiver<String>) -> Result<(), ExecError> {
    let argv = render_argv(end.program.path(), end.args);
    super::stream::finish(child, argv, says)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(from: &[&str], into: &[&str]) -> (Result<u64, FlowError>, Vec<u8>) {
        let program = |words: &[&str]| Program::find(words[0]).unwrap();
        let args = |words: &[&str]| -> Vec<OsString> {
            words[1..].iter().map(|&word| word.into()).collect()
        };
        let (feeder, eater) = (program(from), program(into));
        let (feeder_args, eater_args) = (args(from), args(into));
        let mut head = Vec::new();
        let done = flow(
            &End {
                program: &feeder,
                args: &feeder_args,
            },
            &End {
                program: &eater,
                args: &eater_args,
            },
            &mut |told| {
                if let Told::Head(bytes) = told {
                    head = bytes.to_vec();
                }
                true
            },
        );
        (done, head)
    }

    #[test]
    fn all_of_it_arrives_and_the_head_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("out").display().to_string();
        let of = format!("of={file}");
        let (done, head) = run(
            &["head", "-c", "30000000", "/dev/zero"],
            &["dd", "bs=64k", "status=none", &of],
        );
        assert_eq!(done.unwrap(), 30_000_000);
        assert!(head.len() >= HEAD_BYTES && head.len() < 2 * HEAD_BYTES);
        assert_eq!(std::fs::metadata(file).unwrap().len(), 30_000_000);
    }

    #[test]
    fn whoever_fails_tells_why() {
        let (done, _) = run(&["ls", "/nowhere"], &["cat"]);
        let error = done.unwrap_err();
        assert!(matches!(error, FlowError::From(_)), "{error}");
        assert!(error.to_string().contains("No such file"), "{error}");
        let (done, _) = run(
            &["head", "-c", "30000000", "/dev/zero"],
            &["ls", "/nowhere"],
        );
        let error = done.unwrap_err();
        assert!(matches!(error, FlowError::Into(_)), "{error}");
        assert!(error.to_string().contains("No such file"), "{error}");
    }

    #[test]
    fn it_can_be_stopped() {
        let zero = Program::find("cat").unwrap();
        let sleep = Program::find("sleep").unwrap();
        let stopped = flow(
            &End {
                program: &zero,
                args: &["/dev/zero".into()],
            },
            &End {
                program: &sleep,
                args: &["60".into()],
            },
            &mut |_| false,
        );
        assert!(matches!(stopped, Err(FlowError::Stopped)));
    }
}
