//! The schema for editors: JSON Schema, draft 7, which taplo reads.

use serde_json::{Map, Value, json};

use super::{Absent, Key, Kind, Page, ROOT, Way};

/// As `humantime` reads them, roughly: a mistake in a unit is found, not every one.
const DURATION: &str = "^ *(0|([0-9]+ *(ns|nsec|us|usec|ms|msec|millis|s|sec|secs|second|seconds|m|min|mins|minute|minutes|h|hr|hrs|hour|hours|d|day|days|w|week|weeks|wk|wks|M|month|months|y|year|years|yr|yrs) *)+)$";
const SHARE: &str = "^ *([0-9]{1,3} *%|[0-9]+ *[kKmMgGtT]?[iI]?[bB]) *$";
const NAME: &str = "^[A-Za-z0-9][A-Za-z0-9_.-]{0,39}$";
const ADDRESS: &str = r"^(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9_.][A-Za-z0-9_.-]*)(:[0-9]{1,5})?$";

/// The schema of a whole file.
pub fn schema() -> Value {
    let mut schema = of_page(&ROOT);
    if let Some(schema) = schema.as_object_mut() {
        schema.insert(
            "$schema".to_owned(),
            json!("http://json-schema.org/draft-07/schema#"),
        );
        schema.insert("title".to_owned(), json!("understudy.toml"));
    }
    schema
}

fn of_page(page: &Page) -> Value {
    if page.ways.is_empty() {
        return of_table(page.text, page.keys, page.one_of, page.needs);
    }
    let each = |way: &Way| {
        let mut table = of_table(way.text, page.keys, way.one_of, page.needs);
        table["properties"]["way"] = json!({"const": way.word, "description": way.text});
        for key in way.keys {
            table["properties"][key.name] = of_key(key);
        }
        table["required"] = required(page.keys.iter().chain(way.keys));
        table
    };
    let ways: Vec<Value> = page.ways.iter().map(each).collect();
    json!({"description": plain(page.text), "oneOf": ways})
}

fn of_table(text: &str, keys: &[Key], one_of: &[&str], needs: &[(&str, &str)]) -> Value {
    let properties: Map<String, Value> = keys
        .iter()
        .map(|key| (key.name.to_owned(), of_key(key)))
        .collect();
    let mut table = json!({
        "type": "object",
        "description": plain(text),
        "properties": properties,
        "required": required(keys.iter()),
        "additionalProperties": false,
    });
    if !one_of.is_empty() {
        let each: Vec<Value> = one_of
            .iter()
            .map(|key| json!({"required": [key]}))
            .collect();
        table["oneOf"] = json!(each);
    }
    if !needs.is_empty() {
        let each: Map<String, Value> = needs
            .iter()
            .map(|(key, needed)| ((*key).to_owned(), json!([needed])))
            .collect();
        table["dependencies"] = json!(each);
    }
    table
}

fn required<'k>(keys: impl Iterator<Item = &'k Key>) -> Value {
    keys.filter(|key| matches!(key.absent, Absent::Required))
        .map(|key| key.name)
        .collect()
}

fn of_key(key: &Key) -> Value {
    let mut schema = of_kind(&key.kind);
    let mut text = plain(key.text);
    if let Absent::Means(what) = key.absent {
        text.push_str(&format!(" Without it: {}.", plain(what)));
    }
    if let Kind::Word(words) | Kind::Words(words) = &key.kind {
        for (word, means) in *words {
            text.push_str(&format!("\n{word}: {}", plain(means)));
        }
    }
    schema["description"] = json!(text);
    if let Absent::Is(value) = key.absent {
        schema["default"] = of_toml(value);
    }
    if !key.example.is_empty() {
        schema["examples"] = json!([of_toml(key.example)]);
    }
    schema
}

fn of_kind(kind: &Kind) -> Value {
    let text = |pattern: &str| json!({"type": "string", "pattern": pattern});
    match kind {
        Kind::Path => text("^/"),
        Kind::Program => json!({
            "type": "array", "minItems": 1, "items": [text("^/")], "additionalItems": {"type": "string"},
        }),
        Kind::Runner => json!({
            "type": "array", "items": [text("^/")], "additionalItems": {"type": "string"},
        }),
        Kind::Duration => text(DURATION),
        Kind::Share => text(SHARE),
        Kind::Count(max) => json!({"type": "integer", "minimum": 0, "maximum": max}),
        Kind::Word(words) => {
            json!({"enum": words.iter().map(|(word, _)| word).collect::<Vec<_>>()})
        }
        Kind::Words(words) => json!({"type": "array", "items": {
            "enum": words.iter().map(|(word, _)| word).collect::<Vec<_>>(),
        }}),
        Kind::Address => text(ADDRESS),
        Kind::Text(_, pattern) => text(pattern),
        Kind::Server => text(NAME),
        Kind::Servers => json!({"type": "array", "items": text(NAME)}),
        Kind::PerServer(of) => json!({
            "type": "object", "propertyNames": {"pattern": NAME}, "additionalProperties": of_kind(of),
        }),
        Kind::PathMap => json!({
            "type": "object", "propertyNames": {"pattern": "^/"}, "additionalProperties": text("^/"),
        }),
        Kind::Table(page) => of_page(page),
        Kind::Named(page) => json!({
            "type": "object", "propertyNames": {"pattern": NAME}, "additionalProperties": of_page(page),
        }),
        Kind::Tables(page) => json!({"type": "array", "items": of_page(page)}),
    }
}

/// A value of ours, which the tests parse; `null` would be a slip of theirs.
fn of_toml(value: &str) -> Value {
    let table = toml::from_str::<Map<String, Value>>(&format!("it = {value}"));
    table
        .ok()
        .and_then(|mut table| table.remove("it"))
        .unwrap_or(Value::Null)
}

/// Without the marks of Markdown: links become their text.
fn plain(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, link)) = rest.split_once('[') {
        let Some((words, after)) = link.split_once("](") else {
            break;
        };
        let end = after.find(')').map_or(after.len(), |end| end + 1);
        out.push_str(before);
        out.push_str(words);
        rest = &after[end..];
    }
    out.push_str(rest);
    out.replace('`', "")
}
