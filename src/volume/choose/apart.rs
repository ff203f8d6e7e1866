//! What isn't on the data's volume: which setting puts it where, and what would bring it back.

use crate::volume::layout::{Layout, Place, Role};

/// A place and the variable that says where it is.
struct Apart<'a> {
    place: &'a Place,
    setting: Option<&'static str>,
}

impl Apart<'_> {
    /// "the redo log (innodb_log_group_home_dir) is in /redo"
    fn words(&self) -> String {
        let setting = self.setting.map_or(String::new(), |s| format!(" ({s})"));
        let path = self.place.path.display();
        match self.place.role {
            Role::Tables => format!("tables are in {path}"),
            role => format!("the {}{setting} is in {path}", role.words()),
        }
    }

    fn cure(&self) -> String {
        let path = self.place.path.display();
        match (self.place.role, self.setting) {
            (_, Some(setting)) => format!("point {setting} there"),
            // It is a component's or a plugin's, and those differ.
            (Role::KeyRing, None) => format!("let the key ring's path ({path}) be there"),
            (_, None) => format!("move the tables in {path} there"),
        }
    }
}

fn places_apart(layout: &Layout) -> Vec<Apart<'_>> {
    let apart = || {
        let volumes = layout.volumes.iter().skip(1);
        volumes.flat_map(|volume| &volume.places)
    };
    // A file of a directory that is told already.
    let is_told = |place: &Place| {
        let is_file = matches!(place.role, Role::Tables | Role::InnodbData);
        is_file
            && apart().any(|other| {
                let is_same = other.path == place.path && other.role < place.role;
                is_same || (other.path != place.path && other.covers(&place.path))
            })
    };
    let setting = |place: &Place| match place.role {
        // The directory has the files beneath it; one without is a file with a path of its own.
        Role::InnodbData => {
            let is_home = layout.places().any(|other| {
                other.role == Role::InnodbData
                    && other.path != place.path
                    && other.path.starts_with(&place.path)
            });
            Some(match is_home {
                true => "innodb_data_home_dir",
                false => "innodb_data_file_path",
            })
        }
        role => role.setting(),
    };
    apart()
        .filter(|place| !is_told(place))
        .map(|place| Apart {
            place,
            setting: setting(place),
        })
        .collect()
}

/// "the redo log (innodb_log_group_home_dir) is in /redo, the data in /srv/mysql"
pub(super) fn describe(layout: &Layout) -> String {
    let mut words: Vec<String> = places_apart(layout).iter().map(Apart::words).collect();
    words.push(format!("the data in {}", layout.data_dir.display()));
    words.join(", ")
}

/// What to do with each of them, a sentence without its full stop; `None` where all is on one volume.
pub(super) fn cure(layout: &Layout) -> Option<String> {
    let mut cures: Vec<String> = Vec::new();
    for cure in places_apart(layout).iter().map(Apart::cure) {
        if !cures.contains(&cure) {
            cures.push(cure);
        }
    }
    let data = layout.data_dir.display();
    (!cures.is_empty()).then(|| {
        format!(
            "Bring all onto the volume of {data}: {}, and move the files while the server is stopped",
            cures.join(", ")
        )
    })
}
