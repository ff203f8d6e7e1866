//! A name, changed by an update that is signed with a key (TSIG). The key stays in its file.

pub(super) mod lines;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use super::act::{Before, Checked, Done, Fault, Record};
use super::budget::Budget;
use crate::config::check_key_file;
use crate::sys::exec::{ExecError, Options, Program};
use lines::Name;

pub(super) struct Dns<'a> {
    pub server: &'a str,
    pub port: u16,
    pub zone: &'a str,
    pub name: &'a str,
    pub ttl_s: u32,
    pub key_file: &'a Path,
    pub addresses: &'a BTreeMap<String, IpAddr>,
}

impl Dns<'_> {
    pub fn check(&self, to: &str, budget: Budget) -> Result<Checked, Fault> {
        let nsupdate = self.ready()?;
        let wanted = self.wanted(to)?;
        let now = self.look(budget)?;
        // Deleting what isn't there changes nothing, and is refused as a change would be.
        match now.iter().any(|record| record.address == wanted.address) {
            true => {}
            false => {
                let script = self.lines(wanted.address).rehearsal(&now, wanted.address);
                self.update(&nsupdate, script, budget)?;
            }
        }
        let old_ttl_s = now.iter().map(|record| record.ttl_s).max();
        let mut warnings = Vec::new();
        if let Some(ttl_s) = old_ttl_s.filter(|_| now != [wanted.clone()]) {
            warnings.push(format!(
                "resolvers may lead clients to the old address for {ttl_s} s more (its TTL; one that \
                 asked before an earlier change keeps to the TTL of then)"
            ));
        }
        let will = match now == [wanted.clone()] {
            true => format!("{} is {} already", self.name, wanted.address),
            false => format!(
                "{} from {} to {}, TTL {} s",
                self.name,
                shown(&now),
                wanted.address,
                wanted.ttl_s
            ),
        };
        Ok(Checked {
            before: Before::Dns { records: now },
            will,
            warnings,
        })
    }

    pub fn perform(&self, to: &str, budget: Budget) -> Result<Done, Fault> {
        let wanted = vec![self.wanted(to)?];
        self.bring(&wanted, budget)
    }

    pub fn undo(&self, before: &[Record], budget: Budget) -> Result<Done, Fault> {
        self.bring(before, budget)
    }

    /// Whether the name server itself answers so.
    pub fn leads_to(&self, to: &str, budget: Budget) -> Result<bool, Fault> {
        Ok(self.look(budget)? == [self.wanted(to)?])
    }

    fn bring(&self, wanted: &[Record], budget: Budget) -> Result<Done, Fault> {
        let nsupdate = self.ready()?;
        let now = self.look(budget)?;
        if now == wanted {
            return Ok(Done::already());
        }
        let any = wanted.iter().chain(&now).next();
        let any = any.map_or(IpAddr::from([0, 0, 0, 0]), |record| record.address);
        self.update(&nsupdate, self.lines(any).update(&now, wanted), budget)?;
        let after = self.look(budget)?;
        if after != wanted {
            return Err(Fault::new(
                format!(
                    "the update was accepted, and {} answers {}",
                    self.server,
                    shown(&after)
                ),
                "Is that the zone's primary server, and does nobody else change the name?",
            ));
        }
        Ok(Done::changed(format!(
            "{} from {} to {}",
            self.name,
            shown(&now),
            shown(wanted)
        )))
    }

    fn ready(&self) -> Result<Program, Fault> {
        check_key_file(self.key_file).map_err(|complaint| {
            Fault::new(complaint.message, complaint.hint.unwrap_or_default())
        })?;
        find("nsupdate")
    }

    fn wanted(&self, to: &str) -> Result<Record, Fault> {
        let address = *self.addresses.get(to).ok_or_else(|| {
            Fault::new(
                format!("it knows no address of {to}"),
                "Add it to its addresses.",
            )
        })?;
        Ok(Record {
            address,
            ttl_s: self.ttl_s,
        })
    }

    /// All of a way's addresses are of one kind.
    fn lines(&self, any: IpAddr) -> Name<'_> {
        Name {
            server: self.server,
            port: self.port,
            zone: self.zone,
            name: self.name,
            ipv4: any.is_ipv4(),
        }
    }

    fn look(&self, budget: Budget) -> Result<Vec<Record>, Fault> {
        let any = self.addresses.values().next().copied();
        let name = self.lines(any.unwrap_or(IpAddr::from([0, 0, 0, 0])));
        let wrong = |reason: String| {
            Fault::new(
                format!("asked {} for {}, {reason}", self.server, self.name),
                format!("Try: dig @{} -p {} {}", self.server, self.port, self.name),
            )
        };
        let limit = budget.left()?;
        let args = name.dig_args(whole_seconds(limit));
        match find("dig")?.run(args, limit) {
            Ok(output) => lines::parse_answer(&output.stdout, self.name).map_err(wrong),
            Err(ExecError::Failed { stdout, .. }) => {
                let said = stdout.lines().rfind(|line| !line.is_empty());
                Err(wrong(said.unwrap_or_default().replace(";; ", "")))
            }
            Err(error) => Err(wrong(error.to_string())),
        }
    }

    fn update(&self, nsupdate: &Program, script: String, budget: Budget) -> Result<(), Fault> {
        let limit = budget.left()?;
        let options = Options {
            input: Some(script.into_bytes()),
            ..Options::default()
        };
        let args = [
            "-k".into(),
            self.key_file.as_os_str().to_owned(),
            "-t".into(),
            whole_seconds(limit).to_string().into(),
        ];
        match nsupdate.run_with(args, limit, options) {
            Ok(_) => Ok(()),
            Err(ExecError::Failed { stderr, .. }) => {
                let (said, hint) = lines::explain(&stderr);
                let message = format!("{} refuses the update: {said}", self.server);
                Err(Fault::new(message, hint))
            }
            Err(error) => Err(Fault::new(
                error.to_string(),
                "See whether the name server can be reached.",
            )),
        }
    }
}

fn find(name: &str) -> Result<Program, Fault> {
    Program::find(name).map_err(|error| {
        Fault::new(
            error.to_string(),
            "Install it: `apt-get install bind9-dnsutils`, or the package that has nsupdate and dig.",
        )
    })
}

fn whole_seconds(limit: Duration) -> u64 {
    limit.as_secs().max(1)
}

fn shown(records: &[Record]) -> String {
    match records {
        [] => "nothing".to_owned(),
        records => {
            let addresses: Vec<String> = records.iter().map(|r| r.address.to_string()).collect();
            addresses.join(" and ")
        }
    }
}
