//! A real receiver of HTTP, for webhooks and pings.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// What came: the path, and the body.
pub type Message = (String, String);

pub struct Receiver {
    pub port: u16,
    got: Arc<Mutex<Vec<Message>>>,
}

/// How it behaves.
#[derive(Clone, Copy, PartialEq)]
pub enum Manner {
    Answers(u16),
    /// It takes the connection and never says a word.
    Hangs,
    /// It begins to answer, and never ends.
    Drips,
}

impl Receiver {
    pub fn start(manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let got = Arc::new(Mutex::new(Vec::new()));
        let to = Arc::clone(&got);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let to = Arc::clone(&to);
                std::thread::spawn(move || serve(stream, manner, &to));
            }
        });
        Self { port, got }
    }

    pub fn address(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// What came since the last call, in the order of its coming.
    pub fn take(&self) -> Vec<Message> {
        std::mem::take(&mut *self.got.lock().unwrap())
    }
}

fn serve(stream: TcpStream, manner: Manner, got: &Mutex<Vec<Message>>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut first = String::new();
    reader.read_line(&mut first).unwrap();
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        match line.trim().to_ascii_lowercase().split_once(": ") {
            Some(("content-length", value)) => length = value.parse().unwrap(),
            Some(_) => {}
            None => break,
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let path = first.split(' ').nth(1).unwrap().to_owned();
    assert!(first.starts_with("POST "), "{first}");
    let body = String::from_utf8(body).unwrap();
    got.lock().unwrap().push((path, body));
    let mut stream = stream;
    match manner {
        Manner::Answers(code) => {
            let location = "Location: http://127.0.0.1:1/elsewhere\r\n";
            let answer = format!("HTTP/1.1 {code} X\r\n{location}Content-Length: 0\r\n\r\n");
            drop(stream.write_all(answer.as_bytes()));
        }
        Manner::Hangs => std::thread::sleep(Duration::from_secs(60)),
        Manner::Drips => {
            let until = Instant::now() + Duration::from_secs(60);
            drop(stream.write_all(b"HTTP/1.1 200 OK\r\nX-Never: "));
            while Instant::now() < until && stream.write_all(b"x").is_ok() {
                std::thread::sleep(Duration::from_millis(100));
            }
        }
    }
}
