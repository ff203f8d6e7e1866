//! What the journals of older versions say, in the words of this one.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Entry, OperationKind, Unfinished};
use crate::config::{ServiceControl, TlsMode};
use crate::journal::act::{self, Act, Reach, Rest, Resume};
use crate::journal::state::StateDir;
use crate::server::Identity;
use crate::server::globals::GlobalBefore;
use crate::volume::{BackendKind, PutRequest};

/// A restore in place, as the journals up to 0.1 of November 2026 keep it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FormerRestore {
    identity: Identity,
    data_dir: PathBuf,
    service: ServiceControl,
    backend: BackendKind,
    requests: Vec<PutRequest>,
    resume: Vec<Resume>,
    #[serde(default)]
    globals: Vec<GlobalBefore>,
    closed: bool,
}

/// What was read of it so far.
#[derive(Default)]
pub struct Former {
    restore: Option<FormerRestore>,
}

/// The file that makes an operation whole, where its first line doesn't tell it.
pub fn settled_by(state: &StateDir, kind: OperationKind, operation: &str) -> Option<PathBuf> {
    match kind {
        OperationKind::SnapshotCreate => Some(state.manifest(operation)),
        OperationKind::Mount => Some(state.mount_record(operation)),
        OperationKind::SnapshotDelete
        | OperationKind::Pause
        | OperationKind::Verify
        | OperationKind::Extract
        | OperationKind::RestoreTo
        | OperationKind::RestoreInPlace
        | OperationKind::Setup
        | OperationKind::Switchover
        | OperationKind::Failover
        | OperationKind::Repoint
        | OperationKind::Rejoin => None,
    }
}

impl Former {
    /// Adds a line of the old kind to what is known of an operation.
    pub fn take(&mut self, state: &StateDir, operation: &mut Unfinished, entry: Entry) {
        let id = operation.operation.clone();
        match entry {
            Entry::Volumes { backend, volumes } => match operation.kind {
                OperationKind::SnapshotDelete => {
                    let id = id.trim_start_matches("delete-").to_owned();
                    let manifest = state.manifest(&id);
                    operation.rest = Some(vec![
                        gate(Act::Volumes {
                            id,
                            backend,
                            volumes,
                        }),
                        gate(Act::File { path: manifest }),
                    ]);
                }
                kind if kind.is_use() => operation.undos.push(Act::Clones {
                    use_id: id,
                    backend,
                    volumes,
                }),
                _ => operation.undos.push(Act::Volumes {
                    id,
                    backend,
                    volumes,
                }),
            },
            Entry::MountPoint { path } => {
                let names = vec![snapshot_of_use(&id).to_owned(), id];
                operation.undos.push(Act::MountPoint { path, names });
            }
            Entry::File { path } => operation.undos.push(Act::File { path }),
            Entry::Directory { path } => operation.undos.push(Act::EmptyDirectory { path }),
            Entry::Stopping { putting } => {
                operation
                    .undos
                    .extend(undos(&operation.server, &id, &putting));
                self.restore = Some(*putting);
            }
            Entry::Putting {} => {
                let restore = self.restore.as_ref();
                operation.rest = restore.map(|restore| rest(state, operation, restore));
            }
            Entry::Outcome { step, .. } if step == "put" && operation.rest.is_some() => {
                operation.done.insert(0);
            }
            Entry::Outcome { step, .. } if step == "set-up" && operation.rest.is_none() => {
                operation.rest = Some(operation.undos.iter().filter_map(moved_aside).collect());
            }
            _ => {}
        }
    }
}

/// Of a set-up that stays, what it moved aside goes.
fn moved_aside(undo: &Act) -> Option<Rest> {
    match undo {
        Act::DataDir { aside, .. } => Some(Rest {
            act: Act::Tree {
                path: aside.clone(),
            },
            gate: true,
        }),
        _ => None,
    }
}

fn gate(act: Act) -> Rest {
    Rest { act, gate: true }
}

/// The snapshot that a use is of: `verify-SNAPSHOT-1a2b`.
fn snapshot_of_use(use_id: &str) -> &str {
    let rest = use_id.split_once('-').map_or(use_id, |(_, rest)| rest);
    rest.rsplit_once('-').map_or(rest, |(id, _)| id)
}

fn reach(server: &str, restore: &FormerRestore) -> Reach {
    Reach {
        server: server.to_owned(),
        address: None,
        credentials: None,
        tls: TlsMode::Disabled,
        tls_ca: None,
        identity: restore.identity.clone(),
    }
}

fn undos(server: &str, operation: &str, restore: &FormerRestore) -> Vec<Act> {
    let on = reach(server, restore);
    let open = restore.closed.then(|| Act::Statements {
        on: on.clone(),
        words: "end read_only".to_owned(),
        statements: vec!["SET GLOBAL read_only = OFF".to_owned()],
    });
    let undo_snapshot = Act::UndoSnapshot {
        operation: operation.to_owned(),
    };
    let words = format!("{server} runs on its data as it was before");
    let mut undos: Vec<Act> = open.into_iter().chain([undo_snapshot]).collect();
    undos.extend(
        started(&on, restore, words)
            .into_iter()
            .rev()
            .map(|rest| rest.act),
    );
    undos
}

fn rest(state: &StateDir, operation: &Unfinished, restore: &FormerRestore) -> Vec<Rest> {
    let server = operation.server.as_str();
    let on = reach(server, restore);
    let put = gate(Act::Put {
        server: server.to_owned(),
        data_dir: Path::new(&restore.data_dir).to_owned(),
        backend: restore.backend,
        requests: restore.requests.clone(),
    });
    let words = format!("{server} runs on the restored data");
    let mut rest = vec![put];
    rest.extend(started(&on, restore, words));
    let undo = act::undo_id(state, &operation.operation);
    rest.extend(undo.map(|id| {
        gate(Act::Told {
            words: format!("the state before is kept as {id}, held"),
        })
    }));
    rest
}

fn started(on: &Reach, restore: &FormerRestore, words: String) -> [Rest; 2] {
    [
        gate(Act::Start {
            on: on.clone(),
            service: restore.service.clone(),
            globals: restore.globals.clone(),
            words,
        }),
        gate(Act::Resume {
            on: on.clone(),
            channels: restore.resume.clone(),
        }),
    ]
}

#[cfg(test)]
mod tests {
    use super::super::unfinished;
    use super::*;
    use crate::sys::files;

    /// Journals of killed commands of 0.1 of November 2026, as `recover` reads them: what it would
    /// do, in its order.
    #[test]
    fn real_journals_of_the_version_before_are_read() {
        let start_before = "start rep-lab";
        let undo_snapshot = "remove the undo snapshot, which isn't needed";
        let expected: [(&str, &[&str]); 8] = [
            ("create", &["look for {KEPT}"]),
            ("delete", &["look for {KEPT}", "remove {MANIFEST}"]),
            ("verify", &["look for {CLONE}"]),
            ("mount", &["unmount /srv/lab/mnt", "look for {CLONE}"]),
            (
                "in-place-stopping",
                &[
                    start_before,
                    "see that rep-lab replicates again",
                    undo_snapshot,
                ],
            ),
            (
                "in-place-putting",
                &[
                    "put the snapshot in place of rep-lab's data to the end",
                    start_before,
                    "see that rep-lab replicates again",
                ],
            ),
            (
                "in-place-put",
                &[start_before, "see that rep-lab replicates again"],
            ),
            (
                "setup-settled",
                &["remove /srv/lab/pdata.understudy-before"],
            ),
        ];
        for (name, expected) in expected {
            let words = words_of(name);
            assert_eq!(words.len(), expected.len(), "{name}: {words:?}");
            for (word, expected) in words.iter().zip(expected) {
                let (head, _) = expected.split_once('{').unwrap_or((expected, ""));
                assert!(word.starts_with(head), "{name}: {word}, not {expected}");
            }
        }
        let setup = words_of("setup-dump");
        assert_eq!(setup.len(), 8, "{setup:?}");
        assert_eq!(
            setup.first().map(String::as_str),
            Some("stop replication on rep")
        );
        assert_eq!(
            setup.last().map(String::as_str),
            Some("remove /srv/lab/state/accounts/lab.cnf")
        );
    }

    fn words_of(name: &str) -> Vec<String> {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::at(dir.path());
        state.create().unwrap();
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/journal");
        let text = files::read_text(&root.join(format!("{name}.0.1-2026-11.jsonl")));
        let path = state.journal().join("journal.jsonl");
        files::replace(&path, text.unwrap().unwrap().as_bytes()).unwrap();
        let mut found = unfinished(&state, None).unwrap();
        assert_eq!(found.len(), 1, "{name} isn't unfinished");
        found.remove(0).words()
    }
}
