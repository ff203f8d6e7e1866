//! docs/CONFIGURATION.md.

use super::{Absent, Key, Kind, Page, ROOT, Way, Word};

const HEAD: &str = "\
# Configuration

Made by `understudy config reference`; a test holds it to what the parser takes, its defaults and its words.

One file in TOML: `--config`, else `$UNDERSTUDY_CONFIG`, else `./understudy.toml`, else `/etc/understudy/understudy.toml`. `understudy config check` tells everything that is wrong with it, with line and column; an unknown key is an error. `understudy config example` prints a commented one.

- Durations: `\"90s\"`, `\"2h 30m\"`, `\"14d\"`. Sizes: `\"512MiB\"`, `\"10GiB\"`. Paths begin at the root and have no `..` in them.
- A program is a list: its path, then its arguments. No shell and no PATH come in between.
- Editors that know TOML schemas (Even Better TOML, taplo) complete and check the file with [schema/understudy.schema.json](schema/understudy.schema.json), which `understudy config schema` prints. Put this into the first line, with wherever you keep it:

```toml
#:schema /etc/understudy/understudy.schema.json
```

What the schema can't know, since it depends on several keys or on this host, only `config check` tells.
";

/// The whole page.
pub fn markdown() -> String {
    let mut text = HEAD.to_owned();
    add_page(&mut text, &ROOT);
    text
}

/// A table and those in it, in the order of their keys.
fn add_page(text: &mut String, page: &Page) {
    let header = match page.title {
        "" => "## The whole file".to_owned(),
        title => format!("## `{title}`"),
    };
    text.push_str(&format!("\n{header}\n\n{}\n", page.text));
    add_keys(text, page.keys);
    if page.ways.is_empty() {
        add_example(text, page.title, "", page.example);
    }
    for way in page.ways {
        add_way(text, page, way);
    }
    for key in page.keys {
        if let Kind::Table(inner) | Kind::Named(inner) | Kind::Tables(inner) = &key.kind {
            add_page(text, inner);
        }
    }
}

fn add_way(text: &mut String, page: &Page, way: &Way) {
    let word = way.word;
    text.push_str(&format!("\n### `way = \"{word}\"`\n\n{}\n", way.text));
    add_keys(text, way.keys);
    add_example(
        text,
        page.title,
        &format!("way = \"{word}\"\n"),
        way.example,
    );
}

fn add_keys(text: &mut String, keys: &[Key]) {
    text.push_str("\n| key | value | without it | what |\n|---|---|---|---|\n");
    for key in keys {
        let cells = [value(&key.kind), absent(key.absent), what(key)];
        let [value, absent, what] = cells.map(|cell| cell.replace('|', "\\|"));
        text.push_str(&format!(
            "| `{}` | {value} | {absent} | {what} |\n",
            key.name
        ));
    }
}

fn add_example(text: &mut String, title: &str, first: &str, example: &str) {
    let named = title
        .replace("server.NAME", "server.db2")
        .replace("pair.NAME", "pair.lab");
    let header = match named.as_str() {
        "" => String::new(),
        title => format!("{title}\n"),
    };
    text.push_str(&format!("\n```toml\n{header}{first}{example}```\n"));
}

fn value(kind: &Kind) -> String {
    match kind {
        Kind::Path => "a path".to_owned(),
        Kind::Program => "a program".to_owned(),
        Kind::Runner => "a program, or `[]`".to_owned(),
        Kind::Duration => "a duration".to_owned(),
        Kind::Share => "`\"N%\"` or a size".to_owned(),
        Kind::Count(max) => format!("0 to {max}"),
        Kind::Word(words) => listed(words),
        Kind::Words(words) => format!("a list of {}", listed(words)),
        Kind::Address => "`HOST:PORT`, `HOST` or `[IPv6]:PORT`".to_owned(),
        Kind::Text(what, _) => (*what).to_owned(),
        Kind::Server => "a server's name".to_owned(),
        Kind::Servers => "a list of servers' names".to_owned(),
        Kind::PerServer(of) => format!("for each server: {}", value(of)),
        Kind::PathMap => "a table of paths".to_owned(),
        Kind::Table(_) => "a table".to_owned(),
        Kind::Named(_) => "tables by name".to_owned(),
        Kind::Tables(_) => "a list of tables".to_owned(),
    }
}

fn listed(words: &[Word]) -> String {
    let words: Vec<String> = words.iter().map(|(word, _)| format!("`{word}`")).collect();
    words.join(", ")
}

fn absent(absent: Absent) -> String {
    match absent {
        Absent::Required => "an error".to_owned(),
        Absent::Is(value) => format!("`{value}`"),
        Absent::Means(text) => text.to_owned(),
    }
}

fn what(key: &Key) -> String {
    let inner = match &key.kind {
        Kind::Table(page) | Kind::Named(page) | Kind::Tables(page) => {
            format!(" See [`{}`](#{}).", page.title, anchor(page.title))
        }
        Kind::Word(words) | Kind::Words(words) => {
            let each = |(word, means): &Word| format!("`{word}`: {means}");
            let each: Vec<String> = words.iter().map(each).collect();
            format!(" {}.", each.join("; "))
        }
        _ => String::new(),
    };
    format!("{}{inner}", key.text)
}

/// As GitHub makes it of a header.
fn anchor(title: &str) -> String {
    let kept = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    title.to_lowercase().chars().filter(|c| kept(*c)).collect()
}
