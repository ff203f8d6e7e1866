//! Process set-up only; everything else lives in the rooms of the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    understudy::cli::main()
}
