//! Programs of another root on this host (a container's): what runs there, and that root shown here,
//! read-only, so that its program can be run here by its own dynamic loader.
//!
//! Nothing is run in the container's namespaces. One system call is made in its mount namespace, by
//! a thread of its own: only there can a mount be copied.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};

use super::exec::Program;
use super::ioctl;
use super::process::{ProcessRef, runs_apart};
use super::transfer;

/// Where images have their client programs.
const USUAL_PLACES: [&str; 4] = ["/usr/bin", "/bin", "/usr/local/bin", "/usr/local/mysql/bin"];

/// The program of a process whose root or mounts aren't ours. It keeps them open: what it shows
/// later is that very root, even when the process id is somebody else's by then.
#[derive(Debug, Clone)]
pub struct Contained {
    root: Arc<File>,
    namespace: Arc<File>,
    mapped: Mapped,
}

/// Paths as that root names them.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Mapped {
    program: PathBuf,
    loader: PathBuf,
    /// Directories of the libraries that it runs with.
    libraries: Vec<PathBuf>,
}

impl Contained {
    /// What the process runs; `None` when it has our root and mounts, or is gone.
    ///
    /// Fails when its program, loader and libraries can't be told: also where they were replaced
    /// since it was started.
    pub fn of(pid: u32) -> io::Result<Option<Self>> {
        let Some(process) = ProcessRef::of(pid).filter(|_| runs_apart(pid)) else {
            return Ok(None);
        };
        let at = |name: &str| PathBuf::from(format!("/proc/{pid}/{name}"));
        let root_as_seen = std::fs::read_link(at("root"))?;
        let root = transfer::open_path(&at("root"))?;
        let namespace = File::open(at("ns/mnt"))?;
        let maps = std::fs::read_to_string(at("maps"))?;
        if !process.is_alive() {
            return Ok(None);
        }
        let mapped = parse_maps(&maps, &root_as_seen).ok_or_else(|| {
            io::Error::other("its program, its loader or a library can't be told, or was replaced")
        })?;
        Ok(Some(Self {
            root: Arc::new(root),
            namespace: Arc::new(namespace),
            mapped,
        }))
    }

    /// The program as its own root names it.
    pub fn program(&self) -> &Path {
        &self.mapped.program
    }

    /// Shows its root in the directory `at`: read-only, without devices and set-user-id programs,
    /// and without what is mounted below it, such as its volumes. In the caller's mount namespace,
    /// so for a room (`sys::room`) only.
    pub fn show_at(&self, at: &Path) -> io::Result<()> {
        let copy = thread::scope(|scope| {
            let there = scope.spawn(|| {
                // Its threads share root and working directory, which setns would change for all.
                unshare(CloneFlags::CLONE_FS)?;
                setns(&*self.namespace, CloneFlags::CLONE_NEWNS)?;
                ioctl::copy_mount(&self.root)
            });
            there
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })?;
        ioctl::attach_mount(&copy, at)?;
        let none = None::<&Path>;
        let flags = MsFlags::MS_BIND
            | MsFlags::MS_REMOUNT
            | MsFlags::MS_RDONLY
            | MsFlags::MS_NOSUID
            | MsFlags::MS_NODEV;
        Ok(mount(none, at, none, flags, none)?)
    }

    /// Another program of its root, which is shown at `at`: beside the one that runs, or in the usual
    /// places. None that a link leads out of the root to.
    pub fn find_at(&self, at: &Path, name: &str) -> Option<Program> {
        let own = self.mapped.program.parent().unwrap_or(Path::new("/"));
        let found = [own]
            .into_iter()
            .chain(USUAL_PLACES.map(Path::new))
            .filter_map(|place| below(at, &place.join(name)).canonicalize().ok())
            .find(|path| path.starts_with(at) && path.is_file())?;
        let program = Path::new("/").join(found.strip_prefix(at).ok()?);
        let mapped = Mapped {
            program,
            ..self.mapped.clone()
        };
        Some(Program::loaded(found, command(&mapped, at)))
    }

    /// The program to start where its root is shown at `at`, and its first arguments.
    pub fn command_at(&self, at: &Path) -> (PathBuf, Vec<OsString>) {
        command(&self.mapped, at)
    }
}

/// A path of another root, where that root is shown at `at`.
pub fn below(at: &Path, path: &Path) -> PathBuf {
    at.join(path.strip_prefix("/").unwrap_or(path))
}

fn command(mapped: &Mapped, at: &Path) -> (PathBuf, Vec<OsString>) {
    let mut args: Vec<OsString> = Vec::new();
    // musl's loader knows neither a cache nor this option.
    let is_musl = mapped.loader.to_string_lossy().contains("musl");
    if !is_musl {
        // The cache would be this host's.
        args.push("--inhibit-cache".into());
    }
    let directories: Vec<OsString> = mapped
        .libraries
        .iter()
        .map(|directory| below(at, directory).into_os_string())
        .collect();
    args.push("--library-path".into());
    args.push(directories.join(":".as_ref()));
    args.push(below(at, &mapped.program).into_os_string());
    (below(at, &mapped.loader), args)
}

/// /proc/PID/maps: what is executable in it. `None` when there is no program or no loader, when
/// something of it is outside of its root, or was replaced.
fn parse_maps(text: &str, root: &Path) -> Option<Mapped> {
    let (mut program, mut loader, mut libraries) = (None, None, Vec::new());
    for line in text.lines() {
        let mut fields = line.split_ascii_whitespace();
        let is_code = fields.nth(1).is_some_and(|rights| rights.contains('x'));
        let Some(path) = line.find('/').map(|start| &line[start..]) else {
            continue;
        };
        if !is_code {
            continue;
        }
        if path.ends_with(" (deleted)") {
            return None;
        }
        let path = Path::new("/").join(Path::new(path).strip_prefix(root).ok()?);
        let name = path.file_name()?.to_str()?;
        if name.starts_with("ld-") || name.starts_with("ld.so") || name.starts_with("ld64.so") {
            loader = Some(path);
        } else if name.ends_with(".so") || name.contains(".so.") {
            let directory = path.parent()?.to_owned();
            // A colon would end it in the loader's list.
            if directory.to_str()?.contains([':', ';']) {
                return None;
            }
            if !libraries.contains(&directory) {
                libraries.push(directory);
            }
        } else if program.is_none() {
            program = Some(path);
        }
    }
    Some(Mapped {
        program: program?,
        loader: loader?,
        libraries,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAPS: &str = "\
55d0-55d1 r--p 00000000 fe:00 1 /usr/sbin/mysqld
55d1-55d9 r-xp 00001000 fe:00 1 /usr/sbin/mysqld
7f00-7f01 rw-s 00000000 00:0e 7 /[aio] (deleted)
7f10-7f20 r-xp 00001000 fe:00 2 /usr/lib/x86_64-linux-gnu/libc.so.6
7f20-7f30 r-xp 00001000 fe:00 3 /usr/lib/mysql/private/libprotobuf-lite.so
7f30-7f40 r-xp 00001000 fe:00 4 /usr/lib/x86_64-linux-gnu/libz.so.1.2.13
7f40-7f50 r-xp 00001000 fe:00 5 /usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2
7f50-7f60 r-xp 00000000 00:00 0 [vdso]
";

    fn mapped() -> Mapped {
        Mapped {
            program: "/usr/sbin/mysqld".into(),
            loader: "/usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2".into(),
            libraries: vec![
                "/usr/lib/x86_64-linux-gnu".into(),
                "/usr/lib/mysql/private".into(),
            ],
        }
    }

    #[test]
    fn what_runs_is_read_from_its_mapped_files() {
        assert_eq!(parse_maps(MAPS, Path::new("/")), Some(mapped()));
        let elsewhere = MAPS.replace(" /usr", " /srv/root/usr");
        assert_eq!(
            parse_maps(&elsewhere, Path::new("/srv/root")),
            Some(mapped())
        );
        assert_eq!(parse_maps(&elsewhere, Path::new("/srv/other")), None);
    }

    #[test]
    fn what_was_replaced_is_not_run() {
        let replaced = MAPS.replace("libc.so.6", "libc.so.6 (deleted)");
        assert_eq!(parse_maps(&replaced, Path::new("/")), None);
        let without_loader = MAPS.replace("ld-linux-x86-64.so.2", "other.so");
        assert_eq!(parse_maps(&without_loader, Path::new("/")), None);
        assert_eq!(parse_maps("", Path::new("/")), None);
    }

    #[test]
    fn the_program_is_run_by_its_own_loader_below_its_root() {
        let (program, args) = command(&mapped(), Path::new("/run/x/root"));
        let lib = "/run/x/root/usr/lib/x86_64-linux-gnu";
        assert_eq!(program, Path::new(lib).join("ld-linux-x86-64.so.2"));
        let wanted = [
            "--inhibit-cache",
            "--library-path",
            &format!("{lib}:/run/x/root/usr/lib/mysql/private"),
            "/run/x/root/usr/sbin/mysqld",
        ];
        assert_eq!(args, wanted);
        let musl = Mapped {
            loader: "/lib/ld-musl-x86_64.so.1".into(),
            ..mapped()
        };
        assert_eq!(command(&musl, Path::new("/r")).1[0], "--library-path");
    }

    /// Ended with the test, also when it fails.
    struct Ended(std::process::Child);

    impl Drop for Ended {
        fn drop(&mut self) {
            drop(self.0.kill());
            drop(self.0.wait());
        }
    }

    #[test]
    fn another_root_is_shown_read_only_and_its_program_runs() {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("SKIPPED: needs root");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let volume = dir.path().join("volume");
        std::fs::create_dir(&volume).unwrap();
        let script = format!(
            "mount -t tmpfs x {0} && touch {0}/its && exec sleep 60",
            volume.display()
        );
        let child = std::process::Command::new("/usr/bin/unshare")
            .args(["-m", "/bin/sh", "-c", &script])
            .spawn()
            .unwrap();
        let child = Ended(child);
        let pid = child.0.id();
        let until = std::time::Instant::now() + std::time::Duration::from_secs(10);
        let comm = format!("/proc/{pid}/comm");
        while std::fs::read_to_string(&comm).unwrap().trim() != "sleep" {
            assert!(std::time::Instant::now() < until);
            thread::sleep(std::time::Duration::from_millis(5));
        }
        let contained = Contained::of(pid)
            .unwrap()
            .expect("it has mounts of its own");
        assert!(contained.program().ends_with("sleep"), "{contained:?}");
        let at = dir.path().join("root");
        std::fs::create_dir(&at).unwrap();
        let (said, written, volume_seen) = super::super::room::within(|| {
            contained.show_at(&at).unwrap();
            let (program, args) = contained.command_at(&at);
            let output = std::process::Command::new(program)
                .args(args)
                .arg("--version")
                .output()
                .unwrap();
            let id = contained
                .find_at(&at, "id")
                .unwrap()
                .as_account((65534, 65534));
            let who = id.run(["-u"], std::time::Duration::from_secs(10)).unwrap();
            assert_eq!(who.stdout.trim(), "65534");
            assert!(contained.find_at(&at, "no-such-program").is_none());
            let there = below(&at, &volume);
            (
                String::from_utf8(output.stdout).unwrap(),
                std::fs::write(there.join("ours"), "").unwrap_err().kind(),
                there.join("its").exists(),
            )
        })
        .unwrap();
        assert!(said.starts_with("sleep"), "{said}");
        assert_eq!(written, io::ErrorKind::ReadOnlyFilesystem);
        assert!(!volume_seen);
    }

    #[test]
    fn we_do_not_run_apart_from_ourselves() {
        assert!(!runs_apart(std::process::id()));
        assert!(Contained::of(std::process::id()).unwrap().is_none());
    }
}
