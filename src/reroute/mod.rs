//! Leading clients to the new source: each way is checked beforehand, done, seen to work, and undone.
//!
//! All of them may run twice, by this process or by a later one that has only the act.

mod act;
mod budget;
mod dns;
mod exec;
mod file;
mod haproxy;
mod see;
mod vip;

use crate::config::Reroute;
use crate::sys::cancel::Cancel;
use crate::sys::parallel;

use act::Fault;
pub use act::{
    Admin, Before, Checked, Destination, Done, Entry, Origin, Outcome, Record, RerouteAct,
    RerouteError, Seen,
};
use budget::Budget;
use dns::Dns;
use file::ConfigFile;
use haproxy::Haproxy;
use vip::Vip;

/// Looks whether it can be done, and what is there now; changes nothing.
pub fn check(act: &RerouteAct) -> Result<Checked, RerouteError> {
    check_unless(act, &Cancel::default())
}

/// As `check`; a program that is waited for is ended when that is set.
pub fn check_unless(act: &RerouteAct, cancel: &Cancel) -> Result<Checked, RerouteError> {
    let (budget, to) = (Budget::of(act.reroute.timeout), &act.to.server);
    named(
        act,
        match Way::of(&act.reroute.way) {
            Way::Vip(vip) => vip.check(to, budget),
            Way::Haproxy(haproxy) => haproxy.check(to, budget),
            Way::Dns(dns) => dns.check(to, budget),
            Way::File(file) => file.check(to),
            Way::Exec(argv) => exec::check(argv, act, budget, cancel),
        },
    )
}

/// Leads clients to the new source.
pub fn perform(act: &RerouteAct) -> Result<Done, RerouteError> {
    let (budget, to) = (Budget::of(act.reroute.timeout), &act.to.server);
    named(
        act,
        match Way::of(&act.reroute.way) {
            Way::Vip(vip) => vip.perform(to, budget),
            Way::Haproxy(haproxy) => haproxy.perform(to, budget),
            Way::Dns(dns) => dns.perform(to, budget),
            Way::File(file) => file.perform(to),
            Way::Exec(argv) => exec::perform(argv, act, budget),
        },
    )
}

/// Whether they reach it: the way is asked, and a connection made through what clients use.
pub fn see(act: &RerouteAct) -> Result<Seen, RerouteError> {
    let (budget, to) = (Budget::of(act.reroute.timeout), &act.to.server);
    let asked = match Way::of(&act.reroute.way) {
        Way::Vip(vip) => vip.leads_to(to, budget).map(Some),
        Way::Haproxy(haproxy) => haproxy.leads_to(to, budget).map(Some),
        Way::Dns(dns) => dns.leads_to(to, budget).map(Some),
        Way::File(file) => file.leads_to(to).map(Some),
        Way::Exec(_) => Ok(None),
    };
    named(act, asked.and_then(|asked| see::see(act, asked, budget)))
}

/// Back to what `check` saw; without that nothing was begun.
pub fn undo(act: &RerouteAct) -> Result<Done, RerouteError> {
    let (budget, to) = (Budget::of(act.reroute.timeout), &act.to.server);
    let Some(before) = &act.before else {
        return Ok(Done::already());
    };
    named(
        act,
        match (Way::of(&act.reroute.way), before) {
            (Way::Vip(vip), Before::Vip { had }) => vip.undo(had, to, budget),
            (Way::Haproxy(haproxy), Before::Haproxy { entries }) => haproxy.undo(entries, budget),
            (Way::Dns(dns), Before::Dns { records }) => dns.undo(records, budget),
            (Way::File(file), Before::File { host, port }) => file.undo(host, port.as_deref()),
            (Way::Exec(argv), Before::Exec) => exec::undo(argv, act, budget),
            (
                Way::Vip(_) | Way::Haproxy(_) | Way::Dns(_) | Way::File(_) | Way::Exec(_),
                Before::Vip { .. }
                | Before::Haproxy { .. }
                | Before::Dns { .. }
                | Before::File { .. }
                | Before::Exec,
            ) => Err(Fault::new(
                "what was noted before it is of another way",
                "Undo it by hand.",
            )),
        },
    )
}

/// One of the four above for each, side by side, in their order.
pub fn side_by_side<R: Send>(
    acts: &[RerouteAct],
    step: impl Fn(&RerouteAct) -> Result<R, RerouteError> + Sync,
) -> Vec<Result<R, RerouteError>> {
    parallel::each(acts, step)
}

enum Way<'a> {
    Vip(Vip<'a>),
    Haproxy(Haproxy<'a>),
    Dns(Dns<'a>),
    File(ConfigFile<'a>),
    Exec(&'a [String]),
}

impl<'a> Way<'a> {
    fn of(reroute: &'a Reroute) -> Self {
        match reroute {
            Reroute::Vip {
                address,
                prefix,
                interface,
                hosts,
            } => Self::Vip(Vip {
                address: *address,
                prefix: *prefix,
                interface,
                hosts,
            }),
            Reroute::Haproxy {
                socket,
                backend,
                entries,
            } => Self::Haproxy(Haproxy {
                socket,
                backend,
                entries,
            }),
            Reroute::Dns {
                server,
                port,
                zone,
                name,
                ttl_s,
                key_file,
                addresses,
            } => Self::Dns(Dns {
                server,
                port: *port,
                zone,
                name,
                ttl_s: *ttl_s,
                key_file,
                addresses,
            }),
            Reroute::File {
                path,
                format,
                key,
                port_key,
                addresses,
            } => Self::File(ConfigFile {
                path,
                format: *format,
                key,
                port_key: port_key.as_deref(),
                addresses,
            }),
            Reroute::Exec { argv } => Self::Exec(argv),
        }
    }
}

fn named<R>(act: &RerouteAct, result: Result<R, Fault>) -> Result<R, RerouteError> {
    result.map_err(|fault| RerouteError {
        name: act.reroute.way.name(),
        message: fault.message,
        hint: fault.hint,
    })
}
