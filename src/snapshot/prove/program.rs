//! The program of a private server: this host's, or, where the configuration asks for it, that of the
//! container in which the live server runs.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::config::ServerBinary;
use crate::server::Flavour;
use crate::server::private::BootFacts;
use crate::snapshot::context::Context;
use crate::snapshot::error::SnapshotError;
use crate::snapshot::prove::boot_log;
use crate::sys::contained::{Contained, below};
use crate::sys::exec::Program;
use crate::sys::{files, process};

const VERSION_LIMIT: Duration = Duration::from_secs(20);

/// Settings that name what belongs to the program, not to the data.
const OF_PROGRAMS: [&str; 4] = [
    "basedir",
    "character_sets_dir",
    "lc_messages_dir",
    "plugin_dir",
];

#[derive(Debug, Clone)]
pub enum ServerProgram {
    Here(PathBuf),
    /// Run on this host, by the loader and with the libraries of the container's root.
    InContainer(Contained),
}

impl ServerProgram {
    pub fn is_contained(&self) -> bool {
        matches!(self, Self::InContainer(_))
    }

    /// Where client programs are looked for, for people.
    pub fn places(&self) -> &'static str {
        match self {
            Self::Here(_) => "here",
            Self::InContainer(_) => "in the container, or on this host",
        }
    }

    /// For people and manifests.
    pub fn name(&self) -> PathBuf {
        match self {
            Self::Here(path) => path.clone(),
            Self::InContainer(contained) => {
                PathBuf::from(format!("container:{}", contained.program().display()))
            }
        }
    }

    /// Where its client programs may be, on this host; a container's own are told by [`Ready`].
    pub fn directory(&self) -> Option<&Path> {
        match self {
            Self::Here(path) => path.parent(),
            Self::InContainer(_) => None,
        }
    }

    /// Makes it ready to be started in a room, with `root` as the place for another root: program,
    /// its first arguments, and the server's settings as they are there.
    pub fn make_ready(
        &self,
        facts: &BootFacts,
        owner: (u32, u32),
        root: &Path,
    ) -> Result<Ready, SnapshotError> {
        let contained = match self {
            Self::Here(path) => {
                return Ok(Ready {
                    program: path.clone(),
                    arguments: Vec::new(),
                    facts: facts.clone(),
                    root: None,
                });
            }
            Self::InContainer(contained) => contained,
        };
        refuse_root(&facts.data_dir, owner)?;
        files::make_private_dir(root)?;
        contained
            .show_at(root)
            .map_err(|error| SnapshotError::Failed {
                step: "show the container's root to the private server",
                reason: error.to_string(),
                hint: Some(
                    "It needs Linux 5.2 or later. Else install the server's program on this host, \
                     and name it as server_binary."
                        .to_owned(),
                ),
            })?;
        let (program, arguments) = contained.command_at(root);
        Ok(Ready {
            program,
            arguments,
            facts: as_below(facts, root),
            root: Some((contained.clone(), root.to_owned())),
        })
    }
}

/// What is to be started.
pub struct Ready {
    pub program: PathBuf,
    pub arguments: Vec<OsString>,
    pub facts: BootFacts,
    /// The container's, and where it is shown.
    root: Option<(Contained, PathBuf)>,
}

impl Ready {
    /// A client program of the container, by its name.
    pub fn find_beside(&self, name: &str) -> Option<Program> {
        let (contained, at) = self.root.as_ref()?;
        contained.find_at(at, name)
    }
}

/// The program's own files are those of its root; the data is where this host has it.
fn as_below(facts: &BootFacts, root: &Path) -> BootFacts {
    let mut facts = facts.clone();
    for (name, value) in &mut facts.settings {
        if OF_PROGRAMS.contains(&name.as_str()) && value.starts_with('/') {
            *value = below(root, Path::new(&*value)).display().to_string();
        }
    }
    facts
}

/// The program to boot with: the configured one, else the one that ran the server, else the usual
/// one of that flavour.
pub fn find(
    ctx: &Context,
    server: &str,
    facts: &BootFacts,
) -> Result<ServerProgram, SnapshotError> {
    let configured = ctx
        .config
        .servers
        .get(server)
        .and_then(|server| server.service.as_ref()?.server_binary.clone());
    match configured {
        Some(ServerBinary::Path(path)) => return Ok(ServerProgram::Here(path)),
        Some(ServerBinary::Container) => return of_container(server, facts),
        None => {}
    }
    let flavour = Flavour::of_version(&facts.version);
    let usual = flavour
        .server_programs()
        .iter()
        .map(|name| Path::new(name).to_owned());
    facts
        .binary
        .clone()
        .into_iter()
        .chain(usual)
        .filter(|path| path.is_file())
        // A server of this host with another version would fail to read the files, and blame them.
        .find(|path| !facts.in_container || is_of_release(path, &flavour))
        .map(ServerProgram::Here)
        .ok_or_else(|| none_here(server, facts))
}

fn is_of_release(program: &Path, flavour: &Flavour) -> bool {
    let asked = Program::at(program).run(["--no-defaults", "--version"], VERSION_LIMIT);
    let found = asked
        .ok()
        .and_then(|output| boot_log::parse_version(&output.stdout));
    found.is_some_and(|found| {
        let release = |of: &Flavour| (of.is_mariadb(), of.version.0, of.version.1);
        release(&found) == release(flavour)
    })
}

fn none_here(server: &str, facts: &BootFacts) -> SnapshotError {
    let mut hint =
        format!("Install one, or name it as server_binary in [server.{server}.service].");
    if facts.in_container {
        hint.push_str(
            " Or write server_binary = \"container\" there: then the container's own program is \
             run on this host, as the account that owns the data (docs/SECURITY.md).",
        );
    }
    SnapshotError::refused(
        format!("no server program for {} is here", facts.version),
        hint,
    )
}

fn of_container(server: &str, facts: &BootFacts) -> Result<ServerProgram, SnapshotError> {
    if let Ok(owner) = files::owner_of(&facts.data_dir) {
        refuse_root(&facts.data_dir, owner)?;
    }
    let pids = process::in_directory(&facts.data_dir);
    let mut why = None;
    for &pid in &pids {
        match Contained::of(pid) {
            Ok(Some(contained)) => return Ok(ServerProgram::InContainer(contained)),
            Ok(None) => {}
            Err(error) => why = Some(error),
        }
    }
    let install = format!(
        "name a server program of this host as server_binary in [server.{server}.service]."
    );
    Err(match (why, pids.is_empty()) {
        (Some(error), _) => SnapshotError::refused(
            format!("the program in the container of {server} can't be run: {error}"),
            format!("Restart the container, or {install}"),
        ),
        (None, true) => SnapshotError::refused(
            format!("the container of {server} isn't running, and its server's program is in it"),
            format!("Start the container, or {install}"),
        ),
        (None, false) => SnapshotError::refused(
            format!("{server} runs in no container"),
            format!("Remove server_binary = \"container\", or {install}"),
        ),
    })
}

/// Whoever is root in the container decides what its program does.
fn refuse_root(data_dir: &Path, owner: (u32, u32)) -> Result<(), SnapshotError> {
    if owner.0 != 0 && owner.1 != 0 {
        return Ok(());
    }
    Err(SnapshotError::refused(
        format!(
            "{} belongs to root or to its group, and a container's program is never run as root \
             on this host",
            data_dir.display()
        ),
        "Let the server in the container run as an account of its own, or name a program of this \
         host as server_binary.",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_belongs_to_the_program_is_below_its_root() {
        let setting = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        let facts = BootFacts {
            data_dir: "/srv/db2".into(),
            settings: [
                ("basedir", "/usr/"),
                ("plugin_dir", "/usr/lib/mysql/plugin/"),
                ("innodb_data_home_dir", "/srv/ibdata"),
                ("innodb_page_size", "16384"),
            ]
            .map(setting)
            .into(),
            ..BootFacts::default()
        };
        let there = as_below(&facts, Path::new("/run/x/root"));
        let wanted = [
            ("basedir", "/run/x/root/usr"),
            ("plugin_dir", "/run/x/root/usr/lib/mysql/plugin"),
            ("innodb_data_home_dir", "/srv/ibdata"),
            ("innodb_page_size", "16384"),
        ];
        assert_eq!(there.settings, wanted.map(setting).into());
        assert_eq!(there.data_dir, facts.data_dir);
    }

    #[test]
    fn never_as_root() {
        for (owner, is_good) in [
            ((0, 0), false),
            ((0, 9), false),
            ((9, 0), false),
            ((9, 9), true),
        ] {
            assert_eq!(refuse_root(Path::new("/d"), owner).is_ok(), is_good);
        }
    }
}
