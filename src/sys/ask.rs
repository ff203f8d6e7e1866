//! A line to a service on a stream socket, and its answer, both with an end.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

/// At most this much of an answer is read.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;

/// Where it listens.
#[derive(Debug, Clone, Copy)]
pub enum Service<'a> {
    Unix(&'a Path),
    Tcp(&'a str, u16),
}

/// Sends `line` on a connection of its own and reads until the service closes it.
pub fn ask(service: Service<'_>, line: &str, limit: Duration) -> io::Result<String> {
    let until = Instant::now() + limit;
    match service {
        Service::Unix(path) => {
            let stream = UnixStream::connect(path)?;
            let set = |left| {
                stream.set_read_timeout(Some(left))?;
                stream.set_write_timeout(Some(left))
            };
            converse(&stream, set, line, until)
        }
        Service::Tcp(host, port) => {
            let stream = connect(host, port, until)?;
            let set = |left| {
                stream.set_read_timeout(Some(left))?;
                stream.set_write_timeout(Some(left))
            };
            converse(&stream, set, line, until)
        }
    }
}

fn connect(host: &str, port: u16, until: Instant) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in (host, port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, left(until)?) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn converse<S>(
    mut stream: S,
    set_limit: impl Fn(Duration) -> io::Result<()>,
    line: &str,
    until: Instant,
) -> io::Result<String>
where
    S: Read + Write,
{
    set_limit(left(until)?)?;
    stream.write_all(format!("{line}\n").as_bytes())?;
    let mut answer = Vec::new();
    let mut part = [0; 4096];
    loop {
        set_limit(left(until)?)?;
        let count = match stream.read(&mut part) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(late()),
            Err(error) => return Err(error),
        };
        answer.extend_from_slice(&part[..count]);
        if answer.len() > ANSWER_BYTES_MAX {
            return Err(io::Error::other("the answer is too long"));
        }
    }
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

fn left(until: Instant) -> io::Result<Duration> {
    let left = until.saturating_duration_since(Instant::now());
    match left.is_zero() {
        true => Err(late()),
        false => Ok(left),
    }
}

fn late() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "no answer within the time limit")
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn silence_ends_at_the_limit_and_drops_do_not_prolong_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sock");
        let listener = UnixListener::bind(&path).unwrap();
        let began = Instant::now();
        let dripping = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            while stream.write_all(b".").is_ok() {
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        let error = ask(Service::Unix(&path), "x", Duration::from_millis(300)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(began.elapsed() < Duration::from_secs(5));
        dripping.join().unwrap();
    }
}
