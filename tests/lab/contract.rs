//! Every JSON document that the real binary prints in a test is held to docs/schema/, and there a member
//! that no schema knows is a fault as well.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use boon::{Compiler, SchemaIndex, Schemas};
use serde_json::{Value, json};

/// Those that print JSON which is no document, or none.
const OTHERS: [&str; 5] = [
    "config schema",
    "config reference",
    "config example",
    "completions",
    "man",
];

/// Built in: the emulated machine has no docs/.
macro_rules! schemas {
    ($($name:literal),* $(,)?) => {
        [$(($name, include_str!(concat!("../../docs/schema/", $name, ".schema.json")))),*]
    };
}

/// `src/cli/contract_tests.rs` holds that none is missing.
const SCHEMAS: [(&str, &str); 31] = schemas![
    "accepted",
    "check",
    "config",
    "doctor",
    "error",
    "extract",
    "failover",
    "grants",
    "heartbeat",
    "history",
    "init",
    "methods",
    "mount",
    "notify",
    "pause",
    "pruned",
    "recover",
    "rejoin",
    "repoint",
    "restore",
    "restore-plan",
    "resume",
    "run",
    "run-plan",
    "setup",
    "snapshot",
    "snapshot-create-plan",
    "snapshot-verify-plan",
    "snapshots",
    "status",
    "unmounted"
];

struct Kept {
    /// What tells it.
    member: String,
    commands: Vec<String>,
    index: SchemaIndex,
}

struct Contract {
    schemas: Schemas,
    by_name: BTreeMap<&'static str, Kept>,
}

/// Holds what a command printed; whatever is no JSON isn't looked at.
#[track_caller]
pub fn hold(args: &str, stdout: &str) {
    let Ok(document) = serde_json::from_str::<Value>(stdout) else {
        return;
    };
    if !document.is_object() {
        return;
    }
    if let Err(complaint) = contract().judge(args, document) {
        panic!("understudy {args}: {complaint}\nstdout: {stdout}");
    }
}

/// Holds a document that comes another way, by its schema's name.
#[track_caller]
pub fn hold_as(name: &str, document: &Value) {
    let kept = &contract().by_name[name];
    if let Err(complaint) = contract().validate(name, kept, document) {
        panic!("{complaint}\n{document:#}");
    }
}

fn contract() -> &'static Contract {
    static CONTRACT: OnceLock<Contract> = OnceLock::new();
    CONTRACT.get_or_init(Contract::read)
}

impl Contract {
    fn read() -> Self {
        let (mut schemas, mut compiler) = (Schemas::new(), Compiler::new());
        compiler.enable_format_assertions();
        let mut by_name = BTreeMap::new();
        for (name, text) in SCHEMAS {
            let mut schema: Value = serde_json::from_str(text).unwrap();
            let texts = |value: &Value| -> Vec<String> {
                let texts = value.as_array().unwrap().iter();
                texts
                    .map(|text| text.as_str().unwrap().to_owned())
                    .collect()
            };
            let member = schema["x-member"].as_str().unwrap().to_owned();
            let commands = texts(&schema["x-commands"]);
            close(&mut schema);
            compiler.add_resource(name, schema).unwrap();
            let index = compiler.compile(name, &mut schemas).unwrap();
            let kept = Kept {
                member,
                commands,
                index,
            };
            by_name.insert(name, kept);
        }
        Self { schemas, by_name }
    }

    /// The error, and beside it or without it the command's own document.
    fn judge(&self, args: &str, mut document: Value) -> Result<(), String> {
        let members = document.as_object_mut().unwrap();
        if let Some(error) = members.remove("error") {
            let alone = json!({"error": error});
            self.validate("error", &self.by_name["error"], &alone)?;
            if members.is_empty() {
                return Ok(());
            }
        }
        let command = command_of(args);
        if OTHERS.contains(&command.as_str()) {
            return Ok(());
        }
        let mine = |kept: &&Kept| kept.commands.contains(&command);
        let known = self
            .by_name
            .iter()
            .find(|(_, kept)| mine(kept) && document.get(&kept.member).is_some());
        match known {
            Some((name, kept)) => self.validate(name, kept, &document),
            None => {
                let names: Vec<&String> = document.as_object().unwrap().keys().collect();
                Err(format!(
                    "no schema of docs/schema/ is of {command:?} with {names:?}"
                ))
            }
        }
    }

    fn validate(&self, name: &str, kept: &Kept, document: &Value) -> Result<(), String> {
        let judged = self.schemas.validate(document, kept.index);
        judged.map_err(|error| format!("it breaks docs/schema/{name}.schema.json: {error}"))
    }
}

/// Its first word, or two where it is a group; options before it aren't of it.
fn command_of(args: &str) -> String {
    let mut words = args
        .split_whitespace()
        .filter(|word| !word.starts_with('-'));
    let first = words.next().unwrap_or_default();
    match first {
        "snapshot" | "config" => format!("{first} {}", words.next().unwrap_or_default()),
        first => first.to_owned(),
    }
}

/// The schemas allow what may come in a later version; a test doesn't.
fn close(schema: &mut Value) {
    match schema {
        Value::Object(object) => {
            if object.contains_key("properties") && !object.contains_key("additionalProperties") {
                object.insert("additionalProperties".to_owned(), json!(false));
            }
            object.values_mut().for_each(close);
        }
        Value::Array(list) => list.iter_mut().for_each(close),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[test]
fn what_breaks_a_schema_is_told_with_its_path() {
    let refused = |args: &str, document: Value, wanted: &str| {
        let complaint = contract().judge(args, document).unwrap_err();
        assert!(complaint.contains(wanted), "{complaint}");
    };
    let error = |kind: &str| json!({"kind": kind, "message": "x", "hints": []});
    let fine = json!({"error": error("failed"), "recovered": [], "dry_run": false});
    contract().judge("-v recover db2", fine).unwrap();
    let step = json!({"operation": "x", "server": "db2", "actions": [1]});
    let odd = json!({"recovered": [step], "dry_run": false});
    refused("status", json!({"error": error("odd")}), "/error/kind");
    refused("recover", odd, "/recovered/0/actions/0");
    refused("recover", json!({"recovered": []}), "dry_run");
    let more = json!({"recovered": [], "dry_run": false, "more": 1});
    refused("recover", more, "more");
    refused(
        "status",
        json!({"recovered": [], "dry_run": false}),
        "status",
    );
}
