//! Finding the configuration file.
//!
//! The only place that reads the environment for it.

use std::ffi::OsString;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use super::issue::ConfigError;
use super::model::Config;
use super::parse::parse;
use crate::sys::trust;

/// The variable that names the configuration file.
pub const CONFIG_VARIABLE: &str = "UNDERSTUDY_CONFIG";
/// Where the file is looked for when nothing names one, in this order.
pub const CONFIG_PATHS: [&str; 2] = ["./understudy.toml", "/etc/understudy/understudy.toml"];
/// A configuration is some kilobytes.
const BYTES_MAX: u64 = 4 << 20;
/// What of the state directory is carried out. Its work/ holds files of private servers, which run as
/// other accounts.
const BELIEVED: [&str; 7] = [
    "accounts",
    "history",
    "journal",
    "known",
    "leases",
    "mounts",
    "snapshots",
];

/// Finds, reads and validates the configuration.
///
/// Looks at `explicit` (from `--config`), then `$UNDERSTUDY_CONFIG`, then [`CONFIG_PATHS`]. A file
/// that was named must be there; an empty variable names none. `Config::path` is absolute.
pub fn load(explicit: Option<&Path>) -> Result<Config, ConfigError> {
    let usual: Vec<_> = CONFIG_PATHS.iter().map(PathBuf::from).collect();
    load_from(explicit, std::env::var_os(CONFIG_VARIABLE), &usual)
}

fn load_from(
    explicit: Option<&Path>,
    variable: Option<OsString>,
    usual: &[PathBuf],
) -> Result<Config, ConfigError> {
    let variable = variable
        .filter(|value| !value.is_empty())
        .map(PathBuf::from);
    let named = match (explicit, variable) {
        (Some(path), _) => Some((path.to_owned(), "--config")),
        (None, Some(path)) => Some((path, "$UNDERSTUDY_CONFIG")),
        (None, None) => None,
    };
    if let Some((path, named_by)) = named {
        return match read(&path)? {
            Some(text) => parse_found(&text, &path),
            None => Err(ConfigError::Missing { path, named_by }),
        };
    }
    for path in usual {
        if let Some(text) = read(path)? {
            return parse_found(&text, path);
        }
    }
    Err(ConfigError::NotFound {
        looked: usual.to_owned(),
    })
}

fn parse_found(text: &str, path: &Path) -> Result<Config, ConfigError> {
    let mut config = parse(text, path)?;
    trust::check(&config.state_dir)?;
    for name in BELIEVED {
        trust::check_tree(&config.state_dir.join(name), 2)?;
    }
    // Children are started in other directories.
    config.path = std::path::absolute(path).unwrap_or(config.path);
    Ok(config)
}

/// The text, or nothing when there is no such file.
fn read(path: &Path) -> Result<Option<String>, ConfigError> {
    let unreadable = |source| ConfigError::Unreadable {
        path: path.to_owned(),
        source,
    };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(error)),
    };
    trust::check(path)?;
    let mut text = String::new();
    file.take(BYTES_MAX + 1)
        .read_to_string(&mut text)
        .map_err(unreadable)?;
    if text.len() as u64 > BYTES_MAX {
        return Err(ConfigError::TooLarge {
            path: path.to_owned(),
            bytes_max: BYTES_MAX,
        });
    }
    Ok(Some(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINIMAL: &str = "[server.db1]\naddress = \"db1\"\n";

    #[test]
    fn what_is_named_first_wins() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, MINIMAL).unwrap();
            path
        };
        let (a, b, c, d) = (file("a"), file("b"), file("c"), file("d"));
        let usual = [c.clone(), d.clone()];
        let from = |explicit: Option<&Path>, variable: &str| {
            load_from(explicit, Some(variable.into()), &usual)
                .unwrap()
                .path
        };
        let variable = b.to_str().unwrap();
        assert_eq!(from(Some(&a), variable), a);
        assert_eq!(from(None, variable), b);
        assert_eq!(from(None, ""), c);
        std::fs::remove_file(&c).unwrap();
        assert_eq!(from(None, ""), d);
    }

    #[test]
    fn a_named_file_that_is_missing_is_no_reason_to_take_another() {
        let dir = tempfile::tempdir().unwrap();
        let there = dir.path().join("there");
        std::fs::write(&there, MINIMAL).unwrap();
        let missing = dir.path().join("missing");
        let error = load_from(Some(&missing), None, std::slice::from_ref(&there)).unwrap_err();
        assert!(error.to_string().contains("named by --config"), "{error}");
        let error = load_from(None, Some(missing.into()), &[there]).unwrap_err();
        assert!(error.to_string().contains("$UNDERSTUDY_CONFIG"), "{error}");
    }

    #[test]
    fn without_any_file_the_places_and_the_cure_are_told() {
        let error = load_from(None, None, &["/nonexistent/understudy.toml".into()]).unwrap_err();
        assert!(error.to_string().contains("/nonexistent/understudy.toml"));
        assert!(error.hint().unwrap().contains("understudy config example"));
    }
}
