//! The grammar of MySQL option files, as `my_print_defaults` reads them.
//!
//! Follows mysys/my_default.c; `tests/config/option_files.rs` compares with the real program. On purpose
//! we differ where it would guess: an included file that can't be read, a NUL, a line that is
//! longer than its buffer, a path from `~` and an option without a name are errors, a byte order
//! mark is skipped, and only ASCII white space is trimmed (it takes the second byte of "à" for
//! one, and hands out half a letter).

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// An option's name as written, and its value; `None` when there is no `=`.
pub type RawOption = (String, Option<String>);

/// As the real program: below this depth `!include` is skipped, which ends cycles.
const DEPTH_MAX: usize = 10;
/// A cycle of several lines would multiply at each depth.
const FILES_MAX: usize = 256;
const BYTES_MAX: u64 = 1 << 20;
/// The real program's buffer, less its newline and end; it takes the rest for another line.
const LINE_BYTES_MAX: usize = 4093;

/// The options of the given groups, in the order in which the real program tells them.
///
/// The values may be secrets: don't log them.
///
/// # Errors
/// As [`load`](super::credentials::load).
pub fn parse_options(path: &Path, groups: &[&str]) -> Result<Vec<RawOption>, CredentialsError> {
    let mut reader = Reader {
        groups,
        files_count: 0,
        options: Vec::new(),
    };
    match reader.read_file(path, 0)? {
        true => Ok(reader.options),
        false => Err(CredentialsError::Missing {
            path: path.to_owned(),
        }),
    }
}

/// Why an option file gives no credentials; always exit 3.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// The file isn't there.
    #[error("no option file {}", path.display())]
    Missing { path: PathBuf },
    /// The system doesn't let us read it, or an included one.
    #[error("cannot read the option file {}: {source}", path.display())]
    Unreadable {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// A directory, a pipe or the like.
    #[error("the option file {} is no regular file", path.display())]
    NotAFile { path: PathBuf },
    /// Readable or writable for the group or others.
    #[error("the option file {} is open to others (mode {mode:04o})", path.display())]
    NotPrivate { path: PathBuf, mode: u32 },
    /// Whoever owns it could change it.
    #[error("the option file {} belongs to user {owner}, neither to root nor to you", path.display())]
    WrongOwner { path: PathBuf, owner: u32 },
    /// Larger than any option file, or including more files than any does.
    #[error("the option file {} is too large: {what}", path.display())]
    TooLarge { path: PathBuf, what: String },
    /// A line that is no line of an option file.
    #[error("{}:{line}: {what}", path.display())]
    Syntax {
        path: PathBuf,
        line: usize,
        what: &'static str,
    },
    /// A client would ask on the terminal; nobody sits at ours.
    #[error("the option file {} gives {option} no value", path.display())]
    NoValue { path: PathBuf, option: &'static str },
}

impl CredentialsError {
    /// What to do about it, with the exact command where there is one.
    pub fn hint(&self) -> String {
        match self {
            Self::Missing { path } => format!(
                "Write it: [client], user = …, password = …; then chmod 600 {}",
                path.display()
            ),
            Self::Unreadable { path, .. } | Self::NotAFile { path } => {
                format!("Check it with: ls -l {}", path.display())
            }
            Self::NotPrivate { path, .. } => {
                format!("Take the others' rights away: chmod 600 {}", path.display())
            }
            Self::WrongOwner { path, .. } => {
                format!(
                    "Give it to who runs understudy: chown root {}",
                    path.display()
                )
            }
            Self::TooLarge { .. } => "Is it the right file?".to_owned(),
            Self::Syntax { .. } => {
                "An option file has [group] lines, and lines like user = name below them."
                    .to_owned()
            }
            Self::NoValue { option, .. } => {
                format!("Nobody is there to be asked for it: write {option} = …")
            }
        }
    }
}

struct Reader<'g> {
    groups: &'g [&'g str],
    files_count: usize,
    options: Vec<RawOption>,
}

/// Where in a file we are: which group the options belong to.
#[derive(Clone, Copy)]
enum Group {
    None,
    Wanted,
    Other,
}

/// One line, trimmed in front.
enum Line<'l> {
    Nothing,
    Include(&'l [u8]),
    IncludeDir(&'l [u8]),
    Group(&'l [u8]),
    Option(&'l [u8]),
}

impl Reader<'_> {
    /// Whether the file was there. The group doesn't reach into nor out of an included file.
    fn read_file(&mut self, path: &Path, depth: usize) -> Result<bool, CredentialsError> {
        self.files_count += 1;
        if self.files_count > FILES_MAX {
            return Err(CredentialsError::TooLarge {
                path: path.to_owned(),
                what: format!("more than {FILES_MAX} included files"),
            });
        }
        let Some(content) = read_private(path)? else {
            return Ok(false);
        };
        let content = content.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&content);
        let mut group = Group::None;
        for (index, line) in content.split(|byte| *byte == b'\n').enumerate() {
            let wrong = |what| CredentialsError::Syntax {
                path: path.to_owned(),
                line: index + 1,
                what,
            };
            match classify(line).map_err(wrong)? {
                Line::Nothing => {}
                Line::Include(_) | Line::IncludeDir(_) if depth >= DEPTH_MAX => {}
                // One that isn't there is skipped, as the real program does.
                Line::Include(argument) => {
                    let included = included_path(argument).map_err(wrong)?;
                    self.read_file(&included, depth + 1)?;
                }
                Line::IncludeDir(argument) => {
                    let directory = included_path(argument).map_err(wrong)?;
                    self.read_directory(&directory, depth + 1)?;
                }
                Line::Group(name) => group = self.enter(name),
                Line::Option(text) => match group {
                    Group::None => return Err(wrong("an option stands before any [group]")),
                    Group::Other => {}
                    Group::Wanted => self.options.push(parse_option(text).map_err(wrong)?),
                },
            }
        }
        Ok(true)
    }

    /// Every `*.cnf` of a directory, sorted by the bytes of the names.
    fn read_directory(&mut self, path: &Path, depth: usize) -> Result<(), CredentialsError> {
        let unreadable = |source| CredentialsError::Unreadable {
            path: path.to_owned(),
            source,
        };
        let mut files = BTreeSet::new();
        for entry in std::fs::read_dir(path).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            let name = entry.file_name();
            if name.as_encoded_bytes().ends_with(b".cnf") && !entry.path().is_dir() {
                files.insert(name);
            }
        }
        for name in files {
            self.read_file(&path.join(name), depth)?;
        }
        Ok(())
    }

    fn enter(&self, name: &[u8]) -> Group {
        let is_wanted = |group: &&str| group.as_bytes().eq_ignore_ascii_case(name);
        match self.groups.iter().any(is_wanted) {
            true => Group::Wanted,
            false => Group::Other,
        }
    }
}

/// The content of a file that only its owner may read; `None` when there is no such file.
fn read_private(path: &Path) -> Result<Option<Vec<u8>>, CredentialsError> {
    let unreadable = |source| CredentialsError::Unreadable {
        path: path.to_owned(),
        source,
    };
    // O_NONBLOCK: a pipe under that name must not hold us up.
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path);
    let file = match opened {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(error)),
    };
    check_private(&file, path)?;
    let mut content = Vec::new();
    file.take(BYTES_MAX + 1)
        .read_to_end(&mut content)
        .map_err(unreadable)?;
    if content.len() as u64 > BYTES_MAX {
        return Err(CredentialsError::TooLarge {
            path: path.to_owned(),
            what: format!("more than {BYTES_MAX} bytes"),
        });
    }
    Ok(Some(content))
}

/// Looks at the open file, not at its name, so that nobody can swap it in between.
fn check_private(file: &File, path: &Path) -> Result<(), CredentialsError> {
    let path = path.to_owned();
    let metadata = match file.metadata() {
        Ok(metadata) => metadata,
        Err(source) => return Err(CredentialsError::Unreadable { path, source }),
    };
    if !metadata.is_file() {
        return Err(CredentialsError::NotAFile { path });
    }
    let mode = metadata.mode() & 0o7777;
    if mode & 0o066 != 0 {
        return Err(CredentialsError::NotPrivate { path, mode });
    }
    let owner = metadata.uid();
    if owner != 0 && owner != nix::unistd::Uid::effective().as_raw() {
        return Err(CredentialsError::WrongOwner { path, owner });
    }
    Ok(())
}

/// The white space of C's isspace(); Rust's ASCII one lacks the vertical tab.
fn is_space(byte: &u8) -> bool {
    byte.is_ascii_whitespace() || *byte == 0x0b
}

fn trim_start(text: &[u8]) -> &[u8] {
    let from = text.iter().position(|byte| !is_space(byte));
    &text[from.unwrap_or(text.len())..]
}

fn trim_end(text: &[u8]) -> &[u8] {
    let to = text.iter().rposition(|byte| !is_space(byte));
    &text[..to.map_or(0, |last| last + 1)]
}

fn classify(line: &[u8]) -> Result<Line<'_>, &'static str> {
    if line.len() > LINE_BYTES_MAX {
        return Err("the line is longer than 4093 bytes");
    }
    if line.contains(&0) {
        return Err("the line has a NUL in it");
    }
    let line = trim_start(line);
    match line.first() {
        None | Some(b'#' | b';') => Ok(Line::Nothing),
        Some(b'!') => classify_directive(trim_start(&line[1..])),
        Some(b'[') => match line.iter().position(|byte| *byte == b']') {
            // White space is trimmed at the end only: "[ client]" is another group.
            Some(end) => Ok(Line::Group(trim_end(&line[1..end]))),
            None => Err("the [group] isn't closed"),
        },
        Some(_) => Ok(Line::Option(line)),
    }
}

fn classify_directive(directive: &[u8]) -> Result<Line<'_>, &'static str> {
    let argument_of = |keyword: &str| {
        let rest = directive.strip_prefix(keyword.as_bytes())?;
        // A line's end is white space too: the keyword alone lacks its argument.
        rest.first()
            .is_none_or(is_space)
            .then(|| trim_end(trim_start(rest)))
    };
    match (argument_of("include"), argument_of("includedir")) {
        (Some([]), _) | (_, Some([])) => Err("what to include is missing"),
        (Some(argument), _) => Ok(Line::Include(argument)),
        (None, Some(argument)) => Ok(Line::IncludeDir(argument)),
        // The real program ignores other words.
        (None, None) => Ok(Line::Nothing),
    }
}

fn included_path(argument: &[u8]) -> Result<PathBuf, &'static str> {
    match std::str::from_utf8(argument) {
        Ok(path) if path.starts_with('~') => Err("write the included path without ~"),
        Ok(path) => Ok(PathBuf::from(path)),
        Err(_) => Err("the included path isn't UTF-8"),
    }
}

fn parse_option(text: &[u8]) -> Result<RawOption, &'static str> {
    let text = without_comment(text);
    let (name, value) = match text.iter().position(|byte| *byte == b'=') {
        Some(at) => (&text[..at], Some(unescape(unquote(&text[at + 1..])))),
        None => (text, None),
    };
    let name = trim_end(name).to_vec();
    if name.is_empty() {
        return Err("an option has no name");
    }
    let utf8 = |bytes| String::from_utf8(bytes).map_err(|_| "the option isn't UTF-8");
    Ok((utf8(name)?, value.map(utf8).transpose()?))
}

/// Cuts a comment off: `#` outside of quotes, wherever it stands; `;` only begins one at the start
/// of a line. A quote opens anywhere, also in "it's", and a backslash counts within quotes only.
fn without_comment(text: &[u8]) -> &[u8] {
    let mut quote = None;
    let mut is_escaped = false;
    for (at, byte) in text.iter().enumerate() {
        if matches!(byte, b'\'' | b'"') && !is_escaped {
            match quote {
                None => quote = Some(byte),
                Some(open) if open == byte => quote = None,
                Some(_) => {}
            }
        }
        if quote.is_none() && *byte == b'#' {
            return &text[..at];
        }
        is_escaped = quote.is_some() && *byte == b'\\' && !is_escaped;
    }
    text
}

/// Trims, then takes away one pair of quotes around the whole.
fn unquote(value: &[u8]) -> &[u8] {
    match trim_end(trim_start(value)) {
        [first @ (b'\'' | b'"'), inner @ .., last] if first == last => inner,
        value => value,
    }
}

/// Escape sequences, also outside of quotes; an unknown one keeps its backslash, and so does the
/// last character.
fn unescape(value: &[u8]) -> Vec<u8> {
    let mut unescaped = Vec::with_capacity(value.len());
    let mut bytes = value.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        let escaped = match byte {
            b'\\' => bytes.next(),
            _ => None,
        };
        match escaped {
            None => unescaped.push(byte),
            Some(b'b') => unescaped.push(0x08),
            Some(b't') => unescaped.push(b'\t'),
            Some(b'n') => unescaped.push(b'\n'),
            Some(b'r') => unescaped.push(b'\r'),
            Some(b's') => unescaped.push(b' '),
            Some(known @ (b'\\' | b'"' | b'\'')) => unescaped.push(known),
            Some(unknown) => unescaped.extend([b'\\', unknown]),
        }
    }
    unescaped
}
