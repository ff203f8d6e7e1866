//! `setup PAIR`: checks, account, data, link, read-only, start, catch up, proof.
//!
//! `look` observes and decides; `perform` does it, one step after the other, and puts everything
//! back when one of them fails.

use std::path::PathBuf;

use serde::Serialize;

use super::account;
use super::error::SetupError;
use super::link;
use super::marker;
use super::observe;
use super::option_file;
use super::plan::{self, Linked, Provision, Side};
use super::provision;
use super::request::{Prepared, Request};
use super::semi_sync;
use super::setting;
use super::warning::Warning;
use super::work::Work;
use crate::config::{PairConfig, ServerConfig, TlsMode};
use crate::journal::InHand;
use crate::journal::operation::Step;
use crate::journal::receipt;
use crate::server::pair::Account;
use crate::server::pair_lock;
use crate::server::session::Session;
use crate::snapshot::archive::stumbles;
use crate::snapshot::keep::lifecycle::lock_recovered;
use crate::snapshot::{Context, SnapshotError};
use crate::sys::fact::Fact;
use crate::sys::lock::FileLock;

/// What was done, or would be, for one replica.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Report {
    pub pair: String,
    pub source: String,
    pub replica: String,
    pub provision: String,
    pub dry_run: bool,
    pub steps: Vec<Step>,
    pub warnings: Vec<Warning>,
    pub account: AccountReport,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct AccountReport {
    pub user: String,
    pub host: String,
    pub password_file: PathBuf,
}

/// The replicas that are meant, in the configuration's order.
pub fn replicas<'a>(
    ctx: &'a Context,
    request: &Request,
) -> Result<(&'a PairConfig, Vec<String>), SetupError> {
    let pair = ctx
        .config
        .pairs
        .get(&request.pair)
        .ok_or_else(|| SetupError::UnknownPair {
            name: request.pair.clone(),
            known: ctx.config.pairs.keys().cloned().collect(),
        })?;
    let names = match &request.replica {
        // Whoever isn't the source follows it.
        Some(name) if request.source.is_some() && *name == pair.source => vec![name.clone()],
        None => pair.replicas.clone(),
        Some(name) if pair.replicas.contains(name) => vec![name.clone()],
        Some(name) => {
            return Err(SetupError::NotInPair {
                replica: name.clone(),
                pair: pair.name.clone(),
                known: pair.replicas.clone(),
            });
        }
    };
    Ok((pair, names))
}

/// Observes both servers and decides; changes nothing.
pub fn look(
    ctx: &Context,
    pair: &PairConfig,
    replica: &str,
    request: &Request,
) -> Result<Prepared, SetupError> {
    let source = request.source.as_ref().unwrap_or(&pair.source);
    let source = ctx.server(source)?.clone();
    let replica = ctx.server(replica)?.clone();
    let source_side = observe::side(ctx, &source)?;
    let mut replica_side = observe::side(ctx, &replica)?;
    let session = Session::connect_to(&ctx.target(&source)?, &source_side.identity)?;
    (_, replica_side.may_on_source) = observe::privileges(session, &replica_side.login)?;
    let endpoint = observe::endpoint(ctx, &source, &source_side, &replica, &replica_side)?;
    let plan = plan::plan(&source_side, &replica_side, &endpoint, &request.wish);
    let mut plan = plan.map_err(|refusals| SetupError::Refused { refusals })?;
    let endpoint = match endpoint {
        Fact::Known(endpoint) => endpoint,
        Fact::Unknown(reason) => return Err(SetupError::failed("find the source", reason)),
    };
    let (host, warning) = account_host(request, &replica, &endpoint);
    plan.warnings.extend(warning);
    let account = Account {
        user: account::USER.to_owned(),
        host,
        is_role: false,
    };
    let file = account::password_file(&ctx.state, &pair.name);
    let session = Session::connect_to(&ctx.target(&source)?, &source_side.identity)?;
    let mut left_out = Vec::new();
    let session = match plan.provision {
        Provision::Dump => {
            let other = Session::connect_to(&ctx.target(&replica)?, &replica_side.identity)?;
            let (session, found) =
                stumbles::observe(session, Some(other), &source_side.non_transactional)?;
            plan::judge_dump(&mut plan, &source_side, &found, &request.wish)
                .map_err(|refusals| SetupError::Refused { refusals })?;
            left_out.extend(found.views.into_iter().map(|(view, _)| view));
            session
        }
        Provision::Nothing | Provision::Clone | Provision::Snapshot(_) => session,
    };
    let (mut session, account_seen) = account::observe(session, &account, &file)?;
    let mut source_account = None;
    if let Some(own) = source_account_of(request, &endpoint, &account) {
        let (back, seen) = account::observe(session, &own, &file)?;
        session = back;
        source_account = Some((own, seen));
    }
    let (session, _, marker_seen) = marker::observe(session)?;
    check_wishes(
        ctx,
        request,
        session,
        (&source_side, &replica, &replica_side),
    )?;
    let tools = provision::find_tools(
        ctx,
        &plan,
        (&source, &source_side),
        (&replica, &replica_side),
    )?;
    Ok(Prepared {
        pair: pair.name.clone(),
        source,
        replica,
        source_side,
        replica_side,
        endpoint,
        account,
        account_seen,
        source_account,
        marker_seen,
        plan,
        left_out,
        tools,
        semi_sync: request.semi_sync,
        option_file: request.option_file.clone(),
    })
}

/// What stands against the rest of what was asked for.
fn check_wishes(
    ctx: &Context,
    request: &Request,
    source: Session,
    (source_side, replica, replica_side): (&Side, &ServerConfig, &Side),
) -> Result<(), SetupError> {
    let mut refusals = Vec::new();
    if request.semi_sync {
        refusals.extend(semi_sync::check(source, source_side)?);
        let session = Session::connect_to(&ctx.target(replica)?, &replica_side.identity)?;
        refusals.extend(semi_sync::check(session, replica_side)?);
    }
    if let Some(path) = &request.option_file {
        refusals.extend(option_file::check(path, replica_side));
    }
    match refusals.is_empty() {
        true => Ok(()),
        false => Err(SetupError::Refused { refusals }),
    }
}

fn account_host(
    request: &Request,
    replica: &ServerConfig,
    endpoint: &(String, u16),
) -> (String, Option<Warning>) {
    let address = observe::replica_address(&replica.address, (&endpoint.0, endpoint.1));
    plan::account_host(
        request.account_host.as_deref(),
        observe::is_loopback(&endpoint.0),
        &address,
    )
}

/// As narrow as the replica's; none where that fits, or the address isn't one.
fn source_account_of(
    request: &Request,
    endpoint: &(String, u16),
    account: &Account,
) -> Option<Account> {
    if request.account_host.is_some() || observe::is_loopback(&endpoint.0) || account.host == "%" {
        return None;
    }
    let host = observe::address_of(&endpoint.0, endpoint.1)?;
    (host != account.host).then(|| Account {
        host,
        ..account.clone()
    })
}

impl Prepared {
    fn tls(&self) -> bool {
        self.source.tls != TlsMode::Disabled
    }

    fn report(
        &self,
        ctx: &Context,
        steps: Vec<Step>,
        warnings: Vec<Warning>,
        dry_run: bool,
    ) -> Report {
        Report {
            pair: self.pair.clone(),
            source: self.source.name.clone(),
            replica: self.replica.name.clone(),
            provision: self.plan.provision.word(),
            dry_run,
            steps,
            warnings,
            account: AccountReport {
                user: self.account.user.clone(),
                host: self.account.host.clone(),
                password_file: account::password_file(&ctx.state, &self.pair),
            },
        }
    }

    /// What would be done, for --dry-run.
    pub fn dry_run(&self, ctx: &Context) -> Report {
        let mut steps = Vec::new();
        let mut add = |name, is_so: bool, detail: String| {
            steps.push(Step {
                name,
                result: if is_so { "already-so" } else { "would-change" },
                detail,
                ms: 0,
            });
        };
        let (source, replica) = (&self.source.name, &self.replica.name);
        add(
            "account",
            self.account_seen.is_so(self.tls()),
            format!(
                "{} on {source}, which may replicate and nothing else",
                self.account
            ),
        );
        if let Some((own, seen)) = &self.source_account {
            add(
                "own-account",
                seen.is_so(self.tls()),
                format!("{own} on {source}, for when roles have moved"),
            );
        }
        add(
            "table",
            self.marker_seen,
            format!("understudy.marker on {source}"),
        );
        if !self.plan.erases.is_empty() {
            add(
                "erase",
                false,
                format!("on {replica}: {}", self.plan.erases.join(", ")),
            );
        }
        if self.plan.provision != Provision::Nothing {
            add("provision", false, self.plan.why.clone());
        }
        let stays = match (&self.plan.linked, self.plan.erases.is_empty()) {
            (Linked::AsWanted(link), true) => Some(link),
            (Linked::AsWanted(_) | Linked::No | Linked::Otherwise, _) => None,
        };
        add(
            "link",
            stays.is_some(),
            format!(
                "{replica} follows {}:{} by GTID",
                self.endpoint.0, self.endpoint.1
            ),
        );
        add(
            "read-only",
            self.replica_side.is_on("super_read_only")
                || self.replica_side.flavour.is_mariadb() && self.replica_side.is_on("read_only"),
            format!("nobody but replication writes to {replica}"),
        );
        add(
            "net-timeout",
            false,
            "a silent source is noticed soon, on both".to_owned(),
        );
        add(
            "start",
            stays.is_some_and(|link| link.runs()),
            format!("replication on {replica}"),
        );
        if self.semi_sync {
            add(
                "semi-sync",
                false,
                format!("commits on {source} wait until {replica} has them"),
            );
        }
        if let Some(path) = &self.option_file {
            add(
                "option-file",
                self.replica_side.flavour.keeps_variables(),
                format!("{replica} comes up closed, by {}", path.display()),
            );
        }
        for (name, detail) in [
            ("catch-up", format!("{replica} has what {source} has")),
            (
                "verify",
                format!("a value written on {source} comes to {replica}"),
            ),
        ] {
            steps.push(Step {
                name,
                result: "would-verify",
                detail,
                ms: 0,
            });
        }
        self.report(ctx, steps, self.plan.warnings.clone(), true)
    }
}

/// Holds both servers, source and replica in the order of their names, with nothing left over from
/// before.
fn lock(ctx: &Context, ready: &Prepared) -> Result<(Vec<FileLock>, Vec<Session>), SetupError> {
    let mut servers = [&ready.source, &ready.replica];
    servers.sort_by(|one, other| one.name.cmp(&other.name));
    let locks: Result<Vec<_>, SnapshotError> = servers
        .iter()
        .map(|server| lock_recovered(ctx, &server.name, "setup"))
        .collect();
    let locks = locks?;
    // And from whoever is at it on another host.
    let mut sessions = Vec::new();
    for server in servers {
        let session = Session::connect(&ctx.target(server)?)?;
        let taken = pair_lock::take(session, "setup")?;
        sessions.push(taken.map_err(|holder| SnapshotError::busy(&server.name, &holder))?);
    }
    Ok((locks, sessions))
}

/// Does what `look` decided, or puts everything back.
pub fn perform(ctx: &Context, request: &Request, seen: &Prepared) -> Result<Report, SetupError> {
    ctx.state.create()?;
    let _locks = lock(ctx, seen)?;
    // Again, now that nobody else of ours changes them.
    let (pair, _) = replicas(ctx, request)?;
    let ready = look(ctx, pair, &seen.replica.name, request)?;
    if ready.plan.erases != seen.plan.erases {
        return Err(SetupError::refused(
            format!(
                "{} has changed since it was asked about: {}",
                ready.replica.name,
                ready.plan.erases.join(", ")
            ),
            "Look at it, and run setup again.",
        ));
    }
    let party = |config, side: &Side| ctx.party(config, &side.identity, &side.flavour);
    let source = party(&ready.source, &ready.source_side)?;
    let replica = party(&ready.replica, &ready.replica_side)?;
    let mut work = Work::begin(ctx, source, replica)?;
    work.warnings.clone_from(&ready.plan.warnings);
    match steps(&mut work, &ready, request).and_then(|()| work.settle()) {
        Ok(()) => {
            let (steps, warnings) = work.end();
            if let Err(error) = receipt::settle(&ctx.state, &ready.replica.name) {
                tracing::warn!(%error, "the receipt of a failover stays, though its old source follows");
            }
            Ok(ready.report(ctx, steps, warnings, false))
        }
        Err(failure) => Err(work.put_back(failure)),
    }
}

fn steps(work: &mut Work<'_>, ready: &Prepared, request: &Request) -> Result<(), SetupError> {
    let file = account::password_file(&work.ctx.state, &ready.pair);
    let tls = ready.tls();
    if ready.semi_sync {
        work.step("plugins", semi_sync::install)?;
    }
    work.step("account", |work| {
        account::ensure(work, &ready.account, &file, tls)
    })?;
    if let Some((own, _)) = &ready.source_account {
        work.step("own-account", |work| account::ensure(work, own, &file, tls))?;
    }
    let source = work.source.clone();
    work.step("table", |work| {
        Ok::<_, SetupError>(marker::ensure_table(work, &source)?)
    })?;
    let brings_data = ready.plan.provision != Provision::Nothing;
    if !ready.plan.erases.is_empty() || brings_data {
        work.step("open", |work| provision::open(work))?;
    }
    if !ready.plan.erases.is_empty() && !ready.plan.provision.exchanges(&ready.source_side) {
        work.step("erase", |work| provision::erase(work, ready))?;
    }
    if brings_data {
        work.step("provision", |work| provision::bring(work, ready, request))?;
    }
    let password = account::read_password(&file)?.unwrap_or_default();
    work.step("link", |work| link::point(work, ready, &password))?;
    work.step("read-only", link::close)?;
    work.step("net-timeout", link::notice_silence)?;
    work.step("start", |work| link::start(work, ready, &password))?;
    work.step("catch-up", |work| {
        link::catch_up(work, ready, request.catch_up)
    })?;
    if ready.semi_sync {
        work.step("semi-sync", |work| semi_sync::switch_on(work, ready))?;
    }
    if let Some(path) = &ready.option_file {
        work.step("option-file", |work| {
            option_file::write(work, &ready.replica_side, path)
        })?;
    }
    setting::tell(work);
    work.step("verify", marker::verify)
}
