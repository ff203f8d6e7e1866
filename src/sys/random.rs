//! Random bytes that are fit for passwords: the system's, or none.

use std::fs::File;
use std::io::{self, Read};

/// So many bytes of the system's generator.
pub fn bytes(count: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; count];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes)
}
