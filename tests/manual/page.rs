//! What stands on a page, and whether what was said is that.

use std::path::Path;
use std::sync::LazyLock;

use regex::Regex;

/// A command of a `console` block and what the page shows of its output; nothing where it shows none.
pub struct Shown {
    pub command: String,
    pub output: Vec<String>,
}

fn text_of(page: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(page)).unwrap()
}

/// The blocks of a language, in the order of the page.
pub fn blocks(page: &str, language: &str) -> Vec<String> {
    let text = text_of(page);
    let mut blocks = Vec::new();
    let mut open: Option<(String, String)> = None;
    for line in text.lines() {
        match (line.strip_prefix("```"), open.as_mut()) {
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (Some(language), None) => open = Some((language.to_owned(), String::new())),
            (None, Some((_, block))) => block.push_str(&format!("{line}\n")),
            (None, None) => {}
        }
    }
    let of = blocks.into_iter().filter(|(name, _)| name == language);
    of.map(|(_, block)| block).collect()
}

/// The commands of every `console` block of a page that begin so.
#[track_caller]
pub fn shown(page: &str, beginning: &str) -> Vec<Shown> {
    let mut all: Vec<Shown> = Vec::new();
    for block in blocks(page, "console") {
        let mut in_block: Vec<Shown> = Vec::new();
        for line in block.lines() {
            match (line.strip_prefix("$ "), in_block.last_mut()) {
                (Some(command), _) => in_block.push(Shown {
                    command: command.to_owned(),
                    output: Vec::new(),
                }),
                (None, Some(shown)) => shown.output.push(line.to_owned()),
                (None, None) => panic!("{page}: a block begins without a command: {line}"),
            }
        }
        if in_block
            .first()
            .is_some_and(|first| first.command.starts_with(beginning))
        {
            all.extend(in_block);
        }
    }
    assert!(
        !all.is_empty(),
        "{page} has no console block that begins with {beginning:?}"
    );
    all
}

/// The commands between back-ticks in the numbered steps of a section.
#[track_caller]
pub fn steps(page: &str, section: &str) -> Vec<String> {
    let text = text_of(page);
    let (_, rest) = text.split_once(&format!("\n## {section}\n")).unwrap();
    let section = rest.split("\n## ").next().unwrap();
    let is_step = |line: &&str| line.starts_with(|c: char| c.is_ascii_digit());
    let spans = section
        .lines()
        .filter(is_step)
        .flat_map(|line| line.split('`').skip(1).step_by(2));
    spans
        .filter(|span| span.starts_with("understudy "))
        .map(str::to_owned)
        .collect()
}

/// What differs from run to run, in the order in which it is looked for.
static VARIES: LazyLock<Vec<(Regex, &str)>> = LazyLock::new(|| {
    [
        (r"\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d+)?)?Z?", "TIME"),
        (r"\b([a-z0-9]+)-\d{8}T\d{6}Z-[0-9a-f]+", "$1-ID"),
        (r"\b\d+\.\d+\.\d+(-MariaDB\S*)?", "VERSION"),
        (r"\b\d+-\d+-\d+(,\d+-\d+-\d+)*\b", "GTID"),
        (r"\b\d+(\.\d+)? (B|KiB|MiB|GiB|TiB)\b", "SIZE"),
        (r"\b(\d+d \d+h|\d+h \d+m|\d+m \d+s|\d+[smhd])\b", "T"),
        (r"\b\d+(\.\d+)? m?s\b", "T"),
        // A step that takes no time shows none.
        (r"\b(changed|verified|already so) +T\b", "$1"),
        (r"\b\d+\b", "N"),
        (r"[ \t]+", " "),
    ]
    .map(|(pattern, with)| (Regex::new(pattern).unwrap(), with))
    .into()
});

fn normal(line: &str) -> String {
    let mut line = line.trim().to_owned();
    for (pattern, with) in VARIES.iter() {
        line = pattern.replace_all(&line, *with).into_owned();
    }
    line
}

/// Whether each line that the page shows was said, and no other; `…` stands for anything, alone for any
/// lines.
pub fn compare(place: &str, shown: &Shown, said: &str) -> Result<(), String> {
    let wanted: Vec<String> = shown.output.iter().map(|line| normal(line)).collect();
    let said_lines: Vec<String> = said
        .lines()
        .map(normal)
        .filter(|line| !line.is_empty())
        .collect();
    let wanted: Vec<String> = wanted.into_iter().filter(|line| !line.is_empty()).collect();
    if fits(&wanted, &said_lines) {
        return Ok(());
    }
    Err(format!(
        "{place}: $ {}\nthe page shows\n  {}\nit said\n  {}\nwhich is\n{said}",
        shown.command,
        wanted.join("\n  "),
        said_lines.join("\n  "),
    ))
}

fn fits(wanted: &[String], said: &[String]) -> bool {
    match wanted.split_first() {
        None => said.is_empty(),
        Some((line, rest)) if line == "…" => {
            (0..=said.len()).any(|count| fits(rest, &said[count..]))
        }
        Some((line, rest)) => said
            .split_first()
            .is_some_and(|(first, others)| line_fits(line, first) && fits(rest, others)),
    }
}

fn line_fits(wanted: &str, said: &str) -> bool {
    let parts: Vec<&str> = wanted.split('…').collect();
    let Some(mut rest) = said.strip_prefix(parts[0]) else {
        return false;
    };
    for (number, part) in parts.iter().enumerate().skip(1) {
        let is_last = number + 1 == parts.len();
        let found = match is_last {
            true if rest.ends_with(part) => Some(rest.len() - part.len()),
            true => None,
            false => rest.find(part),
        };
        match found {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.is_empty()
}

#[test]
fn what_differs_from_run_to_run_is_no_difference() {
    let shown = |output: &str| Shown {
        command: String::new(),
        output: output.lines().map(str::to_owned).collect(),
    };
    let page = shown(
        "db2-20261122T020000Z-7f3a: paused 13 ms, 9h 2m ago, at 0-1-100\n…\n  end: …, 3.4 GiB",
    );
    compare(
        "",
        &page,
        "db2-20270101T030000Z-01ab: paused 1.2 s,  4s ago, at 0-2-7\nx\ny\nend: z, 12 MiB\n",
    )
    .unwrap();
    for other in [
        "db1-20270101T030000Z-01ab: paused 1.2 s, 4s ago, at 0-2-7\nend: z, 12 MiB\n",
        "db2-20270101T030000Z-01ab: paused 1.2 s, 4s ago, at 0-2-7\n",
        "db2-20270101T030000Z-01ab: paused 1.2 s, 4s ago, at 0-2-7\nend: z, 12 MiB\nmore\n",
    ] {
        assert!(compare("", &page, other).is_err(), "{other}");
    }
}
