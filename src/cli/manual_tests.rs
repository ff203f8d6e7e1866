//! Every command that a page, a hint or a comment names is one that this command line takes.

use std::path::Path;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};

use super::Cli;
use crate::sys::pages::{Block, blocks_of, pages};

/// Words that stand for one of the user's, and what they are tried with where any word won't do.
const STANDS_FOR: [(&str, &str); 9] = [
    ("DURATION", "1h"),
    ("NAME=VALUE", "a=b"),
    ("K=V", "a=b"),
    ("N", "1"),
    ("LEVEL", "boot"),
    ("SHELL", "bash"),
    ("BACKEND", "copy"),
    ("…", "x"),
    ("...", "x"),
];

/// Tries one; what is wrong with it, or nothing. In running text what has to follow may be missing.
fn complaint(words: &[String], in_text: bool) -> Option<String> {
    let substituted = words.iter().map(|word| {
        let known = STANDS_FOR.iter().find(|(name, _)| name == word);
        known.map_or(word.clone(), |(_, value)| (*value).to_owned())
    });
    let argv: Vec<String> = std::iter::once("understudy".to_owned())
        .chain(substituted)
        .collect();
    let error = Cli::try_parse_from(&argv).err()?;
    let is_shortened = matches!(
        error.kind(),
        ErrorKind::MissingRequiredArgument
            | ErrorKind::MissingSubcommand
            | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
    ) || error.to_string().contains("but none was supplied");
    let is_none = matches!(
        error.kind(),
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion
    );
    let is_fine = is_none || is_shortened && in_text;
    (!is_fine).then(|| error.to_string())
}

/// The simple commands of a line of shell, each as its words; what comes behind `>` is left out.
fn commands_of(line: &str) -> Vec<Vec<String>> {
    let mut commands = vec![Vec::new()];
    let mut word: Option<String> = None;
    let mut quote: Option<char> = None;
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (Some(_), c) => word.get_or_insert_default().push(c),
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, '\\') => word.get_or_insert_default().extend(chars.next()),
            (None, '#') if word.is_none() => break,
            (None, ';' | '|' | '&' | '(' | ')') => {
                commands.last_mut().unwrap().extend(word.take());
                commands.push(Vec::new());
            }
            (None, '>' | '<') => {
                // A number of a descriptor, and the file.
                word = word.filter(|word| !word.chars().all(|c| c.is_ascii_digit()));
                commands.last_mut().unwrap().extend(word.take());
                while chars
                    .next_if(|c| matches!(c, '>' | '&' | ' ' | '<'))
                    .is_some()
                {}
                while chars
                    .next_if(|c| !c.is_whitespace() && *c != ';' && *c != '|')
                    .is_some()
                {}
            }
            (None, c) if c.is_whitespace() => commands.last_mut().unwrap().extend(word.take()),
            (None, c) => word.get_or_insert_default().push(c),
        }
    }
    commands.last_mut().unwrap().extend(word);
    commands
}

/// The arguments, where a simple command is ours.
fn ours(words: &[String]) -> Option<&[String]> {
    let before = |word: &String| {
        matches!(
            word.as_str(),
            "sudo" | "nice" | "time" | "$" | "#" | "if" | "!" | "until" | "do" | "then"
        ) || word.split_once('=').is_some_and(|(name, _)| {
            !name.is_empty() && name.chars().all(|c| c.is_ascii_uppercase() || c == '_')
        })
    };
    let first = words.iter().position(|word| !before(word))?;
    if words[first] == "understudy" {
        return Some(&words[first + 1..]);
    }
    // Of a unit or a line of cron.
    let by_path = words
        .iter()
        .position(|word| word.ends_with("/bin/understudy"))?;
    Some(&words[by_path + 1..])
}

/// The lines of a block that are commands, whole where they go on.
fn lines_of(block: &Block) -> Vec<String> {
    let joined = block.text.replace("\\\n", " ");
    let shows_output = joined.lines().any(|line| line.starts_with("$ "));
    let is_command = |line: &&str| !shows_output || line.starts_with("$ ");
    let lines = joined.lines().filter(is_command);
    lines
        .map(|line| line.strip_prefix("$ ").unwrap_or(line).to_owned())
        .collect()
}

#[test]
fn every_command_in_a_block_of_a_page_is_taken() {
    let (mut wrong, mut seen) = (Vec::new(), 0);
    for (page, text) in pages() {
        for block in blocks_of(&page, &text) {
            if matches!(
                block.language.as_str(),
                "sql" | "json" | "toml" | "mermaid" | "yaml"
            ) {
                continue;
            }
            for line in lines_of(&block) {
                for command in commands_of(&line) {
                    let Some(args) = ours(&command) else {
                        continue;
                    };
                    seen += 1;
                    let complaint = complaint(args, false);
                    wrong.extend(complaint.map(|why| format!("{}: {line}\n{why}", block.place)));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(seen > 20, "only {seen} commands were found");
}

/// What stands between single back-ticks, outside of blocks.
fn spans(text: &str) -> Vec<String> {
    let mut spans = Vec::new();
    let mut in_block = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            in_block = !in_block;
        } else if !in_block {
            spans.extend(line.split('`').skip(1).step_by(2).map(str::to_owned));
        }
    }
    spans
}

/// As a synopsis has it: brackets go, of alternatives the first stays, and so does one placeholder.
fn words_of(span: &str) -> Vec<String> {
    let plain = span.replace(['[', ']', '(', ')'], " ").replace("\\|", "|");
    let end = ["||", "&&", " > "]
        .iter()
        .filter_map(|mark| plain.find(mark))
        .min();
    let words = plain[..end.unwrap_or(plain.len())].split_whitespace();
    let first = |word: &str| word.split('|').next().unwrap_or_default().to_owned();
    words.map(first).filter(|word| !word.is_empty()).collect()
}

/// A hint's own placeholders become words.
fn filled(span: &str) -> String {
    let mut out = String::new();
    let mut rest = span;
    while let Some((before, inner)) = rest.split_once('{') {
        let Some((_, after)) = inner.split_once('}') else {
            break;
        };
        out.push_str(before);
        out.push('x');
        rest = after;
    }
    out + rest
}

#[test]
fn every_command_in_the_running_text_is_taken() {
    let (mut wrong, mut seen) = (Vec::new(), 0);
    for (page, text) in pages() {
        for span in spans(&text) {
            let Some(rest) = span.strip_prefix("understudy ") else {
                continue;
            };
            seen += 1;
            let complaint = complaint(&words_of(rest), true);
            wrong.extend(complaint.map(|why| format!("{}: `{span}`\n{why}", page.display())));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(seen > 50, "only {seen} commands were found");
}

/// A cure that isn't taken is worse than none.
#[test]
fn every_command_that_a_message_names_is_taken() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (mut wrong, mut seen) = (Vec::new(), 0);
    let mut directories = vec![root];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(&directory).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                directories.push(path);
                continue;
            }
            let text = std::fs::read_to_string(&path)
                .unwrap()
                .replace("\\\n", "\n");
            // A text of several lines is one line.
            let text = text
                .split('\n')
                .map(|line| line.trim().trim_start_matches(['/', '!']).trim_start())
                .collect::<Vec<_>>()
                .join(" ");
            for span in text.split('`').skip(1) {
                let Some(rest) = span.strip_prefix("understudy ") else {
                    continue;
                };
                let rest = filled(rest);
                if rest.contains(['"', '\\']) || rest.len() > 120 {
                    continue;
                }
                seen += 1;
                let complaint = complaint(&words_of(&rest), true);
                wrong.extend(complaint.map(|why| format!("{}: `{rest}`\n{why}", path.display())));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(seen > 50, "only {seen} commands were found");
}

/// `snapshot restore ID --in-place`, without our name before it: its options are that command's.
#[test]
fn every_option_of_a_command_in_the_running_text_is_its_own() {
    let root = Cli::command();
    let (mut wrong, mut seen) = (Vec::new(), 0);
    for (page, text) in pages() {
        for span in spans(&text) {
            let words = words_of(&span);
            let mut command = &root;
            for word in &words {
                match command.find_subcommand(word) {
                    Some(inner) => command = inner,
                    None => break,
                }
            }
            if std::ptr::eq(command, &root) || !span.contains(" --") {
                continue;
            }
            let is_known = |option: &str| {
                let all = command.get_arguments().chain(root.get_arguments());
                let mut all = all.filter_map(|argument| argument.get_long());
                all.any(|long| long == option) || option == "help"
            };
            for option in words.iter().filter_map(|word| word.strip_prefix("--")) {
                let name = option.split('=').next().unwrap_or_default();
                seen += 1;
                if !is_known(name) {
                    wrong.push(format!("{}: `{span}`: no --{name}", page.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(seen > 30, "only {seen} options were found");
}
