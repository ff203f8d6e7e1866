//! An option file of ours alone: which one is, and putting one back as it was.

use std::path::Path;

use super::ActError;
use crate::sys::files;

/// The first line of each; what doesn't begin with it is somebody else's, and is left alone.
pub const HEADER: &str =
    "# Written by `understudy setup --write-option-file`; it is replaced whole.";

/// Whether a text is of a file of ours.
pub fn is_ours(text: &str) -> bool {
    text.lines().next() == Some(HEADER)
}

/// Puts it back: `before` is its former text, `None` where it wasn't there.
pub fn put_back(path: &Path, before: Option<&str>) -> Result<Option<String>, ActError> {
    if files::is_link(path) {
        return Ok(Some(format!(
            "left {} alone: it is a link now",
            path.display()
        )));
    }
    let now = files::read_text(path)?;
    if now.as_deref() == before {
        return Ok(None);
    }
    match (now.as_deref().is_none_or(is_ours), before) {
        (false, _) => Ok(Some(format!(
            "left {} alone: it isn't ours any more",
            path.display()
        ))),
        (true, None) => {
            files::remove(path)?;
            Ok(Some(format!("removed {}", path.display())))
        }
        (true, Some(text)) => {
            files::publish(path, text.as_bytes())?;
            Ok(Some(format!("put {} back as it was", path.display())))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_ours_is_put_back() {
        let dir = std::env::temp_dir().join(format!("understudy-option-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join("zz.cnf");
        let (old, new) = (format!("{HEADER}\nold\n"), format!("{HEADER}\nnew\n"));
        assert_eq!(put_back(&path, None).unwrap(), None);
        std::fs::write(&path, &new).unwrap();
        put_back(&path, Some(&old)).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), old);
        put_back(&path, None).unwrap();
        assert!(!path.exists());
        std::fs::write(&path, "[mysqld]\n").unwrap();
        assert!(put_back(&path, None).unwrap().unwrap().contains("alone"));
        assert!(path.exists());
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
