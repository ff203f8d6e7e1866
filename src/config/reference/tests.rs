//! What is described is what the parser does.

use std::path::Path;

use boon::{Compiler, SchemaIndex, Schemas};
use serde_json::Value;

use super::*;
use crate::config::parse;

/// A schema that is ready to judge.
struct Judge {
    schemas: Schemas,
    index: SchemaIndex,
}

impl Judge {
    fn new() -> Self {
        let (mut schemas, mut compiler) = (Schemas::new(), Compiler::new());
        let place = "understudy.schema.json";
        compiler.add_resource(place, schema()).unwrap();
        let index = compiler.compile(place, &mut schemas).unwrap();
        Self { schemas, index }
    }

    /// What is wrong with a file, or nothing.
    fn complaint(&self, text: &str) -> Option<String> {
        let value: Value = toml::from_str(text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        let judged = self.schemas.validate(&value, self.index);
        judged.err().map(|error| error.to_string())
    }
}

/// That a file which the parser takes is good by the schema, too.
pub(in crate::config) fn hold(text: &str) {
    thread_local!(static JUDGE: Judge = Judge::new());
    JUDGE.with(|judge| {
        if let Some(complaint) = judge.complaint(text) {
            panic!("the parser takes it, the schema doesn't: {complaint}\n{text}");
        }
    });
}

const SERVERS: &str =
    "[server.db1]\naddress = \"192.0.2.1\"\n[server.db2]\naddress = \"192.0.2.2\"\n";
const LAB: &str = "[pair.lab]\nsource = \"db1\"\nreplicas = [\"db2\"]\n";

/// A good file with these lines in a table, its own key `key` among them.
fn file_with(page: &Page, way: &str, key: &str, lines: &str) -> String {
    let header = page.title.replace("NAME", "db9");
    let pair = page.title.replace("pair.NAME", "pair.lab");
    match page.title {
        "" => format!("{lines}\n{SERVERS}"),
        "[notify]" => format!("{SERVERS}{header}\n{lines}\n"),
        "[server.NAME]" if key == "address" || key == "socket" => {
            format!("{SERVERS}{header}\n{lines}\n")
        }
        "[server.NAME]" => format!("{SERVERS}{header}\naddress = \"192.0.2.9\"\n{lines}\n"),
        "[pair.NAME]" => format!("{SERVERS}[pair.lab]\n{lines}\n"),
        "[pair.NAME.failover]" => format!("{SERVERS}{LAB}{pair}\n{lines}\n"),
        "[[pair.NAME.reroute]]" => {
            let way = if key == "way" {
                String::new()
            } else {
                format!("way = \"{way}\"\n")
            };
            format!("{SERVERS}{LAB}{pair}\n{way}{lines}\n")
        }
        _ => format!("{SERVERS}[server.db9]\naddress = \"192.0.2.9\"\n{header}\n{lines}\n"),
    }
}

/// Everything that is described: its table, its way, and the keys that stand beside it.
fn every_key() -> Vec<(&'static Page, &'static str, &'static [Key], &'static Key)> {
    fn walk(
        page: &'static Page,
        all: &mut Vec<(&'static Page, &'static str, &'static [Key], &'static Key)>,
    ) {
        for key in page.keys {
            match &key.kind {
                Kind::Table(inner) | Kind::Named(inner) | Kind::Tables(inner) => walk(inner, all),
                _ => {}
            }
            if page.ways.is_empty() {
                all.push((page, "", page.keys, key));
            }
        }
        for way in page.ways {
            let keys = page.keys.iter().chain(way.keys);
            all.extend(keys.map(|key| (page, way.word, way.keys, key)));
        }
    }
    let mut all = Vec::new();
    walk(&ROOT, &mut all);
    all
}

/// What else has to stand there so that a key may, by its table's rules and the parser's.
fn beside(way: &str, keys: &[Key], key: &Key) -> String {
    let mut wanted: Vec<&str> = match key.name {
        "tls_ca" => return "tls = \"verify-ca\"\n".to_owned(),
        "start" => vec!["stop"],
        "stop" => vec!["start"],
        "container" => vec!["runtime"],
        "runtime" => vec!["container"],
        _ => Vec::new(),
    };
    let required = keys
        .iter()
        .filter(|one| matches!(one.absent, Absent::Required) && !one.example.is_empty());
    wanted.extend(required.map(|one| one.name));
    if way == "haproxy" && key.name != "server" && key.name != "servers" {
        wanted.push("server");
    }
    if way == "haproxy" && key.name != "addresses" && key.name != "servers" {
        wanted.push("addresses");
    }
    let line = |name: &str| {
        let one = keys.iter().find(|one| one.name == name).unwrap();
        format!("{name} = {}\n", one.example)
    };
    let others = wanted.into_iter().filter(|name| *name != key.name);
    others.map(line).collect()
}

fn messages(text: &str) -> Vec<String> {
    match parse(text, Path::new("u.toml")) {
        Ok(_) => Vec::new(),
        Err(errors) => errors
            .issues
            .iter()
            .map(|issue| issue.message.clone())
            .collect(),
    }
}

/// A file with one key, and what has to be beside it.
fn file_of(page: &Page, way: &str, keys: &[Key], key: &Key, value: &str) -> String {
    let mut lines = beside(way, keys, key);
    if key.name == "way" {
        let way = value.trim_matches('"');
        let page_way = page.ways.iter().find(|one| one.word == way);
        let own = page_way.map_or(&[] as &[Key], |way| way.keys);
        lines = beside(way, own, key);
    }
    if matches!((key.name, value), ("tls", v) if v.contains("verify")) {
        lines.push_str("tls_ca = \"/ca.pem\"\n");
    }
    if key.name == "backend"
        && (value.contains("reflink") || value == "\"copy\"" || value == "\"dump\"")
    {
        lines.push_str("directory = \"/srv/snapshots\"\n");
    }
    if page.title == "[server.NAME.snapshot]" && value == "\"stop\"" {
        let service = "[server.db9.service]\nunit = \"mariadb.service\"";
        return file_with(
            page,
            way,
            key.name,
            &format!("{} = {value}\n{service}", key.name),
        );
    }
    file_with(
        page,
        way,
        key.name,
        &format!("{lines}{} = {value}", key.name),
    )
}

#[test]
fn every_example_is_taken_by_the_parser_and_by_the_schema() {
    let judge = Judge::new();
    for (page, way, keys, key) in every_key() {
        if key.example.is_empty() {
            continue;
        }
        let value = if key.name == "way" {
            format!("{way:?}")
        } else {
            key.example.to_owned()
        };
        let text = file_of(page, way, keys, key, &value);
        assert_eq!(messages(&text), [""; 0], "{text}");
        assert_eq!(judge.complaint(&text), None, "{text}");
    }
}

/// Without it the words of the manual and those of the parser could part.
#[test]
fn the_words_are_all_that_the_parser_knows() {
    let judge = Judge::new();
    for (page, way, keys, key) in every_key() {
        let (words, value): (_, fn(&str) -> String) = match &key.kind {
            Kind::Word(words) => (words, |word| format!("{word:?}")),
            Kind::Words(words) => (words, |word| format!("[{word:?}]")),
            _ => continue,
        };
        for (word, _) in *words {
            let text = file_of(page, way, keys, key, &value(word));
            assert_eq!(messages(&text), [""; 0], "{text}");
            assert_eq!(judge.complaint(&text), None, "{text}");
        }
        let text = file_of(page, way, keys, key, &value("no-such-word"));
        let issues = parse(&text, Path::new("u.toml")).unwrap_err().issues;
        let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        let hint = format!("Known: {}.", known.join(", "));
        let hints: Vec<_> = issues
            .iter()
            .filter_map(|issue| issue.hint.as_deref())
            .collect();
        assert_eq!(hints, [hint.as_str()], "{text}");
        assert!(judge.complaint(&text).is_some(), "{text}");
    }
}

/// A default that is written into the file changes nothing.
#[test]
fn defaults_are_what_is_written() {
    for (page, way, keys, key) in every_key() {
        let Absent::Is(value) = key.absent else {
            continue;
        };
        let with = file_of(page, way, keys, key, value);
        let without = with.replace(&format!("{} = {value}", key.name), "");
        assert_ne!(with, without, "{}", key.name);
        let read = |text: &str| format!("{:?}", parse(text, Path::new("u.toml")).unwrap());
        assert_eq!(read(&with), read(&without), "{with}");
    }
}

/// What is required is missed by both.
#[test]
fn a_required_key_is_missed() {
    let judge = Judge::new();
    for (page, way, keys, key) in every_key() {
        if !matches!(key.absent, Absent::Required) || key.example.is_empty() {
            continue;
        }
        let value = if key.name == "way" {
            format!("{way:?}")
        } else {
            key.example.to_owned()
        };
        let text = file_of(page, way, keys, key, &value);
        let without = text.replace(&format!("{} = {value}", key.name), "");
        assert!(!messages(&without).is_empty(), "{without}");
        assert!(judge.complaint(&without).is_some(), "{without}");
    }
}

/// A value of another sort, and a key that nobody knows: both refuse both.
#[test]
fn what_the_parser_refuses_by_its_sort_the_schema_refuses_too() {
    let judge = Judge::new();
    for (page, way, keys, key) in every_key() {
        for wrong in ["true", "{ x = 1 }", "[1]", "-1"] {
            if matches!(key.kind, Kind::Named(_)) {
                continue;
            }
            let text = file_of(page, way, keys, key, wrong);
            assert!(!messages(&text).is_empty(), "{text}");
            assert!(judge.complaint(&text).is_some(), "{text}");
        }
        let text = file_with(page, way, "no_such_key", "no_such_key = 1");
        let message = messages(&text).join("\n");
        assert!(
            message.contains("unknown key \"no_such_key\""),
            "{text}\n{message}"
        );
        assert!(judge.complaint(&text).is_some(), "{text}");
    }
}

/// Alternatives, and keys that need each other.
#[test]
fn keys_that_exclude_or_need_each_other_do_so_in_both() {
    let judge = Judge::new();
    let refused = |text: &str| {
        assert!(!messages(text).is_empty(), "{text}");
        assert!(judge.complaint(text).is_some(), "{text}");
    };
    let line = |keys: &[Key], name: &str| {
        let key = keys.iter().find(|key| key.name == name).unwrap();
        format!("{name} = {}\n", key.example)
    };
    for (page, way, keys, key) in every_key() {
        let way_of = page.ways.iter().find(|one| one.word == way);
        let one_of = way_of.map_or(page.one_of, |way| way.one_of);
        if one_of.first() == Some(&key.name) {
            let both: String = one_of.iter().map(|name| line(keys, name)).collect();
            refused(&file_with(page, way, key.name, &both));
            refused(&file_with(page, way, key.name, ""));
        }
        if page.needs.iter().any(|(first, _)| *first == key.name) {
            refused(&file_with(page, way, key.name, &line(keys, key.name)));
        }
    }
}

#[test]
fn the_example_is_good_by_the_schema() {
    hold(crate::config::example());
}

/// With UPDATE_DOCS set it writes both instead.
#[test]
fn docs_have_the_reference_and_the_schema() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    let schema = serde_json::to_string_pretty(&schema()).unwrap() + "\n";
    for (name, text) in [
        ("CONFIGURATION.md", markdown()),
        ("schema/understudy.schema.json", schema),
    ] {
        let path = root.join(name);
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, text).unwrap();
        } else {
            let own = std::fs::read_to_string(&path).unwrap_or_default();
            assert!(
                own == text,
                "{name}: run UPDATE_DOCS=1 cargo test --lib docs_have"
            );
        }
    }
}

/// A table of the docs is a part of a file: the rest is added, and the whole is taken by both.
#[test]
fn every_block_of_configuration_in_the_docs_is_good() {
    let judge = Judge::new();
    let mut seen = 0;
    let blocks = crate::sys::pages::blocks().into_iter();
    for block in blocks.filter(|block| block.language == "toml") {
        let (place, block) = (block.place, block.text);
        let Ok(mut value) = toml::from_str::<toml::Table>(&block) else {
            panic!("{place}: it is no TOML\n{block}");
        };
        if block
            .lines()
            .all(|line| line.starts_with('#') || line.is_empty())
        {
            continue;
        }
        complete(&mut value);
        let text = toml::to_string(&value).unwrap();
        assert_eq!(messages(&text), [""; 0], "{place}\n{text}");
        assert_eq!(judge.complaint(&text), None, "{place}\n{text}");
        seen += 1;
    }
    assert!(seen > 10, "only {seen} blocks were found");
}

/// Adds addresses, servers and pairs that a part of a file has no place for.
fn complete(value: &mut toml::Table) {
    let table = |text: &str| toml::from_str::<toml::Table>(text).unwrap();
    let empty = || toml::Value::Table(toml::Table::new());
    let servers = value.entry("server").or_insert_with(empty);
    let servers = servers.as_table_mut().unwrap();
    for name in ["db1", "db2", "db3", "db4"] {
        let server = servers
            .entry(name)
            .or_insert_with(empty)
            .as_table_mut()
            .unwrap();
        if !server.contains_key("address") && !server.contains_key("socket") {
            let number = &name[2..];
            server.extend(table(&format!("address = \"192.0.2.{number}\"")));
        }
    }
    let Some(pairs) = value.get_mut("pair").and_then(toml::Value::as_table_mut) else {
        return;
    };
    for (_, pair) in pairs.iter_mut() {
        let pair = pair.as_table_mut().unwrap();
        if pair.contains_key("source") {
            continue;
        }
        let names = pair.to_string();
        let more = ["db2", "db3", "db4"]
            .into_iter()
            .filter(|name| *name == "db2" || names.contains(name));
        let replicas: Vec<&str> = more.collect();
        pair.extend(table(&format!("source = \"db1\"\nreplicas = {replicas:?}")));
    }
}
