//! Client programs for a private server, in its room: they have no more rights than it has.

use std::path::{Path, PathBuf};

use super::Booted;
use crate::server::client::{self, Tool};
use crate::sys::exec::Program;
use crate::sys::files::{self, FileError};

impl Booted {
    /// A program for this server's flavour: the container's own, where the server's is, else one of this
    /// host, at best of `directory`. It runs as the account that owns the files, in whose place its
    /// options lie. The error names what was looked for.
    pub fn find_tool(&self, tool: Tool, directory: Option<&Path>) -> Result<Program, String> {
        let near = client::in_directory(directory);
        let beside = |name: &str| {
            let contained = self.ready.find_beside(name);
            Some(contained.or_else(|| near(name))?.as_account(self.owner))
        };
        let found = tool.find(&self.flavour, &beside)?;
        Ok(found.as_account(self.owner))
    }

    /// An option file for such programs, which they alone can read.
    pub fn write_tool_options(&self) -> Result<PathBuf, FileError> {
        let path = self.log.with_file_name("client");
        let text = client::option_file(&self.flavour, &self.target);
        files::write_for(&path, text.as_bytes(), self.owner)?;
        Ok(path)
    }
}
