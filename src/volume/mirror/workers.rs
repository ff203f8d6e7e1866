//! One round: a walker that makes directories and links, and a few threads that copy files.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::stat::{FileStat, SFlag, fstat, lstat};

use super::stamp::Stamp;
use super::{Method, Mirror, Strangers};
use crate::sys::{clock, files, transfer};
use crate::volume::VolumeError;
use crate::volume::walk::{Met, is_gone, is_log_of, log_base, may_change};

const THREADS_MAX: usize = 4;
const QUEUE_MAX: usize = 256;
const PROGRESS_EVERY: Duration = Duration::from_millis(100);
/// Names of left-out files that are kept for the note.
const LEFT_OUT_MAX: usize = 50;

/// Before the pause, in it, or of a source that stands still by itself.
#[derive(Clone, Copy)]
pub(super) enum Mode<'a> {
    /// What has older times than this (ns of the epoch) may settle.
    Warm { settle_before_ns: i128 },
    /// Nothing may change from then on (ns of the epoch), and it must end by the deadline.
    Final { deadline: Instant, from_ns: i128 },
    /// Files whose copy has their size, times, owner and mode are passed over.
    Still {
        is_stopped: &'a (dyn Fn() -> bool + Sync),
    },
}

/// What a round leaves behind beside the tree.
#[derive(Default)]
pub(super) struct Outcome {
    pub files: u64,
    pub bytes: u64,
    pub unsettled_bytes: u64,
    pub settled: Vec<u128>,
    pub dirs: Vec<(usize, PathBuf)>,
    pub left_out: Vec<String>,
}

struct Job {
    root: usize,
    relative: PathBuf,
}

/// What one thread did.
#[derive(Default)]
struct Share {
    files: u64,
    unsettled_bytes: u64,
    /// Settled files in a warm round, all copied ones in the final.
    marks: Vec<u128>,
}

pub(super) struct Workers<'a> {
    mirror: &'a Mirror,
    mode: Mode<'a>,
    stop: AtomicBool,
    /// The first one; what others meet after it is only that they were stopped.
    failure: Mutex<Option<VolumeError>>,
    queued_bytes: AtomicU64,
    done_bytes: AtomicU64,
}

impl<'a> Workers<'a> {
    pub(super) fn new(mirror: &'a Mirror, mode: Mode<'a>) -> Self {
        Self {
            mirror,
            mode,
            stop: AtomicBool::new(false),
            failure: Mutex::new(None),
            queued_bytes: AtomicU64::new(0),
            done_bytes: AtomicU64::new(0),
        }
    }

    /// Walks and copies; the first error of any thread ends it.
    pub(super) fn run(&self, progress: &mut dyn FnMut(u64, u64)) -> Result<Outcome, VolumeError> {
        let mut outcome = Outcome::default();
        let mut files_seen = 0;
        let (send, receive) = sync_channel::<Job>(QUEUE_MAX);
        let receive = Mutex::new(receive);
        let shares = thread::scope(|scope| {
            // Disconnected once every worker has ended, whatever ended it.
            let (alive, ended) = sync_channel::<()>(0);
            let workers: Vec<_> = (0..threads())
                .map(|_| {
                    let (alive, receive) = (alive.clone(), &receive);
                    scope.spawn(move || {
                        let _alive = alive;
                        self.work(receive)
                    })
                })
                .collect();
            drop(alive);
            let walked = self.walk_all(&send, &mut outcome, &mut files_seen, progress);
            if let Err(error) = walked {
                self.fail(error);
            }
            drop(send);
            while ended.recv_timeout(PROGRESS_EVERY) == Err(RecvTimeoutError::Timeout) {
                self.report(progress);
            }
            let shares: Vec<Share> = workers
                .into_iter()
                .map(|worker| match worker.join() {
                    Ok(share) => share,
                    Err(panic) => std::panic::resume_unwind(panic),
                })
                .collect();
            let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
            match failure.take() {
                Some(error) => Err(error),
                None => Ok(shares),
            }
        })?;
        self.report(progress);
        if let Mode::Final { from_ns, .. } = self.mode {
            self.look_again(&shares, files_seen, from_ns)?;
        }
        outcome.bytes = self.done_bytes.load(Ordering::Relaxed);
        for share in shares {
            outcome.files += share.files;
            outcome.unsettled_bytes += share.unsettled_bytes;
            if let Mode::Warm { .. } = self.mode {
                outcome.settled.extend(share.marks);
            }
        }
        Ok(outcome)
    }

    fn report(&self, progress: &mut dyn FnMut(u64, u64)) {
        let done = self.done_bytes.load(Ordering::Relaxed);
        let queued = self.queued_bytes.load(Ordering::Relaxed);
        let all = match self.mode {
            Mode::Warm { .. } | Mode::Still { .. } => self.mirror.expected_bytes.max(queued),
            Mode::Final { .. } => queued,
        };
        progress(done, all.max(done));
    }

    /// Makes directories and links, and queues the files that aren't settled.
    fn walk_all(
        &self,
        send: &SyncSender<Job>,
        outcome: &mut Outcome,
        files_seen: &mut u64,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<(), VolumeError> {
        let mut reported = Instant::now();
        for index in 0..self.mirror.dirs.len() {
            self.mirror.walk_root(index, &mut |met| {
                if self.stop.load(Ordering::SeqCst) {
                    // A worker failed, whose error is the first and counts.
                    return Err(self.too_late());
                }
                if reported.elapsed() > PROGRESS_EVERY {
                    reported = Instant::now();
                    self.report(progress);
                }
                match met {
                    Met::Dir {
                        relative,
                        stat,
                        names,
                    } => {
                        outcome.dirs.push((index, relative.to_owned()));
                        let path = self.mirror.path(index, relative);
                        make_dir(&path, stat)?;
                        self.remove_strangers(&path, relative, names)
                    }
                    Met::Link {
                        relative,
                        stat,
                        target,
                    } => {
                        let path = self.mirror.path(index, relative);
                        transfer::make_link(&path, target, (stat.st_uid, stat.st_gid))
                            .map_err(|error| VolumeError::call("make link", &path, error))
                    }
                    Met::Left { relative, reason } => {
                        if outcome.left_out.len() < LEFT_OUT_MAX {
                            let path = self.mirror.roots.roots[index].from.join(relative);
                            outcome
                                .left_out
                                .push(format!("{} ({reason})", path.display()));
                        }
                        Ok(())
                    }
                    Met::File { relative, stat } => {
                        *files_seen += u64::from(!may_change(relative));
                        self.queue(index, relative, stat, send)
                    }
                }
            })?;
        }
        Ok(())
    }

    /// Removes from a directory what the source hasn't any more.
    fn remove_strangers(
        &self,
        path: &Path,
        relative: &Path,
        names: &[OsString],
    ) -> Result<(), VolumeError> {
        for there in files::list(path)? {
            let name = there.file_name().unwrap_or_default();
            let is_source = names.binary_search_by(|own| (**own).cmp(name)).is_ok();
            let stays = match self.mirror.strangers {
                Strangers::Go => false,
                Strangers::Stay => !names
                    .iter()
                    .filter_map(|own| log_base(own))
                    .any(|base| is_log_of(base, name)),
            };
            if !is_source && !stays && !self.mirror.roots.is_untouched(&relative.join(name)) {
                transfer::remove_entry(&there)
                    .map_err(|error| VolumeError::call("remove", &there, error))?;
            }
        }
        Ok(())
    }

    fn queue(
        &self,
        root: usize,
        relative: &Path,
        stat: &FileStat,
        send: &SyncSender<Job>,
    ) -> Result<(), VolumeError> {
        let stamp = Stamp::of(stat);
        let mark = self.mirror.marker.mark(root, relative, &stamp);
        if self.mirror.settled.contains(&mark) {
            return Ok(());
        }
        self.queued_bytes.fetch_add(stamp.size, Ordering::Relaxed);
        if let Mode::Still { is_stopped } = self.mode {
            if is_stopped() {
                return Err(self.too_late());
            }
            let looks_count = stamp.latest_modified_ns() < self.mirror.looks_count_before_ns;
            if looks_count && is_copied(&self.mirror.path(root, relative), stat) {
                self.done_bytes.fetch_add(stamp.size, Ordering::Relaxed);
                return Ok(());
            }
        }
        let job = Job {
            root,
            relative: relative.to_owned(),
        };
        // The workers outlive the queue, so this can't fail but for a panic of theirs.
        send.send(job).map_err(|_| self.too_late())
    }

    /// Keeps the first failure, and only then stops the others.
    fn fail(&self, error: VolumeError) {
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure.get_or_insert(error);
        self.stop.store(true, Ordering::SeqCst);
    }

    /// Goes on emptying the queue after a failure, or the walker would wait for ever.
    fn work(&self, jobs: &Mutex<Receiver<Job>>) -> Share {
        let mut share = Share::default();
        loop {
            let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok(job) = job else {
                return share;
            };
            if !self.stop.load(Ordering::SeqCst)
                && let Err(error) = self.copy(&job, &mut share)
            {
                self.fail(error);
            }
        }
    }

    fn copy(&self, job: &Job, share: &mut Share) -> Result<(), VolumeError> {
        let source = self.mirror.roots.roots[job.root].from.join(&job.relative);
        let target = self.mirror.path(job.root, &job.relative);
        let opened = transfer::open_file_beneath(&self.mirror.dirs[job.root], &job.relative);
        let from = match opened {
            Ok(from) => from,
            Err(error) if is_gone(&error) => return self.vanished(job, &source),
            Err(error) => return Err(VolumeError::call("open", &source, error)),
        };
        let stat =
            |file: &File| fstat(file).map_err(|errno| VolumeError::call("look at", &source, errno));
        let first = stat(&from)?;
        if SFlag::from_bits_truncate(first.st_mode & SFlag::S_IFMT.bits()) != SFlag::S_IFREG {
            return self.vanished(job, &source);
        }
        let before = Stamp::of(&first);
        self.move_content(&from, &target, before.size)
            .map_err(|error| self.copy_failed(&source, &target, error))?;
        let after = Stamp::of(&stat(&from)?);
        share.files += 1;
        self.judge(job, share, before, after)
    }

    fn move_content(&self, from: &File, target: &Path, size: u64) -> io::Result<()> {
        let step = |bytes| {
            self.done_bytes.fetch_add(bytes, Ordering::Relaxed);
            !self.is_late() && !self.stop.load(Ordering::SeqCst)
        };
        let to = match self.mirror.method {
            Method::Copy => {
                let to = transfer::reopen_file(target, from)?;
                transfer::copy_content(from, &to, size, &step)?;
                to
            }
            Method::Reflink => {
                let to = transfer::create_file(target)?;
                transfer::clone_content(from, &to)?;
                if !step(size) {
                    return Err(io::ErrorKind::Interrupted.into());
                }
                to
            }
        };
        transfer::copy_metadata(from, &to)
    }

    fn copy_failed(&self, source: &Path, target: &Path, error: io::Error) -> VolumeError {
        let cannot_clone = matches!(
            error.raw_os_error(),
            Some(libc::EXDEV | libc::EOPNOTSUPP | libc::EINVAL)
        );
        match self.mirror.method {
            _ if error.kind() == io::ErrorKind::Interrupted => self.too_late(),
            Method::Reflink if cannot_clone => VolumeError::refused(
                format!(
                    "{} can't be cloned to {}: {error}",
                    source.display(),
                    target.display()
                ),
                "Use backend = \"copy\", or a [snapshot] directory on the filesystem of the data.",
            ),
            Method::Reflink | Method::Copy => VolumeError::call("copy", source, error),
        }
    }

    /// Whether the copy just made holds, by the stats around it.
    fn judge(
        &self,
        job: &Job,
        share: &mut Share,
        before: Stamp,
        after: Stamp,
    ) -> Result<(), VolumeError> {
        let mark = self.mirror.marker.mark(job.root, &job.relative, &before);
        match self.mode {
            Mode::Warm { settle_before_ns } => {
                let settles = before == after
                    && before.latest_ns() < settle_before_ns
                    && self.mirror.trusted.contains(&before.device);
                if settles {
                    share.marks.push(mark);
                } else {
                    share.unsettled_bytes += before.size;
                }
                Ok(())
            }
            Mode::Still { .. } if before == after => Ok(()),
            Mode::Still { .. } => Err(self.torn(job.root, &job.relative, "it was written to")),
            Mode::Final { .. } if before == after || may_change(&job.relative) => {
                share.marks.push(mark);
                Ok(())
            }
            Mode::Final { .. } => Err(self.torn(job.root, &job.relative, "it was written to")),
        }
    }

    fn vanished(&self, job: &Job, source: &Path) -> Result<(), VolumeError> {
        match self.mode {
            Mode::Warm { .. } => Ok(()),
            Mode::Final { .. } if may_change(&job.relative) => Ok(()),
            Mode::Final { .. } | Mode::Still { .. } => Err(VolumeError::Torn {
                path: source.to_owned(),
                detail: "it was removed".to_owned(),
            }),
        }
    }

    /// The stats of all files once more: those copied early may have changed later.
    fn look_again(
        &self,
        shares: &[Share],
        files_seen: u64,
        from_ns: i128,
    ) -> Result<(), VolumeError> {
        let copied: HashSet<u128> = shares
            .iter()
            .flat_map(|share| share.marks.iter().copied())
            .collect();
        let mut files = 0;
        for index in 0..self.mirror.dirs.len() {
            self.mirror.walk_root(index, &mut |met| {
                let Met::File { relative, stat } = met else {
                    return Ok(());
                };
                if self.is_late() {
                    return Err(self.too_late());
                }
                if may_change(relative) {
                    return Ok(());
                }
                files += 1;
                let stamp = Stamp::of(stat);
                if stamp.may_hide_write(from_ns, clock::now().as_nanosecond()) {
                    return Err(self.torn(index, relative, "it was written to just now"));
                }
                let mark = self.mirror.marker.mark(index, relative, &stamp);
                if copied.contains(&mark) || self.mirror.settled.contains(&mark) {
                    return Ok(());
                }
                Err(self.torn(index, relative, "it was written to after it was copied"))
            })?;
        }
        if files == files_seen {
            return Ok(());
        }
        Err(self.torn(
            0,
            Path::new(""),
            &format!("it had {files_seen} files, then {files}"),
        ))
    }

    fn torn(&self, root: usize, relative: &Path, detail: &str) -> VolumeError {
        let from = &self.mirror.roots.roots[root].from;
        VolumeError::Torn {
            path: if relative.as_os_str().is_empty() {
                from.clone()
            } else {
                from.join(relative)
            },
            detail: detail.to_owned(),
        }
    }

    fn is_late(&self) -> bool {
        match self.mode {
            Mode::Warm { .. } => false,
            Mode::Final { deadline, .. } => Instant::now() >= deadline,
            Mode::Still { is_stopped } => is_stopped(),
        }
    }

    fn too_late(&self) -> VolumeError {
        if let Mode::Still { .. } = self.mode {
            let error = io::Error::from(io::ErrorKind::Interrupted);
            return VolumeError::call("copy to", &self.mirror.target, error);
        }
        VolumeError::call(
            "copy within its time limit to",
            &self.mirror.target,
            io::Error::from(io::ErrorKind::TimedOut),
        )
    }
}

fn threads() -> usize {
    thread::available_parallelism().map_or(2, |count| count.get().clamp(2, THREADS_MAX))
}

/// Whether an earlier run brought this file across: it gets its times last.
fn is_copied(path: &Path, source: &FileStat) -> bool {
    let Ok(copy) = lstat(path) else { return false };
    let of = |stat: &FileStat| {
        (
            (stat.st_size, stat.st_mtime, stat.st_mtime_nsec),
            (stat.st_mode, stat.st_uid, stat.st_gid),
        )
    };
    of(&copy) == of(source)
}

fn make_dir(path: &Path, stat: &FileStat) -> Result<(), VolumeError> {
    transfer::make_dir(path, (stat.st_uid, stat.st_gid), stat.st_mode)
        .map_err(|error| VolumeError::call("make directory", path, error))
}
