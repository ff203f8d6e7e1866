//! Mail, by the sendmail of this host.

use super::message::Told;
use super::program;
use crate::config::NotifyConfig;
use crate::sys::exec::Options;

/// The addressee is read from the text, so that no word of it becomes an option; a line with a lone
/// point doesn't end it.
const ARGS: [&str; 2] = ["-t", "-oi"];

pub(super) fn send(config: &NotifyConfig, to: &str, told: &Told) -> Result<(), String> {
    let options = Options {
        input: Some(told.mail(to).into_bytes()),
        ..Options::default()
    };
    let args = ARGS.map(str::to_owned);
    program::start(&config.sendmail, &args, config.timeout, options)
}
