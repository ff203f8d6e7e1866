//! What every command needs before it starts: the configuration, signals, progress.

use std::path::Path;
use std::sync::mpsc;

use nix::sys::signal::{SigSet, Signal};

use super::Cli;
use super::failure::Failure;
use super::ui::Ui;
use crate::config;
use crate::journal::StateDir;
use crate::snapshot::Context;
use crate::sys::cancel::Cancel;
use crate::sys::progress::Progress;

/// Loads the configuration and runs a command with signals and progress in place.
pub fn with_context<T>(
    cli: &Cli,
    ui: &Ui,
    command: impl FnOnce(&Context) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let config = config::load(cli.config.as_deref())?;
    let cancel = Cancel::default();
    catch_signals(&cancel);
    let (sender, receiver) = mpsc::channel();
    let shows = ui.shows_progress();
    let printer = std::thread::spawn(move || super::telling::print_events(&receiver, shows));
    let context = Context {
        state: StateDir::at(&config.state_dir),
        config,
        progress: Progress::to(sender),
        cancel,
    };
    let result = command(&context);
    drop(context);
    drop(printer.join());
    result
}

/// As `with_context`, for what changes nothing and is soon over: a signal may just end it.
pub fn with_plain_context<T>(
    cli: &Cli,
    command: impl FnOnce(&Context) -> Result<T, Failure>,
) -> Result<T, Failure> {
    command(&context_of(cli.config.as_deref())?)
}

/// As `with_plain_context`, of one configuration.
pub fn context_of(config: Option<&Path>) -> Result<Context, Failure> {
    let config = config::load(config)?;
    Ok(Context {
        state: StateDir::at(&config.state_dir),
        config,
        progress: Progress::silent(),
        cancel: Cancel::default(),
    })
}

/// A thread waits for the signals, so that no system call of ours is ever broken off by one.
fn catch_signals(cancel: &Cancel) {
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        signals.add(signal);
    }
    if signals.thread_block().is_err() {
        return;
    }
    let cancel = cancel.clone();
    std::thread::spawn(move || {
        while let Ok(signal) = signals.wait() {
            tracing::warn!(%signal, "stopping: putting things back");
            cancel.set();
        }
    });
}
