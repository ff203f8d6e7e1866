//! HAProxy, told by its runtime socket which server a back-end leads to.

pub(super) mod lines;

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::act::{Admin, Before, Checked, Done, Entry, Fault};
use super::budget::Budget;
use crate::config::{Address, HaproxyEntries};
use crate::sys::ask::{self, Service};

/// One back-end.
pub(super) struct Haproxy<'a> {
    pub socket: &'a Address,
    pub backend: &'a str,
    pub entries: &'a HaproxyEntries,
}

impl Haproxy<'_> {
    pub fn check(&self, to: &str, budget: Budget) -> Result<Checked, Fault> {
        let level = self.ask(lines::SHOW_LEVEL, budget)?;
        if level.trim() != "admin" {
            return Err(Fault::new(
                format!(
                    "{} has the level {:?}, which may change nothing",
                    self.socket,
                    level.trim()
                ),
                "Write `level admin` behind that `stats socket` in HAProxy's configuration.",
            ));
        }
        let now = self.look(budget)?;
        let wanted = self.wanted(to, &now)?;
        let names: Vec<&str> = wanted.iter().map(|entry| entry.name.as_str()).collect();
        let before: Vec<Entry> = now
            .iter()
            .filter(|entry| names.contains(&entry.name.as_str()))
            .cloned()
            .collect();
        let steps = lines::steps(self.backend, &now, &wanted);
        let will = match steps.is_empty() {
            true => format!("{} leads to {to} already", self.backend),
            false => steps.join("; "),
        };
        Ok(Checked {
            before: Before::Haproxy { entries: before },
            will,
            warnings: vec![
                "HAProxy forgets it when it is restarted or reloaded; change its configuration too"
                    .to_owned(),
            ],
        })
    }

    pub fn perform(&self, to: &str, budget: Budget) -> Result<Done, Fault> {
        let wanted = self.wanted(to, &self.look(budget)?)?;
        self.bring(&wanted, budget)
    }

    pub fn undo(&self, before: &[Entry], budget: Budget) -> Result<Done, Fault> {
        self.bring(before, budget)
    }

    /// Whether it says that it leads there.
    pub fn leads_to(&self, to: &str, budget: Budget) -> Result<bool, Fault> {
        let now = self.look(budget)?;
        let wanted = self.wanted(to, &now)?;
        Ok(lines::steps(self.backend, &now, &wanted).is_empty())
    }

    /// Its answers to what is set vary; what holds is what it shows afterwards.
    fn bring(&self, wanted: &[Entry], budget: Budget) -> Result<Done, Fault> {
        let steps = lines::steps(self.backend, &self.look(budget)?, wanted);
        if steps.is_empty() {
            return Ok(Done::already());
        }
        let mut said = String::new();
        for step in &steps {
            let answer = self.ask(step, budget)?;
            said = format!("{said} {}", answer.trim());
        }
        let now = self.look(budget)?;
        match lines::steps(self.backend, &now, wanted).first() {
            None => Ok(Done::changed(steps.join("; "))),
            Some(undone) => Err(Fault::new(
                format!("`{undone}` had no effect; it answered {:?}", said.trim()),
                format!("Try it on {}, and see HAProxy's log.", self.socket),
            )),
        }
    }

    fn wanted(&self, to: &str, now: &[Entry]) -> Result<Vec<Entry>, Fault> {
        match self.entries {
            HaproxyEntries::One { entry, addresses } => {
                let there = self.entry(entry, now)?;
                let (address, port) = address_of(to, addresses)?;
                Ok(vec![Entry {
                    name: there.name.clone(),
                    address,
                    port,
                    admin: Admin::Ready,
                }])
            }
            HaproxyEntries::Each(names) => names
                .iter()
                .map(|(server, name)| {
                    Ok(Entry {
                        admin: match server == to {
                            true => Admin::Ready,
                            false => Admin::Maint,
                        },
                        ..self.entry(name, now)?.clone()
                    })
                })
                .collect(),
        }
    }

    fn entry<'n>(&self, name: &str, now: &'n [Entry]) -> Result<&'n Entry, Fault> {
        now.iter().find(|entry| entry.name == name).ok_or_else(|| {
            let there: Vec<&str> = now.iter().map(|entry| entry.name.as_str()).collect();
            Fault::new(
                format!("the back-end {} has no server {name}", self.backend),
                format!("It has: {}.", there.join(", ")),
            )
        })
    }

    fn look(&self, budget: Budget) -> Result<Vec<Entry>, Fault> {
        let answer = self.ask(&lines::show(self.backend), budget)?;
        lines::parse_state(&answer).map_err(|reason| {
            Fault::new(
                format!("asked for the servers of {}, {reason}", self.backend),
                "Is the back-end's name right, and HAProxy 1.8 or later?",
            )
        })
    }

    fn ask(&self, line: &str, budget: Budget) -> Result<String, Fault> {
        let service = match self.socket {
            Address::Socket(path) => Service::Unix(path),
            Address::Tcp { host, port } => Service::Tcp(host, *port),
        };
        ask::ask(service, line, budget.left()?).map_err(|error| {
            Fault::new(
                format!("`{line}` on {}: {error}", self.socket),
                "Does HAProxy run, with `stats socket … level admin` there, and may this account use it?",
            )
        })
    }
}

fn address_of(
    to: &str,
    addresses: &BTreeMap<String, (IpAddr, u16)>,
) -> Result<(IpAddr, u16), Fault> {
    addresses.get(to).copied().ok_or_else(|| {
        Fault::new(
            format!("it knows no address of {to}"),
            "Add it to its addresses.",
        )
    })
}
