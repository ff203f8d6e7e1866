//! The files that a server would make anew, looked for before it is started: see
//! `server::engine_files`.

use std::path::PathBuf;

use super::boot_log::Flaw;
use super::private::Failure;
use crate::server::Flavour;
use crate::server::engine_files::Essential;
use crate::server::private::BootFacts;
use crate::sys::files;
use crate::volume::layout;

/// A server would make these anew and come up without what was in them.
pub fn look_for(flavour: &Flavour, facts: &BootFacts) -> Result<(), Failure> {
    let home = facts.settings.get("innodb_data_home_dir");
    let home = facts.data_dir.join(home.map_or("", String::as_str));
    let system = facts.settings.get("innodb_data_file_path");
    let system = layout::parse_data_file_path(system.map_or("ibdata1", String::as_str));
    let system = system
        .into_iter()
        .map(|name| Essential::File(home.join(name)));
    let wanted = system.chain(flavour.essential_files(&facts.data_dir, &facts.settings));
    match wanted
        .filter_map(|essential| what_is_wrong_with(&essential))
        .next()
    {
        Some((flaw, detail)) => Err(Failure::Flaw { flaw, detail }),
        None => Ok(()),
    }
}

/// With its name.
fn what_is_wrong_with(essential: &Essential) -> Option<(Flaw, String)> {
    match essential {
        Essential::File(path) => {
            let name = path.components().collect::<PathBuf>().display().to_string();
            match files::length(path) {
                None => Some((Flaw::MissingFile, name)),
                // Of a raw device too.
                Some(0) if path.is_file() => Some((Flaw::TruncatedFile, name)),
                Some(_) => None,
            }
        }
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
