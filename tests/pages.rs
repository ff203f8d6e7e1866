//! The pages for people: what they link to is there, their tables are whole, and what they say that the
//! tool says, it says. Reads files only.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::{Path, PathBuf};

use proc_macro2::{TokenStream, TokenTree};
use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};

/// Stands in quoted messages for names and numbers.
const ANYTHING: char = '…';

/// Above the first column of a table whose first cells quote messages.
const SAYS: &str = "it says";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// All files below a directory of the repository with this ending.
fn files(directory: &str, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut todo = vec![root().join(directory)];
    while let Some(directory) = todo.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => todo.push(path),
                false if path.to_string_lossy().ends_with(ending) => found.push(path),
                false => {}
            }
        }
    }
    found.sort();
    assert!(!found.is_empty(), "{directory} has no {ending}");
    found
}

fn pages() -> Vec<PathBuf> {
    let beside = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"].map(|name| root().join(name));
    let below = ["docs", "scripts", "vagrant"];
    let below = below.into_iter().flat_map(|name| files(name, ".md"));
    beside.into_iter().chain(below).collect()
}

fn events(text: &str) -> impl Iterator<Item = (Event<'_>, Range<usize>)> {
    Parser::new_ext(text, Options::ENABLE_TABLES).into_offset_iter()
}

/// Of a heading, as forges make it.
fn anchor(heading: &str) -> String {
    let kept = |c: &char| c.is_alphanumeric() || " -_".contains(*c);
    let kept = heading
        .to_lowercase()
        .chars()
        .filter(kept)
        .collect::<String>();
    kept.replace(' ', "-")
}

fn anchors(text: &str) -> BTreeSet<String> {
    let (mut found, mut heading) = (BTreeSet::new(), None::<String>);
    for (event, _) in events(text) {
        match event {
            Event::Start(Tag::Heading { .. }) => heading = Some(String::new()),
            Event::End(TagEnd::Heading(_)) => found.extend(heading.take().map(|h| anchor(&h))),
            Event::Text(words) | Event::Code(words) => {
                if let Some(heading) = &mut heading {
                    heading.push_str(&words);
                }
            }
            _ => {}
        }
    }
    found
}

fn links(text: &str) -> Vec<String> {
    let target = |event| match event {
        Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
            Some(dest_url.to_string())
        }
        _ => None,
    };
    events(text)
        .filter_map(|(event, _)| target(event))
        .collect()
}

/// The page that a link of `page` leads to, and the place in it; `None` for what is on the web.
fn target(page: &Path, link: &str) -> Option<(PathBuf, String)> {
    if link.contains("://") || link.starts_with("mailto:") {
        return None;
    }
    let (path, place) = link.split_once('#').unwrap_or((link, ""));
    let path = match path {
        "" => page.to_owned(),
        path => page.parent().unwrap().join(path),
    };
    Some((path, place.to_owned()))
}

#[test]
fn every_link_leads_somewhere() {
    let mut broken = Vec::new();
    for page in pages() {
        for link in links(&read(&page)) {
            let Some((path, place)) = target(&page, &link) else {
                continue;
            };
            if !path.exists() || (!place.is_empty() && !anchors(&read(&path)).contains(&place)) {
                broken.push(format!("{}: {link}", page.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn the_index_has_every_page() {
    let index = root().join("docs/README.md");
    let linked: BTreeSet<PathBuf> = links(&read(&index))
        .iter()
        .filter_map(|link| target(&index, link))
        .filter_map(|(path, _)| path.canonicalize().ok())
        .collect();
    let missing: Vec<PathBuf> = files("docs", ".md")
        .into_iter()
        .filter(|page| *page != index && !linked.contains(&page.canonicalize().unwrap()))
        .collect();
    assert!(missing.is_empty(), "{missing:#?}");
}

/// A row of a table as it is written: a `|` that isn't meant to end a cell has a backslash.
fn cells(row: &str) -> usize {
    let row = row.trim().trim_start_matches('|').trim_end_matches('|');
    let escaped = row.matches("\\|").count();
    row.matches('|').count() - escaped + 1
}

#[test]
fn every_row_has_the_cells_of_its_table() {
    let mut broken = Vec::new();
    for page in pages() {
        let text = read(&page);
        let mut wanted = 0;
        for (event, at) in events(&text) {
            match event {
                Event::Start(Tag::Table(columns)) => wanted = columns.len(),
                Event::Start(Tag::TableHead | Tag::TableRow)
                    if cells(&text[at.clone()]) != wanted =>
                {
                    broken.push(format!("{}: {}", page.display(), &text[at]));
                }
                _ => {}
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

/// What stands in back-ticks in the first cells of a page's tables of messages.
fn quotes(text: &str) -> Vec<String> {
    let (mut found, mut is_of_messages, mut is_head, mut column) = (Vec::new(), false, false, 0);
    for (event, _) in events(text) {
        match event {
            Event::Start(Tag::TableHead) => (is_head, is_of_messages, column) = (true, false, 0),
            Event::End(TagEnd::TableHead) => is_head = false,
            Event::Start(Tag::TableRow) => column = 0,
            Event::End(TagEnd::TableCell) => column += 1,
            Event::Text(words) if is_head && column == 0 => is_of_messages |= &*words == SAYS,
            Event::Code(words) if is_of_messages && column == 0 => found.push(words.to_string()),
            _ => {}
        }
    }
    found
}

fn texts_of(tokens: TokenStream, texts: &mut Vec<String>) {
    for token in tokens {
        match token {
            TokenTree::Group(group) => texts_of(group.stream(), texts),
            TokenTree::Literal(literal) => texts.extend(text_of(&literal.to_string())),
            TokenTree::Ident(_) | TokenTree::Punct(_) => {}
        }
    }
}

/// A string as the program has it, each `{…}` made one character that no page has.
fn text_of(literal: &str) -> Option<String> {
    let inner = literal.strip_prefix('"')?.strip_suffix('"')?;
    let (mut text, mut letters) = (String::new(), inner.chars().peekable());
    while let Some(letter) = letters.next() {
        match (letter, letters.peek().copied()) {
            ('\\', Some('\n')) => while letters.next_if(|c| c.is_whitespace()).is_some() {},
            ('\\', Some(escaped)) => {
                letters.next();
                text.push(escaped);
            }
            ('{', Some('{')) | ('}', Some('}')) => {
                letters.next();
                text.push(letter);
            }
            ('{', _) => {
                while letters.next_if(|c| *c != '}').is_some() {}
                letters.next();
                text.push('\0');
            }
            (other, _) => text.push(other),
        }
    }
    Some(text)
}

/// All strings of the program, without those of its tests.
fn said() -> Vec<String> {
    let mut texts = Vec::new();
    for path in files("src", ".rs") {
        if path.ends_with("tests.rs") {
            continue;
        }
        let text = read(&path);
        let program = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
        texts_of(program.parse().unwrap(), &mut texts);
    }
    texts
}

/// The fixed parts of a quote stand in one string, in order.
fn is_said(quote: &str, texts: &[String]) -> bool {
    let parts: Vec<&str> = quote.split(ANYTHING).map(str::trim).collect();
    texts.iter().any(|text| {
        let mut rest = text.as_str();
        parts.iter().all(|part| match rest.find(part) {
            Some(at) => {
                rest = &rest[at + part.len()..];
                true
            }
            None => false,
        })
    })
}

#[test]
fn quoted_messages_are_said() {
    let texts = said();
    let (mut count, mut unsaid) = (0, Vec::new());
    for page in files("docs", ".md") {
        for quote in quotes(&read(&page)) {
            count += 1;
            let longest = quote.split(ANYTHING).map(str::len).max();
            if longest < Some(8) || !is_said(&quote, &texts) {
                unsaid.push(format!("{}: {quote}", page.display()));
            }
        }
    }
    assert!(unsaid.is_empty(), "{unsaid:#?}");
    assert!(count > 100, "only {count} messages are quoted");
}

#[test]
fn a_page_that_a_message_names_is_there() {
    let mut missing = BTreeSet::new();
    for text in said() {
        for rest in text.split("docs/").skip(1) {
            let name: String = rest
                .chars()
                .take_while(|c| c.is_ascii_uppercase() || "-_".contains(*c))
                .collect();
            let is_page = rest[name.len()..].starts_with(".md");
            if is_page && !root().join(format!("docs/{name}.md")).exists() {
                missing.insert(name);
            }
        }
    }
    assert!(missing.is_empty(), "{missing:?}");
}
