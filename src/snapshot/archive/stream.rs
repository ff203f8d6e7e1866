//! A dump's files: SQL compressed by zstd, each with the checksum of what lies on disk.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use sha2::{Digest, Sha256};

use super::index::Stream;
use crate::sys::files;
use crate::volume::archive::hex;

/// zstd's own default: what comes of a dump program is compressed faster than it comes.
const LEVEL: i32 = 3;
const PIECE_BYTES: usize = 256 * 1024;

/// Why a stream can't be read.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    #[error("{file} is gone")]
    Missing { file: String },
    #[error("{file} isn't what was written: {reason}")]
    Broken { file: String, reason: String },
    #[error("read {file}: {source}")]
    Read {
        file: String,
        #[source]
        source: io::Error,
    },
    /// Whoever takes what it holds failed.
    #[error("{0}")]
    Sink(#[source] io::Error),
}

/// Counts and sums what passes to a file.
struct Summed {
    file: File,
    sum: Sha256,
    bytes: u64,
}

impl Write for Summed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.sum.update(&bytes[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// A file that is being written.
pub struct Writer {
    name: String,
    encoder: zstd::Encoder<'static, Summed>,
    raw_bytes: u64,
}

impl Writer {
    /// Makes the file (0600), which must be new.
    pub fn create(directory: &Path, name: &str) -> io::Result<Self> {
        let file = files::create_private(&directory.join(name)).map_err(|error| error.source)?;
        let summed = Summed {
            file,
            sum: Sha256::new(),
            bytes: 0,
        };
        let mut encoder = zstd::Encoder::new(summed, LEVEL)?;
        encoder.include_checksum(true)?;
        Ok(Self {
            name: name.to_owned(),
            encoder,
            raw_bytes: 0,
        })
    }

    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.raw_bytes += bytes.len() as u64;
        self.encoder.write_all(bytes)
    }

    /// What it holds now counts, once it is on disk: see `sync`.
    pub fn finish(self) -> io::Result<Stream> {
        let summed = self.encoder.finish()?;
        Ok(Stream {
            file: self.name,
            bytes: summed.bytes,
            raw_bytes: self.raw_bytes,
            sha256: hex(&summed.sum.finalize()),
        })
    }
}

/// A short text as a file of its own.
pub fn write_whole(directory: &Path, name: &str, text: &[u8]) -> io::Result<Stream> {
    let mut writer = Writer::create(directory, name)?;
    writer.write(text)?;
    writer.finish()
}

/// Brings all files of the directory to disk.
pub fn sync(directory: &Path) -> io::Result<()> {
    nix::unistd::syncfs(File::open(directory)?)?;
    Ok(())
}

/// Holds a file against its checksum, without making anything of it. `tell` hears of the bytes.
pub fn check(
    directory: &Path,
    stream: &Stream,
    tell: &mut dyn FnMut(u64) -> io::Result<()>,
) -> Result<(), StreamError> {
    let mut file = open(directory, stream)?;
    let mut piece = vec![0; PIECE_BYTES];
    let mut sum = Sha256::new();
    let mut bytes = 0;
    loop {
        let length = file.read(&mut piece).map_err(|source| StreamError::Read {
            file: stream.file.clone(),
            source,
        })?;
        if length == 0 {
            break;
        }
        sum.update(&piece[..length]);
        bytes += length as u64;
        tell(length as u64).map_err(StreamError::Sink)?;
    }
    if bytes != stream.bytes {
        let reason = format!("it has {bytes} bytes instead of {}", stream.bytes);
        return Err(broken(stream, reason));
    }
    match hex(&sum.finalize()) == stream.sha256 {
        true => Ok(()),
        false => Err(broken(stream, "its checksum is another one".to_owned())),
    }
}

/// Hands what it holds to `sink`, after the whole file was held against its checksum: what is broken
/// hands over nothing.
pub fn read(
    directory: &Path,
    stream: &Stream,
    sink: &mut dyn FnMut(&[u8]) -> io::Result<()>,
) -> Result<(), StreamError> {
    check(directory, stream, &mut |_| Ok(()))?;
    unpack(directory, stream, sink)
}

/// As `read`, of one whose checksum was looked at.
pub fn unpack(
    directory: &Path,
    stream: &Stream,
    sink: &mut dyn FnMut(&[u8]) -> io::Result<()>,
) -> Result<(), StreamError> {
    let unreadable = |source: io::Error| broken(stream, source.to_string());
    let mut decoder = zstd::Decoder::new(open(directory, stream)?).map_err(unreadable)?;
    let mut piece = vec![0; PIECE_BYTES];
    let mut raw = 0;
    loop {
        let length = decoder.read(&mut piece).map_err(unreadable)?;
        if length == 0 {
            break;
        }
        raw += length as u64;
        sink(&piece[..length]).map_err(StreamError::Sink)?;
    }
    match raw == stream.raw_bytes {
        true => Ok(()),
        false => Err(broken(
            stream,
            format!(
                "it holds {raw} bytes of SQL instead of {}",
                stream.raw_bytes
            ),
        )),
    }
}

fn open(directory: &Path, stream: &Stream) -> Result<File, StreamError> {
    let file = stream.file.clone();
    // An index is no reason to read anything else than what lies beside it.
    if file.is_empty() || file.contains('/') || file.starts_with('.') {
        return Err(broken(stream, "it is no file of a dump".to_owned()));
    }
    File::open(directory.join(&file)).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => StreamError::Missing { file },
        _ => StreamError::Read { file, source },
    })
}

fn broken(stream: &Stream, reason: String) -> StreamError {
    StreamError::Broken {
        file: stream.file.clone(),
        reason,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_what_was_written_or_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let text: Vec<u8> = (0..3_000_000u32).map(|n| (n / 7 % 251) as u8).collect();
        let mut writer = Writer::create(dir.path(), "t.zst").unwrap();
        text.chunks(100_000)
            .for_each(|piece| writer.write(piece).unwrap());
        let stream = writer.finish().unwrap();
        sync(dir.path()).unwrap();
        let read_all = || {
            let mut found = Vec::new();
            read(dir.path(), &stream, &mut |piece| {
                found.extend_from_slice(piece);
                Ok(())
            })
            .map(|()| found.clone())
            .map_err(|error| (error.to_string(), found.len()))
        };
        assert_eq!(read_all().unwrap(), text);
        assert!(stream.bytes < stream.raw_bytes);

        let path = dir.path().join("t.zst");
        let whole = std::fs::read(&path).unwrap();
        let mut flipped = whole.clone();
        flipped[whole.len() / 2] ^= 1;
        std::fs::write(&path, &flipped).unwrap();
        let (error, bytes) = read_all().unwrap_err();
        assert!(error.contains("checksum") && bytes == 0, "{error} {bytes}");
        std::fs::write(&path, &whole[..whole.len() - 1]).unwrap();
        let (error, bytes) = read_all().unwrap_err();
        assert!(error.contains("bytes instead") && bytes == 0, "{error}");
        std::fs::remove_file(&path).unwrap();
        assert!(read_all().unwrap_err().0.contains("gone"));
    }
}
