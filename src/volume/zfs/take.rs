//! A ZFS snapshot that is ready to be taken, and its taking.

use std::path::PathBuf;
use std::time::Duration;

use super::lines::{self, ID_PROPERTY, PATH_PROPERTY, SERVER_PROPERTY};
use super::{CHANGE_LIMIT, Zfs, record};
use crate::volume::{
    Backend, PlannedVolume, Prepared, Tags, TakeRequest, VolumeError, VolumeRecord,
};

/// One dataset and the snapshot that will be made of it.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub origin: String,
    pub name: String,
    pub path: PathBuf,
}

pub(super) struct PreparedZfs {
    zfs: Zfs,
    id: String,
    targets: Vec<Target>,
    names: Vec<String>,
    /// Set by the snapshot call itself, so that what it makes is ours from its first moment.
    properties: Vec<(String, String)>,
    limit: Duration,
}

impl PreparedZfs {
    pub(super) fn new(zfs: Zfs, request: &TakeRequest, targets: Vec<Target>) -> Self {
        let property = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        Self {
            zfs,
            id: request.id.clone(),
            names: targets.iter().map(|target| target.name.clone()).collect(),
            targets,
            properties: vec![
                property(ID_PROPERTY, &request.id),
                property(SERVER_PROPERTY, &request.server),
            ],
            limit: request.limit,
        }
    }

    fn seal_one(&self, target: &Target, tags: &Tags) -> Result<VolumeRecord, VolumeError> {
        let mut properties = lines::properties_of(tags);
        properties.retain(|(name, _)| name != ID_PROPERTY);
        if let Some(path) = target
            .path
            .to_str()
            .filter(|path| lines::is_property_value(path))
        {
            properties.push((PATH_PROPERTY.to_owned(), path.to_owned()));
        }
        if !properties.is_empty() {
            let argv = lines::set_argv(&properties, &target.name);
            self.zfs.zfs.run(argv, CHANGE_LIMIT)?;
        }
        let missing = || VolumeError::NotFound {
            name: target.name.clone(),
        };
        let found = self.zfs.properties(&target.name)?.ok_or_else(missing)?;
        if found.local(ID_PROPERTY) != Some(&self.id) {
            return Err(VolumeError::NotOurs {
                name: target.name.clone(),
                reason: "its property understudy:id isn't the snapshot's id".to_owned(),
            });
        }
        record(&target.origin, &target.name, target.path.to_str(), &found).ok_or_else(missing)
    }
}

impl Prepared for PreparedZfs {
    fn plan(&self) -> Vec<PlannedVolume> {
        self.targets
            .iter()
            .map(|target| PlannedVolume {
                origin: target.origin.clone(),
                name: target.name.clone(),
            })
            .collect()
    }

    fn warm_up(&mut self, _progress: &mut dyn FnMut(u64, u64)) -> Result<(), VolumeError> {
        Ok(())
    }

    fn take(&mut self, _progress: &mut dyn FnMut(u64, u64)) -> Result<(), VolumeError> {
        match &self.zfs.core {
            Some(core) => core
                .snapshot(&self.names, &self.properties, self.limit)
                .map_err(|error| VolumeError::Call {
                    action: "snapshot",
                    path: error.name.unwrap_or_else(|| self.names.join(" ")).into(),
                    source: error.source,
                }),
            None => {
                let argv = lines::snapshot_argv(&self.names, &self.properties);
                self.zfs.zfs.run(argv, self.limit)?;
                Ok(())
            }
        }
    }

    fn seal(&mut self, tags: &Tags) -> Result<Vec<VolumeRecord>, VolumeError> {
        self.targets
            .iter()
            .map(|target| self.seal_one(target, tags))
            .collect()
    }

    fn discard(&mut self) -> Result<(), VolumeError> {
        self.zfs.sweep(&self.id, &self.plan()).map(drop)
    }
}
