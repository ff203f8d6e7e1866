//! Links among a private server's data through which it read tables that aren't the snapshot's.
//!
//! The directories tell it, without the server: engines but InnoDB have no dictionary of their files.

use std::path::{Path, PathBuf};

use crate::sys::files::{self, FileError};

/// What files of tables are called, in a schema's directory.
const OF_TABLES: [&str; 12] = [
    "ARZ", "CSV", "MAD", "MAI", "MRG", "MYD", "MYI", "TRG", "frm", "ibd", "par", "sdi",
];

/// Whether a file of this name belongs to a table.
fn is_of_a_table(name: &Path) -> bool {
    let extension = name.extension().unwrap_or_default().to_string_lossy();
    // MySQL 8 numbers those of MyISAM: t_356.sdi.
    OF_TABLES.contains(&&*extension)
}

/// Schemas and files of tables that a link leads out of the `places`, relative to the data directory.
/// A link to a directory in which no table is, or to nothing, is not the server's.
pub fn leading_out(data_dir: &Path, places: &[PathBuf]) -> Result<Vec<String>, FileError> {
    let is_within = |real: &Path| places.iter().any(|place| real.starts_with(place));
    let leads_out = |path: &Path| {
        let is_link = path
            .symlink_metadata()
            .is_ok_and(|found| found.is_symlink());
        is_link && files::real_path(path).is_some_and(|real| !is_within(&real))
    };
    let shown = |path: &Path| {
        let relative = path.strip_prefix(data_dir).unwrap_or(path);
        relative.display().to_string()
    };
    let mut found = Vec::new();
    for schema in files::list(data_dir)? {
        if !schema.is_dir() {
            continue;
        }
        // One that nobody may read is no schema: the server couldn't, either.
        let mut own = files::list(&schema).unwrap_or_default();
        own.retain(|file| is_of_a_table(file));
        if leads_out(&schema) {
            found.extend((!own.is_empty()).then(|| shown(&schema)));
        } else {
            let out = own.iter().filter(|file| leads_out(file));
            found.extend(out.map(|file| shown(file)));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn only_what_holds_tables_elsewhere_is_told() {
        let base = tempfile::tempdir().unwrap();
        let base = base.path().canonicalize().unwrap();
        let (data, other, kept) = (base.join("data"), base.join("other"), base.join("kept"));
        for dir in ["data/own", "other/moved", "other/etc", "kept/moved"] {
            std::fs::create_dir_all(base.join(dir)).unwrap();
        }
        for file in [
            "other/moved/t.MAD",
            "other/etc/passwd",
            "other/t.MYD",
            "kept/moved/t.frm",
            "kept/t.MAI",
        ] {
            std::fs::write(base.join(file), "x").unwrap();
        }
        for (target, at) in [
            (other.join("moved"), "moved"),
            (other.join("etc"), "etc"),
            (other.join("etc/passwd"), "passwd"),
            (kept.join("moved"), "kept"),
            (other.join("t.MYD"), "own/t.MYD"),
            (other.join("gone.MYI"), "own/t.MYI"),
            (kept.join("t.MAI"), "own/t.MAI"),
            (other.join("etc/passwd"), "own/note"),
        ] {
            symlink(target, data.join(at)).unwrap();
        }
        let mut found = leading_out(&data, &[data.clone(), kept]).unwrap();
        found.sort();
        assert_eq!(found, ["moved", "own/t.MYD"]);
    }
}
