//! A terminal that doesn't show what is typed.

use nix::sys::signal::{SigSet, Signal};
use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};

/// Shows it again when it is dropped. Ctrl-C waits until then: the terminal mustn't be left silent.
pub struct Hidden(Option<(Termios, SigSet)>);

impl Hidden {
    /// Where stdin is no terminal, nothing is changed.
    pub fn of_stdin() -> Self {
        let stdin = std::io::stdin();
        let Ok(before) = tcgetattr(&stdin) else {
            return Self(None);
        };
        let mut held = SigSet::empty();
        held.add(Signal::SIGINT);
        held.add(Signal::SIGQUIT);
        if held.thread_block().is_err() {
            return Self(None);
        }
        let mut quiet = before.clone();
        quiet.local_flags.remove(LocalFlags::ECHO);
        // Where that fails, it is shown.
        let _ = tcsetattr(&stdin, SetArg::TCSAFLUSH, &quiet);
        Self(Some((before, held)))
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        if let Some((before, held)) = &self.0 {
            // Nothing more can be done where it fails.
            let _ = tcsetattr(std::io::stdin(), SetArg::TCSAFLUSH, before);
            let _ = held.thread_unblock();
        }
    }
}
