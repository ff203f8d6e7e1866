//! What can be wrong with a configuration, as data and as text.
//!
//! Owns the shape of every configuration message: `FILE:LINE:COLUMN: fact`, then a hint.

use crate::sys::trust::Untrusted;
use std::fmt;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// One thing that is wrong, and where; line and column count characters from 1.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct ConfigIssue {
    pub file: PathBuf,
    pub line: usize,
    pub column: usize,
    /// A lowercase fragment, without a full stop.
    pub message: String,
    /// A sentence: what to do.
    pub hint: Option<String>,
}

impl fmt::Display for ConfigIssue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            file,
            line,
            column,
            message,
            hint,
        } = self;
        write!(f, "{}:{line}:{column}: {message}", file.display())?;
        match hint {
            Some(hint) => write!(f, "\n  hint: {hint}"),
            None => Ok(()),
        }
    }
}

/// Everything that is wrong with one file, in the order of the file; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors {
    pub issues: Vec<ConfigIssue>,
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, issue) in self.issues.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            issue.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

/// Why there is no configuration; always exit 3.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Nothing was named, and none of the usual places has a file.
    #[error("no configuration file; looked for {}", render_paths(looked))]
    NotFound { looked: Vec<PathBuf> },
    /// A file was named, and isn't there.
    #[error("no configuration file {}, named by {named_by}", path.display())]
    Missing {
        path: PathBuf,
        named_by: &'static str,
    },
    /// The system doesn't let us read it, or it isn't UTF-8.
    #[error("cannot read the configuration file {}: {source}", path.display())]
    Unreadable {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// Larger than any configuration.
    #[error("the configuration file {} is larger than {bytes_max} bytes", path.display())]
    TooLarge { path: PathBuf, bytes_max: u64 },
    /// Somebody else could have written it, and what stands there decides what is run.
    #[error("not believed: {0}")]
    Untrusted(#[from] Untrusted),
    /// It was read, and is wrong.
    #[error(transparent)]
    Invalid(#[from] ConfigErrors),
}

impl ConfigError {
    /// What to do about it; the hints of `Invalid` stand beside its issues.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NotFound { .. } | Self::Missing { .. } => Some(
                "`understudy config example` writes one: `understudy config example > understudy.toml`."
                    .to_owned(),
            ),
            Self::Unreadable { path, .. } => Some(format!(
                "Check it with `ls -l {}`, and run as a user who may read it.",
                path.display()
            )),
            Self::TooLarge { .. } => {
                Some("Is it the right file? Name another one with --config.".to_owned())
            }
            Self::Untrusted(untrusted) => Some(untrusted.hint.clone()),
            Self::Invalid(_) => None,
        }
    }
}

fn render_paths(paths: &[PathBuf]) -> String {
    let names: Vec<_> = paths
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    names.join(", ")
}

/// A fact and its cure, before anyone knows where in the file they belong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Complaint {
    pub message: String,
    pub hint: Option<String>,
}

impl Complaint {
    /// A complaint that needs no hint.
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            hint: None,
        }
    }

    /// The same complaint with a sentence about what to do.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.hint {
            Some(hint) => write!(f, "\n  hint: {hint}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Complaint {}

/// Collects the issues of one text, and places them.
pub(super) struct Issues<'t> {
    text: &'t str,
    file: &'t Path,
    found: Vec<(usize, ConfigIssue)>,
    /// Lines with a syntax error: what was recovered there is a guess, and not worth a complaint.
    broken_lines: Vec<usize>,
}

impl<'t> Issues<'t> {
    pub(super) fn new(text: &'t str, file: &'t Path) -> Self {
        Self {
            text,
            file,
            found: Vec::new(),
            broken_lines: Vec::new(),
        }
    }

    /// A syntax error. One per line is enough.
    pub(super) fn syntax(&mut self, offset: usize, complaint: Complaint) {
        let (line, _) = position(self.text, offset);
        if !self.broken_lines.contains(&line) {
            self.push(offset, complaint);
            self.broken_lines.push(line);
        }
    }

    /// Something that stands in the file is wrong.
    pub(super) fn report(&mut self, span: Range<usize>, complaint: Complaint) {
        let (line, _) = position(self.text, span.start);
        if !self.broken_lines.contains(&line) {
            self.push(span.start, complaint);
        }
    }

    /// Something doesn't stand in the file; after a syntax error nobody can know that.
    pub(super) fn missing(&mut self, span: Range<usize>, complaint: Complaint) {
        if self.broken_lines.is_empty() {
            self.push(span.start, complaint);
        }
    }

    /// The issues in the order of the file, or nothing.
    pub(super) fn finish(mut self) -> Result<(), ConfigErrors> {
        if self.found.is_empty() {
            return Ok(());
        }
        self.found.sort_by_key(|(offset, _)| *offset);
        let issues = self.found.into_iter().map(|(_, issue)| issue).collect();
        Err(ConfigErrors { issues })
    }

    fn push(&mut self, offset: usize, complaint: Complaint) {
        let (line, column) = position(self.text, offset);
        let issue = ConfigIssue {
            file: self.file.to_owned(),
            line,
            column,
            message: complaint.message,
            hint: complaint.hint,
        };
        self.found.push((offset, issue));
    }
}

/// Line and column, in characters from 1, of a byte offset; past the end means the end.
pub(super) fn position(text: &str, offset: usize) -> (usize, usize) {
    let mut offset = offset.min(text.len());
    while !text.is_char_boundary(offset) {
        offset -= 1;
    }
    let before = &text[..offset];
    let line = before.matches('\n').count() + 1;
    let line_start = match before.rfind('\n') {
        Some(at) => at + 1,
        // No editor counts a byte order mark.
        None if before.starts_with('\u{feff}') => '\u{feff}'.len_utf8(),
        None => 0,
    };
    (line, before[line_start..].chars().count() + 1)
}

#[cfg(test)]
mod tests {
    use super::position;

    #[test]
    fn positions_count_characters_from_one() {
        let text = "a = 1\nä = \"é\" x\n";
        assert_eq!(position(text, 0), (1, 1));
        assert_eq!(position(text, text.find('x').unwrap()), (2, 9));
        assert_eq!(position(text, 9999), (3, 1));
        assert_eq!(position("\u{feff}x", 3), (1, 1));
    }
}
