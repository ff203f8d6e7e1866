//! Getting data back: a whole directory, in place of a server's own data, or single tables.

pub mod directory;
pub mod extract;
pub mod in_place;
