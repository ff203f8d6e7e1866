//! What happens every night: `run` does it, `history` keeps what came of it, `rhythm` and `trend` judge.
//!
//! Takes, proves and prunes by the commands' own means; knows no other way to do any of it.

pub mod begun;
pub mod history;
pub mod record;
pub mod rhythm;
pub mod run;
pub mod trend;
