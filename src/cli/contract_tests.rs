//! The JSON that commands print, as schemas: docs/schema/ and the table of docs/JSON.md are made from here,
//! from the types that are written. In tests alone; `tests/lab/contract.rs` holds what the real binary
//! prints to the files.

use std::path::{Path, PathBuf};

use schemars::generate::{SchemaGenerator, SchemaSettings};
use schemars::{JsonSchema, Schema};
use serde_json::{Value, json};

use super::failure::Kind;
use crate::config::{BackendChoice, Consistency, NotifyEvent};
use crate::failover::{rejoin, repoint, report};
use crate::health::check::Check;
use crate::health::heartbeat;
use crate::health::report::PairReport;
use crate::journal::recover::Recovered;
use crate::nightly::record::Record;
use crate::nightly::trend::Trend;
use crate::replication::setup;
use crate::replication::warning::Warning;
use crate::server::identity::Identity;
use crate::snapshot::keep::lifecycle::Pruned;
use crate::snapshot::keep::mount_record::MountRecord;
use crate::snapshot::manifest::{Level, Manifest};
use crate::snapshot::restore::{directory::Restored, extract::Extracted, in_place::RolledBack};
use crate::snapshot::take::{manual::PauseReport, plan::PlannedStep, preflight::Taken};
use crate::volume::BackendKind;

/// A document: its file's name, what it is, the member that tells it, and who prints it.
struct Document {
    name: &'static str,
    what: &'static str,
    member: &'static str,
    commands: &'static [&'static str],
    make: fn(&mut SchemaGenerator) -> Schema,
}

const fn document<T: JsonSchema>(
    name: &'static str,
    member: &'static str,
    commands: &'static [&'static str],
    what: &'static str,
) -> Document {
    Document {
        name,
        what,
        member,
        commands,
        make: T::json_schema,
    }
}

const ALL: &[Document] = &[
    document::<ErrorDocument>(
        "error",
        "error",
        &["every command"],
        "a failure; what was done up to then may stand beside it, as the command's own document has it",
    ),
    document::<SnapshotDocument>(
        "snapshot",
        "snapshot",
        &[
            "snapshot create",
            "snapshot show",
            "snapshot verify",
            "snapshot hold",
            "snapshot release",
            "snapshot delete",
        ],
        "one snapshot",
    ),
    document::<SnapshotsDocument>(
        "snapshots",
        "snapshots",
        &["snapshot list"],
        "all of them, the newest first",
    ),
    document::<CreatePlan>(
        "snapshot-create-plan",
        "plan",
        &["snapshot create"],
        "`--dry-run` of it",
    ),
    document::<VerifyPlan>(
        "snapshot-verify-plan",
        "plan",
        &["snapshot verify"],
        "`--dry-run` of it",
    ),
    document::<MountDocument>(
        "mount",
        "mount",
        &["snapshot mount"],
        "what is mounted, and where",
    ),
    document::<UnmountedDocument>(
        "unmounted",
        "unmounted",
        &["snapshot unmount"],
        "what isn't any more",
    ),
    document::<ExtractDocument>(
        "extract",
        "extract",
        &["snapshot extract"],
        "tables as they were",
    ),
    document::<RestoreDocument>(
        "restore",
        "restore",
        &["snapshot restore"],
        "with `--to` a copy, with `--in-place` the server's own data",
    ),
    document::<RestorePlan>(
        "restore-plan",
        "plan",
        &["snapshot restore"],
        "`--in-place --dry-run`",
    ),
    document::<PrunedDocument>(
        "pruned",
        "pruned",
        &["snapshot prune"],
        "each snapshot, with the reasons for what becomes of it",
    ),
    document::<MethodsDocument>(
        "methods",
        "methods",
        &["methods"],
        "each way to back up a server, weighed",
    ),
    document::<RunDocument>("run", "run", &["run"], "a night of each server"),
    document::<RunPlan>("run-plan", "plan", &["run"], "`--dry-run` of it"),
    document::<HistoryDocument>("history", "history", &["history"], "the nights that were"),
    document::<NotifyBody>(
        "notify",
        "event",
        &["the webhook, and stdin of the programs of `[notify]`"],
        "what came of a night",
    ),
    document::<StatusDocument>("status", "pairs", &["status"], "all pairs, with findings"),
    document::<AcceptedDocument>(
        "accepted",
        "accepted",
        &["status"],
        "`--accept`: who the server is from now on",
    ),
    document::<CheckDocument>(
        "check",
        "check",
        &["check"],
        "the same, with the plug-in's code",
    ),
    document::<DoctorDocument>(
        "doctor",
        "checks",
        &["doctor"],
        "each thing that was looked at",
    ),
    document::<FailoverDocument>(
        "failover",
        "failover",
        &["failover", "switchover"],
        "a change of roles, or the plan of one",
    ),
    document::<RejoinDocument>(
        "rejoin",
        "rejoin",
        &["rejoin"],
        "an old source that follows",
    ),
    document::<RepointDocument>(
        "repoint",
        "repoint",
        &["repoint"],
        "a replica that was turned",
    ),
    document::<RecoverDocument>(
        "recover",
        "recovered",
        &["recover"],
        "what was put back or finished",
    ),
    document::<SetupDocument>("setup", "setup", &["setup"], "a pair that was made"),
    document::<PauseDocument>("pause", "pause", &["pause"], "a pause by hand"),
    document::<ResumeDocument>("resume", "resume", &["resume"], "its end"),
    document::<GrantsDocument>("grants", "grants", &["grants"], "SQL for accounts"),
    document::<HeartbeatDocument>(
        "heartbeat",
        "heartbeat",
        &["heartbeat"],
        "beats that were written",
    ),
    document::<InitDocument>("init", "init", &["init"], "the first configuration"),
    document::<ConfigDocument>(
        "config",
        "config",
        &["config check"],
        "a good configuration",
    ),
];

#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its schema is used")]
struct ErrorDocument {
    error: ErrorBody,
}

#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its schema is used")]
struct ErrorBody {
    /// As docs/EXIT-CODES.md has it.
    kind: ErrorKind,
    message: String,
    /// What to do about it.
    hints: Vec<String>,
}

#[derive(JsonSchema, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
enum ErrorKind {
    Failed,
    Unproven,
    Usage,
    Config,
    Refused,
    NeedsOperator,
    Busy,
}

/// Nothing is forgotten in the schema, which knows nothing of `Kind`.
impl From<Kind> for ErrorKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Failed => Self::Failed,
            Kind::Unproven => Self::Unproven,
            Kind::Usage => Self::Usage,
            Kind::Config => Self::Config,
            Kind::Refused => Self::Refused,
            Kind::NeedsOperator => Self::NeedsOperator,
            Kind::Busy => Self::Busy,
        }
    }
}

/// How a snapshot stands to its pair's present source.
#[derive(JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[expect(dead_code, reason = "only its schema is used")]
enum FitWord {
    Fits,
    Ahead,
    Unknown,
}

#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its schema is used")]
struct Snapshot {
    #[schemars(flatten)]
    manifest: Manifest,
    /// Null where nobody was asked, or its server is in no pair.
    fit: Option<FitWord>,
    /// Why that is unknown.
    fit_reason: Option<String>,
    /// What the source never had.
    ahead_gtid: Option<String>,
    ahead_transactions: Option<u64>,
    /// The failover's operation.
    lost_in: Option<String>,
}

#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its schema is used")]
struct SnapshotDocument {
    snapshot: Snapshot,
    /// hold, release: it wasn't so before.
    #[schemars(skip_serializing_if = "Option::is_none")]
    changed: Option<bool>,
    /// delete.
    #[schemars(skip_serializing_if = "Option::is_none")]
    deleted: Option<bool>,
    /// hold, release, delete.
    #[schemars(skip_serializing_if = "Option::is_none")]
    dry_run: Option<bool>,
}

#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its schema is used")]
struct SnapshotsDocument {
    snapshots: Vec<Snapshot>,
}

#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its schema is used")]
struct Plan<T> {
    dry_run: bool,
    plan: T,
}

type CreatePlan = Plan<CreatePlanned>;
type VerifyPlan = Plan<VerifyPlanned>;
type RestorePlan = Plan<RestorePlanned>;
type RunPlan = Plan<RunPlanned>;

#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its schema is used")]
struct CreatePlanned {
    server: String,
    backend: BackendChoice,
    backend_kind: BackendKind,
    consistency: Consistency,
    max_pause_ms: u64,
    /// Where the volumes are mounted.
    volumes: Vec<PathBuf>,
    takes: Vec<Taken>,
    steps: Vec<PlannedStep>,
    warnings: Vec<String>,
}

#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its schema is used")]
struct VerifyPlanned {
    snapshot: String,
    level: Level,
    server_binary: PathBuf,
    data_dir: PathBuf,
}

#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its schema is used")]
struct RestorePlanned {
    snapshot: String,
    server: String,
    steps: Vec<String>,
    warnings: Vec<String>,
}

#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its schema is used")]
struct RunPlanned {
    servers: Vec<NightPlanned>,
}

#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its schema is used")]
struct NightPlanned {
    server: String,
    recover: Vec<Recovered>,
    backend: BackendChoice,
    consistency: Consistency,
    steps: Vec<PlannedStep>,
    /// Null: nothing is proven.
    level: Option<Level>,
    level_reason: String,
    prune: Vec<Pruned>,
    warnings: Vec<String>,
}

#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its schema is used")]
struct MountDocument {
    mount: MountRecord,
    changed: bool,
    dry_run: bool,
}

#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its schema is used")]
struct UnmountedDocument {
    unmounted: Vec<MountRecord>,
    dry_run: bool,
}

#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its schema is used")]
struct ExtractDocument {
    extract: Extracted,
    dry_run: bool,
}

#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its schema is used")]
struct RestoreDocument {
    restore: RestoreEither,
    dry_run: bool,
}

#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "only its schema is used")]
enum RestoreEither {
    To(Box<Restored>),
    InPlace(Box<RolledBack>),
}

#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its schema is used")]
struct PrunedDocument {
    pruned: Vec<Pruned>,
    dry_run: bool,
}

#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its schema is used")]
struct RunDocument {
    run: RunServers,
}

#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its schema is used")]
struct RunServers {
    servers: Vec<Night>,
}

#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its schema is used")]
struct Night {
    #[schemars(flatten)]
    record: Record,
    /// The snapshot, when one was taken.
    manifest: Option<Manifest>,
    /// Whom that couldn't be told.
    not_told: Vec<String>,
    prune: Vec<Pruned>,
}

#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its schema is used")]
struct MethodsDocument {
    server: String,
    /// What its tables hold.
    data_bytes: Option<u64>,
    methods: Vec<crate::snapshot::methods::weigh::Weighed>,
}

#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its schema is used")]
struct HistoryDocument {
    history: HistoryServers,
}

#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its schema is used")]
struct HistoryServers {
    servers: Vec<HistoryOfServer>,
}

#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its schema is used")]
struct HistoryOfServer {
    server: String,
    /// The newest first.
    runs: Vec<Record>,
    runs_kept: u64,
    /// Lines that are no record.
    unreadable_lines: u64,
    /// Lines of a newer version.
    newer_lines: u64,
    trend: Trend,
}

#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its schema is used")]
struct NotifyBody {
    version: u32,
    event: NotifyEvent,
    host: String,
    server: String,
    /// One sentence, under the name that chats read.
    text: String,
    run: Record,
}

#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its schema is used")]
struct StatusDocument {
    pairs: Vec<PairReport>,
}

#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its schema is used")]
struct AcceptedDocument {
    accepted: Accepted,
}

#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its schema is used")]
struct Accepted {
    server: String,
    identity: Identity,
}

#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its schema is used")]
struct CheckDocument {
    check: CheckBody,
}

#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its schema is used")]
struct CheckBody {
    status: CheckWord,
    /// The exit code: 0 to 3.
    code: u8,
    pairs: Vec<PairReport>,
}

#[derive(JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
#[expect(dead_code, reason = "only its schema is used")]
enum CheckWord {
    Ok,
    Warning,
    Critical,
    Unknown,
}

#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its schema is used")]
struct DoctorDocument {
    checks: Vec<Check>,
}

#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its schema is used")]
struct FailoverDocument {
    failover: report::Report,
}

#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its schema is used")]
struct RejoinDocument {
    rejoin: rejoin::Report,
}

#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its schema is used")]
struct RepointDocument {
    repoint: repoint::Report,
}

#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its schema is used")]
struct RecoverDocument {
    recovered: Vec<Recovered>,
    dry_run: bool,
}

#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its schema is used")]
struct SetupDocument {
    setup: SetupBody,
}

#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its schema is used")]
struct SetupBody {
    pair: String,
    source: String,
    dry_run: bool,
    replicas: Vec<setup::Report>,
    /// The only one's, as the rest of these.
    #[schemars(skip_serializing_if = "Option::is_none")]
    replica: Option<String>,
    #[schemars(skip_serializing_if = "Option::is_none")]
    provision: Option<String>,
    #[schemars(skip_serializing_if = "Option::is_none")]
    steps: Option<Vec<crate::journal::operation::Step>>,
    #[schemars(skip_serializing_if = "Option::is_none")]
    warnings: Option<Vec<Warning>>,
    #[schemars(skip_serializing_if = "Option::is_none")]
    account: Option<setup::AccountReport>,
}

#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its schema is used")]
struct PauseDocument {
    pause: PauseReport,
    dry_run: bool,
}

#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its schema is used")]
struct ResumeDocument {
    resume: PauseReport,
    dry_run: bool,
}

#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its schema is used")]
struct GrantsDocument {
    grants: Grants,
}

#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its schema is used")]
struct Grants {
    server: String,
    version: String,
    accounts: Vec<GrantedAccount>,
}

#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its schema is used")]
struct GrantedAccount {
    account: String,
    /// Which commands may use it.
    r#for: String,
    statements: Vec<String>,
}

#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its schema is used")]
struct HeartbeatDocument {
    heartbeat: heartbeat::Report,
    dry_run: bool,
}

#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its schema is used")]
struct InitDocument {
    init: InitBody,
    /// Only where it is.
    #[schemars(skip_serializing_if = "Option::is_none")]
    dry_run: Option<bool>,
}

#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its schema is used")]
struct InitBody {
    config: PathBuf,
    notes: Vec<String>,
    /// In a dry run: the configuration that would be written.
    #[schemars(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    #[schemars(skip_serializing_if = "Option::is_none")]
    written: Option<Vec<PathBuf>>,
    #[schemars(skip_serializing_if = "Option::is_none")]
    servers: Option<Vec<InitServer>>,
    /// From the configuration that is there already.
    #[schemars(skip_serializing_if = "Option::is_none")]
    differences: Option<Vec<String>>,
    #[schemars(skip_serializing_if = "Option::is_none")]
    source: Option<String>,
    #[schemars(skip_serializing_if = "Option::is_none")]
    checks: Option<Vec<Check>>,
    #[schemars(skip_serializing_if = "Option::is_none")]
    nightly: Option<InitNightly>,
}

#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its schema is used")]
struct InitServer {
    name: String,
    address: String,
    version: String,
    identity: String,
    /// Its data is on this host.
    here: bool,
    missing_grants: Vec<String>,
}

#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its schema is used")]
struct InitNightly {
    timers: Vec<String>,
    cron: Option<String>,
}

#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its schema is used")]
struct ConfigDocument {
    config: ConfigBody,
}

#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its schema is used")]
struct ConfigBody {
    path: PathBuf,
    servers: Vec<String>,
    pairs: Vec<String>,
}

/// As it stands in its file.
fn schema_of(document: &Document) -> Value {
    let mut settings = SchemaSettings::draft2020_12().for_serialize();
    settings.inline_subschemas = true;
    let mut generator = settings.into_generator();
    let mut schema = (document.make)(&mut generator).to_value();
    assert!(
        generator.take_definitions(true).is_empty(),
        "{}",
        document.name
    );
    refine(&mut schema);
    schema["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
    schema["title"] = json!(format!("understudy: {}", document.name));
    schema["description"] = json!(document.what);
    schema["x-member"] = json!(document.member);
    schema["x-commands"] = json!(document.commands);
    schema
}

/// Times are told by their names, and numbers need no size of a machine word.
fn refine(schema: &mut Value) {
    let Some(object) = schema.as_object_mut() else {
        if let Some(list) = schema.as_array_mut() {
            list.iter_mut().for_each(refine);
        }
        return;
    };
    if object
        .get("format")
        .is_some_and(|format| format.as_str() != Some("date-time"))
    {
        object.remove("format");
    }
    if let Some(properties) = object.get_mut("properties").and_then(Value::as_object_mut) {
        for (name, property) in properties {
            if is_time(name) && is_text(property) {
                property["format"] = json!("date-time");
            }
        }
    }
    if let Some(Value::String(text)) = object.get_mut("description") {
        *text = for_readers(text);
    }
    object.values_mut().for_each(refine);
}

/// What is a type of ours in a comment is nothing to who reads JSON.
fn for_readers(text: &str) -> String {
    let text = text.replace("`None`", "null").replace('\n', " ");
    text.replace("[`", "`").replace("`]", "`")
}

fn is_time(name: &str) -> bool {
    name.ends_with("_time") || ["at", "created", "began", "ended", "deadline"].contains(&name)
}

fn is_text(property: &Value) -> bool {
    let kind = &property["type"];
    kind == "string" || kind == &json!(["string", "null"])
}

/// Every property of a schema, by its path.
fn properties(schema: &Value, path: &str, into: &mut Vec<(String, Value)>) {
    match schema {
        Value::Object(object) => {
            for (key, value) in object {
                match (key.as_str(), value.as_object()) {
                    ("properties", Some(each)) => {
                        for (name, property) in each {
                            let path = format!("{path}/{name}");
                            properties(property, &path, into);
                            into.push((path, property.clone()));
                        }
                    }
                    _ => properties(value, path, into),
                }
            }
        }
        Value::Array(list) => list.iter().for_each(|one| properties(one, path, into)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// With UPDATE_DOCS set it writes the files instead.
#[test]
fn docs_have_the_schemas() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/schema");
    let update = std::env::var_os("UPDATE_DOCS").is_some();
    let mut names = vec!["understudy.schema.json".to_owned()];
    for document in ALL {
        let name = format!("{}.schema.json", document.name);
        let text = serde_json::to_string_pretty(&schema_of(document)).unwrap() + "\n";
        let path = directory.join(&name);
        if update {
            std::fs::write(&path, text).unwrap();
        } else {
            let own = std::fs::read_to_string(&path).unwrap_or_default();
            assert!(
                own == text,
                "{name}: run UPDATE_DOCS=1 cargo test --lib docs_have"
            );
        }
        let held = include_str!("../../tests/lab/contract.rs");
        let named = format!("\"{}\"", document.name);
        assert!(held.contains(&named), "tests/lab/contract.rs lacks {named}");
        names.push(name);
    }
    for entry in std::fs::read_dir(&directory).unwrap().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        assert!(names.contains(&name), "{name} is of no document any more");
    }
}

/// The table of docs/JSON.md; with UPDATE_DOCS set it writes it instead.
#[test]
fn docs_have_the_table_of_documents() {
    let mut table = "\n| document | printed by | what |\n|---|---|---|\n".to_owned();
    for document in ALL {
        let Document {
            name, member, what, ..
        } = document;
        let is_command = |word: &str| {
            word.split(' ')
                .all(|w| w.chars().all(|c| c.is_ascii_lowercase()))
                && word != "every command"
        };
        let commands: Vec<String> = document
            .commands
            .iter()
            .map(|command| match is_command(command) {
                true => format!("`{command}`"),
                false => (*command).to_owned(),
            })
            .collect();
        let commands = commands.join(", ");
        table.push_str(&format!(
            "| [`{member}`](schema/{name}.schema.json) | {commands} | {what} |\n"
        ));
    }
    table.push('\n');
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/JSON.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let (begin, end) = ("<!-- documents -->\n", "<!-- end of documents -->");
    let (head, rest) = text.split_once(begin).unwrap();
    let (own, tail) = rest.split_once(end).unwrap();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, format!("{head}{begin}{table}{end}{tail}")).unwrap();
    } else {
        assert!(
            own == table,
            "run: UPDATE_DOCS=1 cargo test --lib docs_have"
        );
    }
}

/// Units stand in names, and what has one is a number; times are RFC 3339.
#[test]
fn names_say_what_stands_behind_them() {
    let mut seen = 0;
    for document in ALL {
        let mut all = Vec::new();
        properties(&schema_of(document), document.name, &mut all);
        for (path, property) in all {
            let name = path.rsplit('/').next().unwrap();
            let kinds = match &property["type"] {
                Value::Array(kinds) => kinds.clone(),
                kind => vec![kind.clone()],
            };
            let has = |kind: &str| kinds.iter().any(|one| one == kind);
            let by_unit = ["_ms", "_us", "_bytes", "_port", "_pos"];
            // Of a trend it is the figures of two weeks.
            if by_unit.iter().any(|unit| name.ends_with(unit)) && !path.contains("/trend/") {
                assert!(has("integer"), "{path}: {property}");
            }
            if is_time(name) {
                assert_eq!(property["format"], "date-time", "{path}");
                seen += 1;
            }
        }
    }
    assert!(seen > 5, "no times were found");
}

/// A word that a document may hold is one that the manual explains.
#[test]
fn docs_explain_every_flaw_and_every_kind_of_error() {
    fn words(schema: &Value, into: &mut Vec<String>) {
        match schema {
            Value::Object(object) => {
                let listed = object.get("enum").and_then(Value::as_array);
                let one = object.get("const");
                let all = listed.into_iter().flatten().chain(one);
                into.extend(all.filter_map(Value::as_str).map(str::to_owned));
                object.values().for_each(|value| words(value, into));
            }
            Value::Array(list) => list.iter().for_each(|one| words(one, into)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    for (page, schema) in [
        (
            "RESTORE.md",
            schemars::schema_for!(crate::snapshot::prove::boot_log::Flaw),
        ),
        ("EXIT-CODES.md", schemars::schema_for!(ErrorKind)),
    ] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("docs")
            .join(page);
        let text = std::fs::read_to_string(path).unwrap();
        let mut all = Vec::new();
        words(&schema.to_value(), &mut all);
        assert!(all.len() > 5, "{page}: {all:?}");
        for word in all {
            assert!(text.contains(&format!("`{word}`")), "{page} lacks {word}");
        }
    }
}

#[test]
fn the_kinds_of_errors_are_all_there() {
    for kind in [
        Kind::Failed,
        Kind::Unproven,
        Kind::Usage,
        Kind::Config,
        Kind::Refused,
        Kind::NeedsOperator,
        Kind::Busy,
    ] {
        assert_eq!(json!(ErrorKind::from(kind)), json!(kind.word()));
    }
}

/// Every command that prints JSON has a document.
#[test]
fn every_command_has_a_document() {
    let without = [
        "completions",
        "man",
        "config example",
        "config reference",
        "config schema",
    ];
    let mut commands = Vec::new();
    for command in <super::Cli as clap::CommandFactory>::command().get_subcommands() {
        let name = command.get_name();
        if command.has_subcommands() {
            let inner = command.get_subcommands();
            commands.extend(inner.map(|one| format!("{name} {}", one.get_name())));
        } else {
            commands.push(name.to_owned());
        }
    }
    let described = |name: &str| ALL.iter().any(|document| document.commands.contains(&name));
    for command in commands {
        assert_ne!(
            described(&command),
            without.contains(&command.as_str()),
            "{command}"
        );
    }
}
