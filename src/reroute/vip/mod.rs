//! An address that clients use, moved from the old source's host to the new one's.
//!
//! It is taken off every other host first, and seen to be gone. Where a host can't be asked, the
//! network is: another host that answers for the address stops it.

pub(super) mod lines;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::thread::sleep;
use std::time::Duration;

use super::act::{Before, Checked, Done, Fault};
use super::budget::Budget;
use crate::sys::exec::{ExecError, Output, Program};
use lines::There;

const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Links to it are where each of these programs is, on every distribution in use.
const ELSEWHERE: [&str; 4] = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"];
pub(super) struct Vip<'a> {
    pub address: IpAddr,
    pub prefix: u8,
    pub interface: &'a str,
    pub hosts: &'a BTreeMap<String, Vec<String>>,
}

impl Vip<'_> {
    pub fn check(&self, to: &str, budget: Budget) -> Result<Checked, Fault> {
        let looks = self.on_each(|server| self.look(server, budget.share(3)?));
        let (mut had, mut warnings) = (BTreeMap::new(), Vec::new());
        for (server, look) in looks {
            match look {
                Ok((true, there)) => drop(had.insert(server, there != There::No)),
                Ok((false, _)) if server == to => return Err(self.no_interface(&server)),
                Ok((false, there)) => {
                    warnings.push(format!("{server} has no interface {}", self.interface));
                    had.insert(server, there != There::No);
                }
                Err(fault) if server == to => return Err(fault),
                Err(fault) => warnings.push(format!(
                    "{} can't be taken off {server}: {}",
                    self.address, fault.message
                )),
            }
        }
        let tools: &[&str] = match self.address {
            IpAddr::V4(_) => &["arping"],
            IpAddr::V6(_) => &["sysctl"],
        };
        for tool in tools {
            self.run(to, tool, vec!["-V".to_owned()], budget.share(3)?)
                .map_err(|error| self.fault(to, &error))?;
        }
        let will = match had.get(to) {
            Some(true) => format!("{} is on {to} already", self.address),
            Some(false) | None => format!("{} to {} of {to}", self.address, self.interface),
        };
        Ok(Checked {
            before: Before::Vip { had },
            will,
            warnings,
        })
    }

    pub fn perform(&self, to: &str, budget: Budget) -> Result<Done, Fault> {
        let (taken, warnings) = self.take_off(|server| server != to, budget)?;
        let added = self.put_on(to, !warnings.is_empty(), budget)?;
        let mut words: Vec<String> = taken.iter().map(|server| format!("off {server}")).collect();
        words.extend(added.then(|| format!("on {to}")));
        let mut done = match words.is_empty() {
            true => Done::already(),
            false => Done::changed(format!("{} {}", self.address, words.join(", "))),
        };
        done.warnings = warnings;
        Ok(done)
    }

    /// Where it was goes before where it was brought; a host that had it and can't be reached is an
    /// error.
    pub fn undo(
        &self,
        had: &BTreeMap<String, bool>,
        to: &str,
        budget: Budget,
    ) -> Result<Done, Fault> {
        let is_off = |server: &str| had.get(server).map_or(server == to, |had| !had);
        let (taken, warnings) = self.take_off(is_off, budget)?;
        let mut words: Vec<String> = taken.iter().map(|server| format!("off {server}")).collect();
        for (server, _) in had.iter().filter(|(_, had)| **had) {
            if self.put_on(server, !warnings.is_empty(), budget)? {
                words.push(format!("on {server}"));
            }
        }
        let mut done = match words.is_empty() {
            true => Done::already(),
            false => Done::changed(format!("{} {}", self.address, words.join(", "))),
        };
        done.warnings = warnings;
        Ok(done)
    }

    /// Whether it is on that host and usable, and on none of the others that answer.
    pub fn leads_to(&self, to: &str, budget: Budget) -> Result<bool, Fault> {
        let looks = self.on_each(|server| self.look(server, budget.share(3)?));
        let mut right = false;
        for (server, look) in looks {
            match look {
                Ok((_, There::Yes)) if server == to => right = true,
                Ok((_, There::No)) => {}
                Ok(_) => return Ok(false),
                Err(fault) if server == to => return Err(fault),
                Err(_) => {}
            }
        }
        Ok(right)
    }

    /// From whom it was taken, and what is to be said of those that couldn't be asked.
    fn take_off(
        &self,
        is_off: impl Fn(&str) -> bool + Sync,
        budget: Budget,
    ) -> Result<(Vec<String>, Vec<String>), Fault> {
        let taken = self.on_each(|server| match is_off(server) {
            true => self.take_off_one(server, budget).map(Some),
            false => Ok(None),
        });
        let (mut from, mut warnings) = (Vec::new(), Vec::new());
        for (server, result) in taken {
            match result {
                Ok(Some(true)) => from.push(server),
                Ok(Some(false) | None) => {}
                Err(fault) => warnings.push(format!(
                    "{} couldn't be taken off {server}, or seen to be gone: {}",
                    self.address, fault.message
                )),
            }
        }
        budget.left()?;
        Ok((from, warnings))
    }

    fn take_off_one(&self, server: &str, budget: Budget) -> Result<bool, Fault> {
        if self.look(server, budget.share(3)?)?.1 == There::No {
            return Ok(false);
        }
        let args = lines::change("del", self.address, self.prefix, self.interface);
        let deleted = self.run(server, "ip", args, budget.share(3)?);
        match self.look(server, budget.share(3)?)?.1 {
            There::No => Ok(true),
            There::Tentative | There::Duplicate | There::Yes => Err(match deleted {
                Err(error) => self.fault(server, &error),
                Ok(_) => Fault::new(
                    format!("{} is still on {server}", self.address),
                    "Does something else put it there (keepalived, an interface's configuration)?",
                ),
            }),
        }
    }

    /// Whether it had to be added. It is announced in any case: a run before may have been killed.
    fn put_on(&self, to: &str, probe: bool, budget: Budget) -> Result<bool, Fault> {
        let (has_interface, there) = self.look(to, budget.left()?)?;
        if !has_interface {
            return Err(self.no_interface(to));
        }
        let run = |program: &str, args: Vec<String>| {
            let ran = self.run(to, program, args, budget.left()?);
            ran.map_err(|error| self.fault(to, &error))
        };
        let change = |verb| {
            let words = lines::change(verb, self.address, self.prefix, self.interface);
            run("ip", words).map(drop)
        };
        let is_new = there == There::No || there == There::Duplicate;
        if self.address.is_ipv4() && probe && is_new {
            self.see_free(to, budget.left()?)?;
        }
        if self.address.is_ipv6() {
            run("sysctl", lines::notify(self.interface))?;
        }
        if there == There::Duplicate {
            change("del")?;
        }
        if is_new {
            change("add")?;
        }
        loop {
            match self.look(to, budget.left()?)?.1 {
                There::Yes => break,
                There::Duplicate => {
                    // Left there it would come up with the next change of the link.
                    change("del")?;
                    return Err(self.taken());
                }
                There::Tentative | There::No => sleep(LOOK_EVERY),
            }
        }
        if self.address.is_ipv4() {
            // arping waits for a second after it has sent.
            let announced = std::thread::scope(|scope| {
                let kinds = ["-U", "-A"].map(|kind| {
                    scope.spawn(move || {
                        run(
                            "arping",
                            lines::announce(kind, self.address, self.interface),
                        )
                    })
                });
                kinds.map(|thread| {
                    thread
                        .join()
                        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
                })
            });
            announced.into_iter().try_for_each(|one| one.map(drop))?;
        }
        Ok(is_new)
    }

    /// No other host of the network answers for it.
    fn see_free(&self, to: &str, limit: Duration) -> Result<(), Fault> {
        let words = lines::is_free(self.address, self.interface);
        match self.run(to, "arping", words, limit) {
            Ok(_) => Ok(()),
            // It says nothing then; other failures have their words.
            Err(ExecError::Failed { status, stderr, .. })
                if status.code() == Some(1) && stderr.trim().is_empty() =>
            {
                Err(self.taken())
            }
            Err(error) => Err(self.fault(to, &error)),
        }
    }

    fn taken(&self) -> Fault {
        Fault::new(
            format!("another host still answers for {}", self.address),
            format!(
                "Take it off there: `ip addr del {}/{} dev …`.",
                self.address, self.prefix
            ),
        )
    }

    fn look(&self, server: &str, limit: Duration) -> Result<(bool, There), Fault> {
        let output = self
            .run(server, "ip", lines::show(), limit)
            .map_err(|error| self.fault(server, &error))?;
        lines::parse_show(&output.stdout, self.address, self.interface).map_err(|reason| {
            Fault::new(
                format!("on the host of {server}: {reason}"),
                "It needs iproute2 4.13 or later there.",
            )
        })
    }

    /// `work` for each server, side by side: one host that hangs doesn't hold up the others.
    fn on_each<R: Send>(&self, work: impl Fn(&str) -> R + Sync) -> Vec<(String, R)> {
        let servers: Vec<String> = self.hosts.keys().cloned().collect();
        let results = crate::sys::parallel::each(&servers, |server| work(server));
        servers.into_iter().zip(results).collect()
    }

    /// Runs a program where that server's host is.
    fn run(
        &self,
        server: &str,
        name: &str,
        args: Vec<String>,
        limit: Duration,
    ) -> Result<Output, ExecError> {
        let Some((program, prefix)) = self.hosts.get(server).and_then(|argv| argv.split_first())
        else {
            return Program::find(name)?.run(args, limit);
        };
        for place in ELSEWHERE {
            let mut argv = prefix.to_vec();
            argv.push(format!("{place}/{name}"));
            argv.extend_from_slice(&args);
            match Program::at(program).run(argv, limit) {
                Err(error) if is_absent(&error) => {}
                ended => return ended,
            }
        }
        Err(ExecError::NotFound {
            name: name.to_owned(),
        })
    }

    fn no_interface(&self, server: &str) -> Fault {
        Fault::new(
            format!("the host of {server} has no interface {}", self.interface),
            "`ip link` there lists them.",
        )
    }

    fn fault(&self, server: &str, error: &ExecError) -> Fault {
        Fault::new(
            format!("on the host of {server}: {error}"),
            "Run it by hand; it needs ip (iproute2) and arping (iputils) there, and root.",
        )
    }
}

/// The program isn't at that place of the other host. Shells and ssh end with 127 then, `ip netns exec`
/// with 1 (seen on iproute2 6.1), so what is said tells it; asked for at another place it says the same
/// again if it was something else.
fn is_absent(error: &ExecError) -> bool {
    match error {
        ExecError::Failed { stderr, .. } => {
            stderr.contains("No such file or directory") || stderr.contains("not found")
        }
        ExecError::NotFound { .. }
        | ExecError::Start { .. }
        | ExecError::TimedOut { .. }
        | ExecError::Interrupted { .. } => false,
    }
}
