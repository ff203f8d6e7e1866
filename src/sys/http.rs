//! A message to an address of the web. The address may hold a token: no error repeats it.

use std::time::Duration;

use ureq::config::Config;

/// As the receiver's log shows us.
const USER_AGENT: &str = concat!("understudy/", env!("CARGO_PKG_VERSION"));

/// Why it wasn't delivered, without the address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct HttpError(String);

/// Posts a body and waits for an answer of success, for `limit` at most: name, connection, TLS and
/// answer together. Straight, by no proxy; a redirect isn't followed, since it would carry what the
/// address holds elsewhere.
pub fn post(url: &str, content_type: &str, body: &[u8], limit: Duration) -> Result<(), HttpError> {
    let agent = Config::builder()
        .timeout_global(Some(limit))
        .proxy(None)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .http_status_as_error(false)
        .user_agent(USER_AGENT)
        .build()
        .new_agent();
    let answer = agent
        .post(url)
        .header("Content-Type", content_type)
        .send(body)
        .map_err(|error| HttpError(words(&error, limit)))?;
    let status = answer.status();
    match status.as_u16() {
        200..300 => Ok(()),
        code @ 300..400 => Err(HttpError(format!(
            "it answered {code}, a redirect, which isn't followed"
        ))),
        code => Err(HttpError(format!("it answered {code}"))),
    }
}

fn words(error: &ureq::Error, limit: Duration) -> String {
    match error {
        ureq::Error::Timeout(_) => format!("no answer within {limit:?}"),
        ureq::Error::HostNotFound => "its host isn't known".to_owned(),
        ureq::Error::ConnectionFailed => "no connection".to_owned(),
        ureq::Error::Io(error) => error.to_string(),
        ureq::Error::Rustls(error) => format!("TLS: {error}"),
        ureq::Error::Tls(why) => format!("TLS: {why}"),
        ureq::Error::Protocol(_) => "it doesn't answer as the web does".to_owned(),
        // Others may quote the address.
        _ => "it can't be asked".to_owned(),
    }
}
