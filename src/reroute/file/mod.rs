//! One key of a configuration file that clients read, replaced atomically.

pub(super) mod edit;

use std::collections::BTreeMap;
use std::path::Path;

use super::act::{Before, Checked, Done, Fault};
use crate::config::FileFormat;
use crate::sys::files::{self, FileError};

pub(super) struct ConfigFile<'a> {
    pub path: &'a Path,
    pub format: FileFormat,
    pub key: &'a str,
    pub port_key: Option<&'a str>,
    pub addresses: &'a BTreeMap<String, (String, u16)>,
}

/// The file's text, and where its values stand.
struct Found {
    text: String,
    host: edit::Span,
    port: Option<edit::Span>,
}

impl Found {
    fn host(&self) -> String {
        self.text[self.host.clone()].to_owned()
    }

    fn port(&self) -> Option<String> {
        self.port.clone().map(|span| self.text[span].to_owned())
    }
}

impl ConfigFile<'_> {
    pub fn check(&self, to: &str) -> Result<Checked, Fault> {
        let found = self.look()?;
        files::check_replaceable(self.path).map_err(|error| self.unwritable(&error))?;
        let (host, port) = self.wanted(to, &found)?;
        let already = (found.host(), found.port()) == (host.clone(), port.clone());
        let will = match already {
            true => format!("{} is {host} already", self.key),
            false => format!("{} from {} to {host}", self.key, found.host()),
        };
        Ok(Checked {
            before: Before::File {
                host: found.host(),
                port: found.port(),
            },
            will,
            warnings: Vec::new(),
        })
    }

    pub fn perform(&self, to: &str) -> Result<Done, Fault> {
        let found = self.look()?;
        let (host, port) = self.wanted(to, &found)?;
        self.write(&found, host, port)
    }

    pub fn undo(&self, host: &str, port: Option<&str>) -> Result<Done, Fault> {
        let found = self.look()?;
        self.write(&found, host.to_owned(), port.map(str::to_owned))
    }

    pub fn leads_to(&self, to: &str) -> Result<bool, Fault> {
        let found = self.look()?;
        Ok(self.wanted(to, &found)? == (found.host(), found.port()))
    }

    fn write(&self, found: &Found, host: String, port: Option<String>) -> Result<Done, Fault> {
        if (found.host(), found.port()) == (host.clone(), port.clone()) {
            return Ok(Done::already());
        }
        let mut values = vec![(found.host.clone(), host.clone())];
        values.extend(found.port.clone().zip(port));
        files::replace_alike(self.path, edit::put(&found.text, values).as_bytes())
            .map_err(|error| self.unwritable(&error))?;
        Ok(Done::changed(format!(
            "{} from {} to {host}",
            self.key,
            found.host()
        )))
    }

    /// As they are written there.
    fn wanted(&self, to: &str, found: &Found) -> Result<(String, Option<String>), Fault> {
        let (host, port) = self.addresses.get(to).ok_or_else(|| {
            Fault::new(
                format!("it knows no address of {to}"),
                "Add it to its addresses.",
            )
        })?;
        let value = |old: &str, value: &str, is_text: bool| match edit::plain(old) == value {
            // Whatever its quotes are.
            true => old.to_owned(),
            false if is_text && !old.starts_with(['"', '\'']) && self.format != FileFormat::Ini => {
                format!("\"{value}\"")
            }
            false => edit::written(old, value),
        };
        let port = found
            .port()
            .map(|old| value(&old, &port.to_string(), false));
        Ok((value(&found.host(), host, true), port))
    }

    fn look(&self) -> Result<Found, Fault> {
        let hint = format!(
            "Look at {}; one key is replaced, none is added.",
            self.path.display()
        );
        let wrong = |reason: String| Fault::new(reason, hint.clone());
        let text = files::read_text(self.path)
            .map_err(|error| wrong(error.to_string()))?
            .ok_or_else(|| wrong("it isn't there".to_owned()))?;
        let place = |key: &str| edit::find(&text, self.format, key).map_err(wrong);
        let host = place(self.key)?;
        let port = self.port_key.map(place).transpose()?;
        Ok(Found { host, port, text })
    }

    fn unwritable(&self, error: &FileError) -> Fault {
        Fault::new(
            error.to_string(),
            format!(
                "It is replaced by a new file beside it: see `ls -ld {0} {0}/..`.",
                self.path.display()
            ),
        )
    }
}
