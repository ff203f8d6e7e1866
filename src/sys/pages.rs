//! The manual's pages, for the tests that hold it.

use std::path::{Path, PathBuf};

/// A block of code on a page.
pub struct Block {
    /// The page, and the line in which the block begins.
    pub place: String,
    /// What stands behind the opening mark.
    pub language: String,
    pub text: String,
}

/// Every page of the project, with its path from the root.
pub fn pages() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut pages = Vec::new();
    for directory in [
        root.to_owned(),
        root.join("docs"),
        root.join("vagrant"),
        root.join("scripts/lab"),
    ] {
        for entry in std::fs::read_dir(&directory)
            .into_iter()
            .flatten()
            .flatten()
        {
            let path = entry.path();
            if path.extension().is_some_and(|extension| extension == "md") {
                let text = std::fs::read_to_string(&path).unwrap();
                pages.push((path.strip_prefix(root).unwrap().to_owned(), text));
            }
        }
    }
    pages.sort();
    assert!(pages.len() > 15, "only {} pages were found", pages.len());
    pages
}

/// The blocks of one page.
pub fn blocks_of(page: &Path, text: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut open: Option<Block> = None;
    for (number, line) in text.lines().enumerate() {
        match (line.trim_start().strip_prefix("```"), &mut open) {
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (Some(language), None) => {
                open = Some(Block {
                    place: format!("{}:{}", page.display(), number + 1),
                    language: language.trim().to_owned(),
                    text: String::new(),
                });
            }
            (None, Some(block)) => {
                block.text.push_str(line);
                block.text.push('\n');
            }
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "{}: a block has no end", page.display());
    blocks
}

/// The blocks of every page.
pub fn blocks() -> Vec<Block> {
    let of = |(page, text): &(PathBuf, String)| blocks_of(page, text);
    pages().iter().flat_map(of).collect()
}
