//! The same JSON to an address of the web.

use std::time::Duration;

use super::message::Told;
use crate::config::Secret;
use crate::sys::http;

pub(super) fn post(url: &Secret, told: &Told, limit: Duration) -> Result<(), String> {
    let body = told.json().to_string();
    let sent = http::post(url.reveal(), "application/json", body.as_bytes(), limit);
    sent.map_err(|error| error.to_string())
}
