//! `init`: the first configuration, from one server's address and account.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use serde_json::{Value, json};

use super::Cli;
use super::doctor;
use super::failure::{Failure, Kind};
use super::page::Page;
use super::session::context_of;
use super::ui::Ui;
use crate::config::values::{parse_absolute_path, parse_address};
use crate::config::{self, Address, CONFIG_PATHS, Secret, TlsMode, credentials};
use crate::discovery::text::{self, Common};
use crate::discovery::{Found, Member, find};
use crate::health::check::{Check, Status};
use crate::server::{Identity, Session, Target, client};
use crate::snapshot::{Context, SnapshotError};
use crate::sys::files;

/// Write the first configuration, from one server's address and account
///
/// Finds the servers around it by itself – the source that it follows, the replicas that it has – and
/// believes only what they confirm by their identity; what can't be reached or confirmed is told. Writes a
/// commented configuration and an option file (both 0600), prints the grants that the account lacks, runs
/// `doctor`, and says how to run it every night. On a terminal it asks for what no flag says. It
/// overwrites nothing: where a configuration is, it says in what that differs. The same account has to do
/// for all servers. The configuration is --config, or /etc/understudy/understudy.toml.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// One of the servers: host:port, or host
    #[arg(long, value_name = "HOST:PORT", conflicts_with = "socket")]
    address: Option<String>,

    /// Or its Unix socket, on this host
    #[arg(long, value_name = "PATH")]
    socket: Option<String>,

    /// The account
    #[arg(long, value_name = "NAME", conflicts_with = "credentials")]
    user: Option<String>,

    /// A file whose first line is its password, for its owner only
    #[arg(long, value_name = "FILE", conflicts_with = "credentials")]
    password_file: Option<PathBuf>,

    /// An option file that has account and password already; then none is written
    #[arg(long, value_name = "FILE")]
    credentials: Option<PathBuf>,

    /// How the connections are protected
    #[arg(long, value_enum, default_value_t = TlsArg::Disabled)]
    tls: TlsArg,

    /// What certificates are verified with
    #[arg(long, value_name = "FILE")]
    tls_ca: Option<PathBuf>,

    /// Where state is kept
    #[arg(long, value_name = "DIR", default_value = config::STATE_DIR_DEFAULT)]
    state_dir: PathBuf,

    /// Only print the configuration that would be written
    #[arg(short = 'n', long)]
    dry_run: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum TlsArg {
    Disabled,
    Required,
    VerifyCa,
    VerifyFull,
}

impl From<TlsArg> for TlsMode {
    fn from(tls: TlsArg) -> Self {
        match tls {
            TlsArg::Disabled => Self::Disabled,
            TlsArg::Required => Self::Required,
            TlsArg::VerifyCa => Self::VerifyCa,
            TlsArg::VerifyFull => Self::VerifyFull,
        }
    }
}

pub fn run(cli: &Cli, ui: &Ui, args: &Args) -> Result<(), Failure> {
    let path = cli.config.clone().unwrap_or_else(|| CONFIG_PATHS[1].into());
    let path = std::path::absolute(&path).unwrap_or(path);
    let target = target(ui, args)?;
    let found = find(&target).map_err(SnapshotError::from)?;
    refuse_blind(&found)?;
    if files::length(&path).is_some() {
        return compare(ui, &path, &found);
    }
    let option_file = match &args.credentials {
        Some(file) => std::path::absolute(file).unwrap_or(file.clone()),
        None => path.with_file_name("understudy.cnf"),
    };
    let common = Common {
        credentials: &option_file,
        tls: target.tls,
        tls_ca: target.tls_ca.as_deref(),
        state_dir: &args.state_dir,
    };
    let text = text::config_text(&found, common);
    config::parse(&text, &path).map_err(config::ConfigError::from)?;
    if args.dry_run {
        let document =
            json!({"dry_run": true, "init": {"config": path, "text": text, "notes": found.notes}});
        ui.result(&document, || format!("{text}\n{}", comments(&found.notes)));
        return Ok(());
    }
    let mut written = Vec::new();
    if args.credentials.is_none() {
        write_option_file(&option_file, &target)?.then(|| written.push(option_file.clone()));
    }
    write_new(&path, &text)?;
    written.push(path.clone());
    report(ui, &path, &written, &found);
    Ok(())
}

/// Whom to ask first, and as whom: by the flags, or by the terminal.
fn target(ui: &Ui, args: &Args) -> Result<Target, Failure> {
    let address = match (&args.address, &args.socket) {
        (Some(address), _) => parsed(address)?,
        (None, Some(socket)) => parsed(socket)?,
        (None, None) => {
            let usual = "/run/mysqld/mysqld.sock";
            let usual = match files::real_path(Path::new(usual)) {
                Some(_) => usual,
                None => "127.0.0.1:3306",
            };
            let question = "One of the servers, HOST:PORT or the path of its socket";
            parsed(&ui.ask(question, Some(usual), "--address or --socket")?)?
        }
    };
    let (user, password) = account(ui, args)?;
    Ok(Target {
        server: "the server".to_owned(),
        address,
        user,
        password,
        tls: args.tls.into(),
        tls_ca: args.tls_ca.clone(),
    })
}

fn parsed(text: &str) -> Result<Address, Failure> {
    let parsed = match text.starts_with('/') {
        true => parse_absolute_path(text).map(Address::Socket),
        false => parse_address(text),
    };
    parsed.map_err(|complaint| {
        let failure = Failure::new(Kind::Usage, complaint.message);
        match complaint.hint {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    })
}

fn account(ui: &Ui, args: &Args) -> Result<(String, Secret), Failure> {
    if let Some(file) = &args.credentials {
        let loaded = credentials::load(file)
            .map_err(|error| Failure::new(Kind::Config, error.to_string()).hint(error.hint()))?;
        let user = loaded.user.unwrap_or_else(|| "root".to_owned());
        return Ok((user, loaded.password.unwrap_or_default()));
    }
    let user = match &args.user {
        Some(user) => user.clone(),
        None => ui.ask("Account", Some("understudy"), "--user")?,
    };
    let password = match &args.password_file {
        Some(file) => password_of(file)?,
        None => Secret::new(ui.ask_secret("Password", "--password-file or --credentials")?),
    };
    Ok((user, password))
}

fn password_of(file: &Path) -> Result<Secret, Failure> {
    config::check_key_file(file).map_err(|complaint| {
        let failure = Failure::new(Kind::Config, complaint.message);
        match complaint.hint {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    })?;
    let text = files::read_text(file).map_err(SnapshotError::from)?;
    let text = text.unwrap_or_default();
    Ok(Secret::new(text.lines().next().unwrap_or_default()))
}

/// An account that can't see whom the server follows would find half of it.
fn refuse_blind(found: &Found) -> Result<(), Failure> {
    let Some(why) = &found.blind else {
        return Ok(());
    };
    let grants = found.members.iter().flat_map(grants_of);
    let lines: Vec<String> = grants.map(|(_, statement)| statement).collect();
    Err(Failure::new(
        Kind::Refused,
        format!("the account doesn't see enough: {why}"),
    )
    .hint(format!("As an administrator: {}", lines.join(" ")))
    .hint("Then run `understudy init` again."))
}

/// True when it was written, false when it stood there with the same account.
fn write_option_file(path: &Path, target: &Target) -> Result<bool, Failure> {
    if files::length(path).is_none() {
        write_new(path, &client::account_file(target))?;
        return Ok(true);
    }
    let there = credentials::load(path)
        .map_err(|error| Failure::new(Kind::Config, error.to_string()).hint(error.hint()))?;
    let is_same = there.user.as_ref() == Some(&target.user)
        && there.password.unwrap_or_default() == target.password;
    match is_same {
        true => Ok(false),
        false => Err(Failure::new(
            Kind::Refused,
            format!("{} is there, with another account", path.display()),
        )
        .hint(format!(
            "Use it: --credentials {}; or move it away.",
            path.display()
        ))),
    }
}

/// Whole or not at all, for its owner only; never over another one.
fn write_new(path: &Path, text: &str) -> Result<(), Failure> {
    let write = || {
        let parent = path.parent().unwrap_or(Path::new("/"));
        files::make_private_dir(parent)?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let partial = parent.join(format!(".{name}.{}.new", std::process::id()));
        let mut file = files::create_private(&partial)?;
        let written = file
            .write_all(text.as_bytes())
            .map_err(|source| files::FileError {
                action: "write",
                path: partial.clone(),
                source,
            });
        let ended = written.and_then(|()| files::finish(file, &partial, path));
        ended.inspect_err(|_| drop(files::remove(&partial)))
    };
    write().map_err(|error| Failure::from(SnapshotError::from(error)))
}

/// There is one: it stays as it is.
fn compare(ui: &Ui, path: &Path, found: &Found) -> Result<(), Failure> {
    let differences = {
        let ctx = context_of(Some(path))?;
        let who: BTreeMap<String, Option<Identity>> = ctx
            .config
            .servers
            .values()
            .map(|server| {
                let session = ctx
                    .target(server)
                    .ok()
                    .and_then(|target| Session::connect(&target).ok());
                (
                    server.name.clone(),
                    session.map(|session| session.identity().clone()),
                )
            })
            .collect();
        text::differences(found, &ctx.config, &who)
    };
    let document = json!({"init": {
        "config": path,
        "written": [],
        "servers": found.members.iter().map(member_json).collect::<Vec<_>>(),
        "differences": differences,
        "notes": found.notes,
    }});
    ui.result(&document, || {
        let page = Page::of_stdout();
        let mut lines = match differences.is_empty() {
            true => vec![format!(
                "{} is there already, and says the same",
                path.display()
            )],
            false => vec![format!(
                "{} is there already, and stays as it is; it differs:",
                path.display()
            )],
        };
        let all = differences.iter().chain(&found.notes);
        lines.extend(all.flat_map(|line| page.wrapped("  ", line)));
        lines.join("\n")
    });
    Ok(())
}

fn grants_of(member: &Member) -> Vec<(&'static str, String)> {
    let of = |(purpose, statements): &(crate::server::grants::Purpose, Vec<String>)| {
        let commands = purpose.commands();
        statements
            .iter()
            .map(|one| (commands, one.clone()))
            .collect::<Vec<_>>()
    };
    member.missing.iter().flat_map(of).collect()
}

fn member_json(member: &Member) -> Value {
    json!({
        "name": member.name,
        "address": member.address.to_string(),
        "version": member.version,
        "identity": member.identity.to_string(),
        "here": member.is_here,
        "missing_grants": grants_of(member).iter().map(|(_, one)| one).collect::<Vec<_>>(),
    })
}

fn report(ui: &Ui, path: &Path, written: &[PathBuf], found: &Found) {
    let examined = context_of(Some(path)).and_then(|ctx| examine(&ctx));
    let (checks, mut notes) = match examined {
        Ok(checks) => (checks, found.notes.clone()),
        Err(failure) => {
            let note = format!("doctor couldn't look: {}", failure.message);
            (Vec::new(), [found.notes.clone(), vec![note]].concat())
        }
    };
    let replicas = found
        .members
        .iter()
        .skip(1)
        .filter(|member| found.is_pair && member.is_here);
    let nightly: Vec<&str> = replicas.map(|member| member.name.as_str()).collect();
    if nightly.is_empty() {
        notes.push(
            "no replica was found on this host: there is nothing to run every night here; of one in a \
             container of this host, add a [server.NAME.snapshot] table"
                .to_owned(),
        );
    }
    let timers: Vec<String> = nightly
        .iter()
        .map(|name| format!("systemctl enable --now understudy@{name}.timer"))
        .collect();
    let program = std::env::current_exe().unwrap_or_else(|_| "/usr/bin/understudy".into());
    let cron = format!(
        "0 2 * * * root {} -q --config {} run --all >/dev/null",
        program.display(),
        path.display()
    );
    let document = json!({"init": {
        "config": path,
        "written": written,
        "servers": found.members.iter().map(member_json).collect::<Vec<_>>(),
        "source": found.members.first().filter(|_| found.is_pair).map(|member| &member.name),
        "notes": notes,
        "checks": checks,
        "nightly": {"timers": timers, "cron": (!nightly.is_empty()).then_some(&cron)},
    }});
    ui.result(&document, || {
        let page = Page::of_stdout();
        let mut lines: Vec<String> = Vec::new();
        for (number, member) in found.members.iter().enumerate() {
            let role = match (found.is_pair, number) {
                (true, 0) => "source",
                (true, _) => "replica",
                (false, _) => "server",
            };
            let head = format!("{:<8} ", role);
            lines.extend(page.wrapped(
                &head,
                &format!("{} at {}, {}", member.name, member.address, member.version),
            ));
        }
        lines.extend(
            notes
                .iter()
                .flat_map(|note| page.wrapped("note     ", note)),
        );
        lines.extend(
            written
                .iter()
                .map(|file| format!("written  {}", file.display())),
        );
        for member in &found.members {
            let mut last = "";
            for (commands, statement) in grants_of(member) {
                if last != commands {
                    lines.push(String::new());
                    lines.extend(page.wrapped(
                        "",
                        &format!("The account lacks on {}, for {commands}:", member.name),
                    ));
                    last = commands;
                }
                lines.push(format!("  {statement}"));
            }
        }
        lines.extend(doctors_word(&checks, &page));
        if !nightly.is_empty() {
            lines.push(String::new());
            lines.push("Every night, where the package's units are installed:".to_owned());
            lines.extend(timers.iter().map(|timer| format!("  {timer}")));
            lines.push("or by a line in /etc/crontab:".to_owned());
            lines.push(format!("  {cron}"));
        }
        lines.join("\n")
    });
}

/// What isn't well, and how much is.
fn doctors_word(checks: &[Check], page: &Page) -> Vec<String> {
    let (well, others): (Vec<&Check>, Vec<&Check>) =
        checks.iter().partition(|check| check.status == Status::Ok);
    if checks.is_empty() {
        return Vec::new();
    }
    let others: Vec<Check> = others.into_iter().cloned().collect();
    let mut lines = vec![String::new(), "What doctor says:".to_owned()];
    if !others.is_empty() {
        lines.push(doctor::render(&others, page));
    }
    lines.push(format!(
        "ok       {} more; `understudy doctor` has them",
        well.len()
    ));
    lines
}

fn examine(ctx: &Context) -> Result<Vec<Check>, Failure> {
    doctor::checks(ctx, None, doctor::USUAL)
}

fn comments(notes: &[String]) -> String {
    let lines: Vec<String> = notes.iter().map(|note| format!("# note: {note}")).collect();
    lines.join("\n")
}
