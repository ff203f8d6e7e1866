//! The files without which an engine starts empty, or loses what was committed, instead of refusing.
//!
//! Seen on files that were removed on purpose: MySQL 9.7 makes new redo logs where all or the used
//! ones are gone and goes on without the last transactions; it makes new undo tablespaces; MySQL
//! 5.6 makes new redo logs; MariaDB 10.11 makes new Aria logs. None of them refuses to start,
//! so that they have to be looked for before a server is started.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::flavour::{Family, Flavour};

/// What has to be there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Essential {
    File(PathBuf),
    /// Unless the other file is there, which says that this one is being made anew.
    FileUnless {
        path: PathBuf,
        marker: PathBuf,
    },
    /// At least one file with this beginning and without this ending, in this directory.
    OneOf {
        directory: PathBuf,
        beginning: &'static str,
        without: Option<&'static str>,
    },
}

impl Flavour {
    /// Absolute paths, from the variables of the server that wrote the files.
    pub fn essential_files(
        &self,
        data_dir: &Path,
        settings: &BTreeMap<String, String>,
    ) -> Vec<Essential> {
        let directory = |name: &str| match settings.get(name) {
            Some(path) => data_dir.join(path),
            None => data_dir.to_owned(),
        };
        let logs = directory("innodb_log_group_home_dir");
        let mut wanted = self.redo_logs(&logs, settings);
        match self.family {
            Family::Mysql if self.version >= (8, 0, 14) => {
                let undo = directory("innodb_undo_directory");
                // MySQL 9.5 manual, 17.6.3.4: the marker of a truncation lies with the redo log.
                wanted.extend((1..=2).map(|number| Essential::FileUnless {
                    path: undo.join(format!("undo_00{number}")),
                    marker: logs.join(format!("undo_{number}_trunc.log")),
                }));
            }
            Family::Mysql => {}
            Family::Mariadb => {
                let aria = directory("aria_log_dir_path");
                wanted.push(Essential::File(aria.join("aria_log_control")));
                wanted.push(Essential::OneOf {
                    directory: aria,
                    beginning: "aria_log.",
                    without: None,
                });
            }
        }
        wanted
    }

    fn redo_logs(&self, directory: &Path, settings: &BTreeMap<String, String>) -> Vec<Essential> {
        let numbered = |count: u32| {
            (0..count)
                .map(|number| Essential::File(directory.join(format!("ib_logfile{number}"))))
                .collect()
        };
        match self.family {
            Family::Mysql if self.version >= (8, 0, 30) => vec![Essential::OneOf {
                directory: directory.join("#innodb_redo"),
                beginning: "#ib_redo",
                // A spare one, not yet written to.
                without: Some("_tmp"),
            }],
            Family::Mysql => {
                let group = settings.get("innodb_log_files_in_group");
                numbered(group.and_then(|count| count.parse().ok()).unwrap_or(2))
            }
            // One since 10.5.
            Family::Mariadb => numbered(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(version: &str, settings: &[(&str, &str)]) -> Vec<String> {
        let settings = settings
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        let flavour = Flavour::of_version(version);
        flavour
            .essential_files(Path::new("/data"), &settings)
            .into_iter()
            .map(|essential| match essential {
                Essential::File(path) | Essential::FileUnless { path, .. } => {
                    path.display().to_string()
                }
                Essential::OneOf {
                    directory,
                    beginning,
                    ..
                } => format!("{}/{beginning}…", directory.display()),
            })
            .collect()
    }

    #[test]
    fn names_and_places_follow_version_and_settings() {
        assert_eq!(
            files("10.11.19-MariaDB x", &[("innodb_log_group_home_dir", "./")]),
            [
                "/data/./ib_logfile0",
                "/data/aria_log_control",
                "/data/aria_log.…"
            ]
        );
        assert_eq!(
            files(
                "9.7.4 x",
                &[
                    ("innodb_log_group_home_dir", "/redo"),
                    ("innodb_undo_directory", "/undo")
                ]
            ),
            [
                "/redo/#innodb_redo/#ib_redo…",
                "/undo/undo_001",
                "/undo/undo_002"
            ]
        );
        assert_eq!(
            files("5.6.24 x", &[("innodb_log_files_in_group", "3")]),
            [
                "/data/ib_logfile0",
                "/data/ib_logfile1",
                "/data/ib_logfile2"
            ]
        );
        assert_eq!(
            files("8.0.29 x", &[]),
            [
                "/data/ib_logfile0",
                "/data/ib_logfile1",
                "/data/undo_001",
                "/data/undo_002"
            ]
        );
    }
}
