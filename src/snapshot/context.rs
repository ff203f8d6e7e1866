//! What every command of this room is handed: configuration, state, and whether to go on.

use crate::config::{Config, ServerConfig, credentials};
use crate::journal::operation::Surroundings;
use crate::journal::{Beginning, Operation, Party, StateDir};
use crate::server::{Flavour, Identity, Target};
use crate::snapshot::error::SnapshotError;
use crate::sys::cancel::Cancel;
use crate::sys::progress::Progress;

pub struct Context {
    pub config: Config,
    pub state: StateDir,
    pub progress: Progress,
    pub cancel: Cancel,
}

impl Context {
    /// Begins an operation; its journal is there from now on.
    pub fn begin(&self, beginning: Beginning<'_>) -> Result<Operation, SnapshotError> {
        let surroundings = Surroundings {
            state: &self.state,
            progress: &self.progress,
            cancel: &self.cancel,
        };
        Ok(Operation::begin(&surroundings, beginning)?)
    }

    /// A server as an operation knows it.
    pub fn party(
        &self,
        config: &ServerConfig,
        identity: &Identity,
        flavour: &Flavour,
    ) -> Result<Party, SnapshotError> {
        Ok(Party {
            name: config.name.clone(),
            target: self.target(config)?,
            identity: identity.clone(),
            flavour: flavour.clone(),
            credentials: config.credentials.clone(),
        })
    }

    pub fn server(&self, name: &str) -> Result<&ServerConfig, SnapshotError> {
        self.config
            .servers
            .get(name)
            .ok_or_else(|| SnapshotError::UnknownServer {
                name: name.to_owned(),
                known: self.config.servers.keys().cloned().collect(),
            })
    }

    /// Where and as whom to connect to a server; reads its credentials file.
    pub fn target(&self, server: &ServerConfig) -> Result<Target, SnapshotError> {
        let credentials = match &server.credentials {
            Some(path) => credentials::load(path).map_err(|error| SnapshotError::Credentials {
                server: server.name.clone(),
                reason: error.to_string(),
                hint: error.hint(),
            })?,
            None => credentials::Credentials::default(),
        };
        Ok(Target {
            server: server.name.clone(),
            address: server.address.clone(),
            user: credentials.user.unwrap_or_else(|| "root".to_owned()),
            password: credentials.password.unwrap_or_default(),
            tls: server.tls,
            tls_ca: server.tls_ca.clone(),
        })
    }
}
