//! Who logs in: what the groups `[client]` and `[understudy]` of an option file say.
//!
//! Must not tell a value in any message. Where to connect to is the configuration's word alone:
//! host, port and socket of an option file are ignored.

use std::path::{Path, PathBuf};

use super::option_file::{CredentialsError, parse_options};
use super::secret::Secret;

/// The groups that are read; what comes later in the file wins, whichever group it is in.
pub const GROUPS: [&str; 2] = ["client", "understudy"];

/// What an option file says about logging in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Credentials {
    pub user: Option<String>,
    /// `Some` and empty is a password too: the empty one.
    pub password: Option<Secret>,
    /// A CA's certificate; the configuration's `tls_ca` goes before it.
    pub ssl_ca: Option<PathBuf>,
    /// The client's own certificate.
    pub ssl_cert: Option<PathBuf>,
    pub ssl_key: Option<PathBuf>,
}

/// Reads the credentials from an option file and what it includes.
///
/// # Errors
/// Also when this file or an included one is open to others ([`CredentialsError::NotPrivate`]) or
/// belongs to somebody else.
pub fn load(path: &Path) -> Result<Credentials, CredentialsError> {
    let mut credentials = Credentials::default();
    for (name, value) in parse_options(path, &GROUPS)? {
        let name = name.replace('_', "-");
        let name = name.strip_prefix("loose-").unwrap_or(&name);
        let given = |option: &'static str, value: Option<String>| {
            value.ok_or(CredentialsError::NoValue {
                path: path.to_owned(),
                option,
            })
        };
        match name {
            "user" => credentials.user = Some(given("user", value)?),
            "password" => credentials.password = Some(Secret::new(given("password", value)?)),
            "skip-password" => credentials.password = None,
            "ssl-ca" => credentials.ssl_ca = Some(given("ssl-ca", value)?.into()),
            "ssl-cert" => credentials.ssl_cert = Some(given("ssl-cert", value)?.into()),
            "ssl-key" => credentials.ssl_key = Some(given("ssl-key", value)?.into()),
            _ => {}
        }
    }
    Ok(credentials)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn load_text(text: &str) -> Result<Credentials, CredentialsError> {
        let dir = tempfile::tempdir().unwrap();
        load(&write(dir.path(), "db.cnf", text, 0o600))
    }

    fn write(dir: &Path, name: &str, text: &str, mode: u32) -> PathBuf {
        let path = dir.join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    #[test]
    fn the_last_word_wins_whatever_group_it_is_in() {
        let credentials = load_text(
            "[understudy]\nuser=a\n[client]\nuser=b\npassword=\"p#1\"\nhost=elsewhere\n[mysqld]\nuser=c\n",
        )
        .unwrap();
        assert_eq!(credentials.user.as_deref(), Some("b"));
        assert_eq!(credentials.password, Some(Secret::new("p#1")));
    }

    #[test]
    fn names_are_known_in_every_spelling() {
        let credentials =
            load_text("[client]\nloose_ssl_ca=/ca\nssl-cert=/cert\nloose-ssl-key = /key\nUser=x\n")
                .unwrap();
        assert_eq!(credentials.ssl_ca.as_deref(), Some(Path::new("/ca")));
        assert_eq!(credentials.ssl_cert.as_deref(), Some(Path::new("/cert")));
        assert_eq!(credentials.ssl_key.as_deref(), Some(Path::new("/key")));
        assert_eq!(credentials.user, None);
    }

    #[test]
    fn an_empty_password_is_one_and_a_missing_value_is_a_mistake() {
        let credentials = load_text("[client]\npassword=\n").unwrap();
        assert_eq!(credentials.password, Some(Secret::new("")));
        let credentials = load_text("[client]\npassword=x\nskip-password\n").unwrap();
        assert_eq!(credentials.password, None);
        let error = load_text("[client]\npassword\n").unwrap_err();
        assert!(matches!(
            error,
            CredentialsError::NoValue {
                option: "password",
                ..
            }
        ));
    }

    #[test]
    fn files_that_others_may_read_are_refused_with_the_cure() {
        let dir = tempfile::tempdir().unwrap();
        for mode in [0o644, 0o640, 0o620, 0o604, 0o602] {
            let path = write(dir.path(), "db.cnf", "[client]\nuser=x\n", mode);
            let error = load(&path).unwrap_err();
            assert!(
                matches!(error, CredentialsError::NotPrivate { .. }),
                "{mode:o}"
            );
            assert!(
                error
                    .hint()
                    .ends_with(&format!("chmod 600 {}", path.display()))
            );
        }
    }

    #[test]
    fn an_included_file_that_others_may_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let included = write(
            dir.path(),
            "inner.cnf",
            "[client]\npassword=hunter2\n",
            0o644,
        );
        let text = format!("!include {}\n", included.display());
        let error = load(&write(dir.path(), "db.cnf", &text, 0o600)).unwrap_err();
        let CredentialsError::NotPrivate { path, .. } = &error else {
            panic!("{error:?}")
        };
        assert_eq!(path, &included);
    }

    #[test]
    fn what_is_no_file_is_no_option_file() {
        let dir = tempfile::tempdir().unwrap();
        let missing = load(&dir.path().join("x")).unwrap_err();
        assert!(matches!(missing, CredentialsError::Missing { .. }));
        let directory = load(dir.path()).unwrap_err();
        assert!(matches!(directory, CredentialsError::NotAFile { .. }));
    }

    #[test]
    fn no_message_shows_a_value() {
        let credentials = load_text("[client]\npassword=hunter2\n").unwrap();
        assert!(!format!("{credentials:?}").contains("hunter2"));
        for text in [
            "password=hunter2\n",
            "[client]\npassword=hunter2\0\n",
            "[client\npassword=hunter2\n",
        ] {
            let error = load_text(text).unwrap_err();
            assert!(!format!("{error} {error:?} {}", error.hint()).contains("hunter2"));
        }
    }
}
