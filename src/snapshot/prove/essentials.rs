//! The files that a server would make anew, looked for before it is started: see
//! `server::engine_files`.

use std::path::{Path, PathBuf};

use crate::server::Flavour;
use crate::server::engine_files::Essential;
use crate::server::private::BootFacts;
use crate::snapshot::prove::boot_log::Flaw;
use crate::sys::files;
use crate::volume::layout;

/// The first that is missing or empty, by name: a server would make it anew, and come up without what
/// was in it.
pub fn first_flaw(flavour: &Flavour, facts: &BootFacts) -> Option<(Flaw, String)> {
    let home = facts.settings.get("innodb_data_home_dir");
    let home = facts.data_dir.join(home.map_or("", String::as_str));
    let system = facts.settings.get("innodb_data_file_path");
    let system = layout::parse_data_file_path(system.map_or("ibdata1", String::as_str));
    let system = system
        .into_iter()
        .map(|name| Essential::File(home.join(name)));
    let wanted = system.chain(flavour.essential_files(&facts.data_dir, &facts.settings));
    wanted
        .filter_map(|essential| what_is_wrong_with(&essential))
        .next()
}

/// With its name.
fn what_is_wrong_with(essential: &Essential) -> Option<(Flaw, String)> {
    match essential {
        Essential::File(path) => what_is_wrong_with_file(path),
        Essential::FileUnless { marker, .. } if marker.exists() => None,
        Essential::FileUnless { path, .. } => what_is_wrong_with_file(path),
        Essential::OneOf {
            directory,
            beginning,
            without,
        } => {
            let fits = |name: &str| {
                name.starts_with(beginning) && !without.is_some_and(|ending| name.ends_with(ending))
            };
            let names = files::list(directory).unwrap_or_default();
            let is_there = names
                .iter()
                .filter_map(|path| path.file_name()?.to_str())
                .any(fits);
            let directory = directory.components().collect::<PathBuf>();
            let name = format!("{}/{beginning}*", directory.display());
            (!is_there).then_some((Flaw::MissingFile, name))
        }
    }
}

fn what_is_wrong_with_file(path: &Path) -> Option<(Flaw, String)> {
    let name = path.components().collect::<PathBuf>().display().to_string();
    match files::length(path) {
        None => Some((Flaw::MissingFile, name)),
        // Of a raw device too.
        Some(0) if path.is_file() => Some((Flaw::TruncatedFile, name)),
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn undo_tablespace_in_the_middle_of_its_truncation_may_be_gone() {
        let dir = tempfile::tempdir().unwrap();
        let touch = |name: &str| std::fs::write(dir.path().join(name), "x").unwrap();
        std::fs::create_dir(dir.path().join("#innodb_redo")).unwrap();
        for name in ["ibdata1", "#innodb_redo/#ib_redo7", "undo_002"] {
            touch(name);
        }
        let facts = BootFacts {
            data_dir: dir.path().to_owned(),
            ..BootFacts::default()
        };
        let look = || first_flaw(&Flavour::of_version("9.7.4"), &facts);
        let Some((flaw, detail)) = look() else {
            panic!("undo_001 isn't missed");
        };
        assert_eq!(flaw, Flaw::MissingFile);
        assert!(detail.ends_with("/undo_001"), "{detail}");
        touch("undo_1_trunc.log");
        assert_eq!(look(), None);
        std::fs::rename(
            dir.path().join("#innodb_redo/#ib_redo7"),
            dir.path().join("#innodb_redo/#ib_redo7_tmp"),
        )
        .unwrap();
        assert!(look().is_some(), "a spare log is none");
    }
}
