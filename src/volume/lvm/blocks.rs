//! Making one device equal to another: read both, write what differs.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Read at once.
const PIECE_BYTES: usize = 4 * 1024 * 1024;
/// Compared and written at once: the chunk of a thick snapshot, unless it was made otherwise.
const BLOCK_BYTES: usize = 4096;

/// Makes the first `size` bytes of `to` those of `from`, and puts them on disk. Returns the bytes
/// that differed. `step` hears of the bytes that were looked at.
pub(super) fn make_equal(
    from: &File,
    to: &File,
    size: u64,
    step: &mut dyn FnMut(u64),
) -> io::Result<u64> {
    let mut wanted = vec![0; PIECE_BYTES];
    let mut there = vec![0; PIECE_BYTES];
    let mut written = 0;
    let mut at = 0;
    while at < size {
        let length = PIECE_BYTES.min((size - at) as usize);
        from.read_exact_at(&mut wanted[..length], at)?;
        to.read_exact_at(&mut there[..length], at)?;
        for (start, end) in differing(&wanted[..length], &there[..length]) {
            to.write_all_at(&wanted[start..end], at + start as u64)?;
            written += (end - start) as u64;
        }
        at += length as u64;
        step(length as u64);
    }
    to.sync_all()?;
    Ok(written)
}

/// Stretches of whole blocks that differ.
fn differing(wanted: &[u8], there: &[u8]) -> Vec<(usize, usize)> {
    let mut stretches: Vec<(usize, usize)> = Vec::new();
    if wanted == there {
        return stretches;
    }
    for start in (0..wanted.len()).step_by(BLOCK_BYTES) {
        let end = (start + BLOCK_BYTES).min(wanted.len());
        if wanted[start..end] == there[start..end] {
            continue;
        }
        match stretches.last_mut() {
            Some((_, last)) if *last == start => *last = end,
            Some(_) | None => stretches.push((start, end)),
        }
    }
    stretches
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_differing_blocks_are_written() {
        let block = BLOCK_BYTES;
        let (wanted, mut there) = (vec![1; 5 * block + 9], vec![1; 5 * block + 9]);
        assert!(differing(&wanted, &there).is_empty());
        there[block] = 2;
        there[3 * block - 1] = 2;
        there[5 * block + 8] = 2;
        let expected = [(block, 3 * block), (5 * block, 5 * block + 9)];
        assert_eq!(differing(&wanted, &there), expected);
    }

    #[test]
    fn becomes_equal_and_a_second_time_writes_nothing() {
        let (from, to) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
        let size = PIECE_BYTES as u64 + 10_000;
        from.set_len(size).unwrap();
        to.set_len(size).unwrap();
        from.write_all_at(b"first", 7).unwrap();
        from.write_all_at(b"last", size - 4).unwrap();
        to.write_all_at(b"other", PIECE_BYTES as u64 - 2).unwrap();
        let mut seen = 0;
        let written = make_equal(&from, &to, size, &mut |bytes| seen += bytes).unwrap();
        assert_eq!(seen, size);
        assert_eq!(written, 3 * 4096 + (10_000 - 2 * 4096));
        let mut bytes = [vec![0; size as usize], vec![0; size as usize]];
        from.read_exact_at(&mut bytes[0], 0).unwrap();
        to.read_exact_at(&mut bytes[1], 0).unwrap();
        assert!(bytes[0] == bytes[1]);
        assert_eq!(make_equal(&from, &to, size, &mut |_| ()).unwrap(), 0);
    }
}
