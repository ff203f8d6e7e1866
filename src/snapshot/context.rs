//! What every command of this room is handed: configuration, state, and whether to go on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::config::{Config, ServerConfig, credentials};
use crate::journal::StateDir;
use crate::server::Target;
use crate::snapshot::error::SnapshotError;
use crate::snapshot::progress::Progress;

/// Set by a signal; looked at between steps and in every wait.
#[derive(Debug, Clone, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    pub fn set(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }

    /// An error when it is time to put things back.
    pub fn check(&self, step: &'static str) -> Result<(), SnapshotError> {
        if self.is_set() {
            Err(SnapshotError::Interrupted { step })
        } else {
            Ok(())
        }
    }
}

pub struct Context {
    pub config: Config,
    pub state: StateDir,
    pub progress: Progress,
    pub cancel: Cancel,
}

impl Context {
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
