//! Whatever is behind an address, it is never called good, and nothing waits for it longer than
//! the limit.

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::*;
use crate::lab::runner::Case;

pub fn cases() -> Vec<Case> {
    crate::cases![
        false what_never_answers_is_unreachable,
        false what_answers_garbage_is_never_ok,
        false what_drips_is_unreachable,
        false nobody_at_the_port_is_unreachable,
        false a_wrong_password_is_unknown,
        false an_expired_password_is_unknown,
        false too_many_connections_are_unknown,
        false tls_that_isnt_offered_is_unknown,
        false credentials_that_others_may_read_are_unknown,
    ]
}

/// Something that listens, and does to each connection what it is told.
struct Listener {
    port: u16,
    ended: Arc<AtomicBool>,
}

impl Listener {
    fn start(to_each: fn(&mut TcpStream)) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let ended = Arc::new(AtomicBool::new(false));
        let is_over = ended.clone();
        std::thread::spawn(move || {
            let mut kept = Vec::new();
            for stream in listener.incoming().flatten() {
                if is_over.load(Ordering::SeqCst) {
                    break;
                }
                let mut stream = stream;
                to_each(&mut stream);
                kept.push(stream);
            }
        });
        Self { port, ended }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(("127.0.0.1", self.port)));
    }
}

/// `check` of a server `other` that is configured so.
#[track_caller]
fn judge(pair: &Pair, lines: &str) -> (i32, String) {
    let credentials = pair.base().join("db.cnf").display().to_string();
    let mut more = format!("[server.other]\n{lines}\n");
    if !lines.contains("credentials") {
        more.push_str(&format!("credentials = \"{credentials}\"\n"));
    }
    pair.configure(|settings| settings.more.clone_from(&more));
    let began = Instant::now();
    let run = pair
        .tool
        .text(&["check", "other", "--timeout", "1s"], false);
    let took = began.elapsed();
    pair.configure_plain();
    assert!(took < Duration::from_secs(3), "{took:?}: {}", run.stdout);
    assert_ne!(run.code(), 0, "{}", run.stdout);
    assert!(!run.stdout.contains("UNDERSTUDY OK"), "{}", run.stdout);
    (run.code(), run.stdout)
}

fn at(port: u16) -> String {
    format!("address = \"127.0.0.1:{port}\"")
}

fn what_never_answers_is_unreachable(pair: &mut Pair) {
    let listener = Listener::start(|_| {});
    let (code, text) = judge(pair, &at(listener.port));
    assert_eq!(code, 2, "{text}");
    assert!(
        text.contains("server.unreachable") && text.contains("no answer within"),
        "{text}"
    );
}

fn what_answers_garbage_is_never_ok(pair: &mut Pair) {
    let garbage: [fn(&mut TcpStream); 4] = [
        |stream| drop(stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")),
        |stream| drop(stream.write_all(&[0xff; 4096])),
        // A handshake that ends in the middle of its version.
        |stream| drop(stream.write_all(&[0x4a, 0, 0, 0, 10, b'8', b'.'])),
        |stream| drop(stream.shutdown(std::net::Shutdown::Both)),
    ];
    for to_each in garbage {
        let listener = Listener::start(to_each);
        let (code, text) = judge(pair, &at(listener.port));
        assert!(code == 2 || code == 3, "{text}");
        assert!(text.contains("server.un"), "{text}");
    }
}

/// A byte now and then keeps every single read within its limit.
fn what_drips_is_unreachable(pair: &mut Pair) {
    let listener = Listener::start(|stream| {
        let mut stream = stream.try_clone().unwrap();
        std::thread::spawn(move || {
            for byte in [0x4a, 0, 0, 0, 10].into_iter().chain([b'8'; 60]) {
                if stream.write_all(&[byte]).is_err() {
                    break;
                }
                std::thread::sleep(Duration::from_millis(300));
            }
        });
    });
    let (code, text) = judge(pair, &at(listener.port));
    assert_eq!(code, 2, "{text}");
    assert!(text.contains("server.unreachable"), "{text}");
}

fn nobody_at_the_port_is_unreachable(pair: &mut Pair) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let (code, text) = judge(pair, &at(port));
    assert_eq!(code, 2, "{text}");
    let (code, text) = judge(pair, "socket = \"/nonexistent/sock\"");
    assert_eq!(code, 2, "{text}");
}

fn option_file(pair: &Pair, name: &str, user: &str, password: &str, mode: u32) -> String {
    let path = pair.base().join(name);
    std::fs::write(
        &path,
        format!("[client]\nuser={user}\npassword={password}\n"),
    )
    .unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
    std::fs::set_permissions(&path, mode).unwrap();
    format!("credentials = \"{}\"", path.display())
}

fn a_wrong_password_is_unknown(pair: &mut Pair) {
    let credentials = option_file(pair, "wrong.cnf", "understudy", "not this", 0o600);
    let (code, text) = judge(pair, &format!("{}\n{credentials}", at(pair.source.port)));
    assert_eq!(code, 3, "{text}");
    assert!(
        text.contains("server.unknown") && text.contains("1045"),
        "{text}"
    );
    assert!(!text.contains("not this"), "{text}");
}

fn an_expired_password_is_unknown(pair: &mut Pair) {
    pair.source
        .execute("CREATE USER 'old'@'%' IDENTIFIED BY 'old' PASSWORD EXPIRE");
    pair.source.execute("GRANT ALL ON *.* TO 'old'@'%'");
    let credentials = option_file(pair, "old.cnf", "old", "old", 0o600);
    let (code, text) = judge(pair, &format!("{}\n{credentials}", at(pair.source.port)));
    pair.source.execute("DROP USER 'old'@'%'");
    assert_eq!(code, 3, "{text}");
    assert!(text.contains("server.unknown"), "{text}");
}

fn too_many_connections_are_unknown(pair: &mut Pair) {
    pair.source
        .execute("CREATE USER 'few'@'%' IDENTIFIED BY 'few'");
    pair.source.execute("GRANT SELECT ON *.* TO 'few'@'%'");
    let before = pair.source.value("SELECT @@GLOBAL.max_connections");
    pair.source.execute("SET GLOBAL max_connections = 10");
    let hogs: Vec<_> = std::iter::from_fn(|| pair.source.try_connect("root"))
        .take(30)
        .collect();
    let credentials = option_file(pair, "few.cnf", "few", "few", 0o600);
    let judged = judge(pair, &format!("{}\n{credentials}", at(pair.source.port)));
    drop(hogs);
    eventually(limit(20), "there is room again", || {
        pair.source.try_connect("root").is_some()
    });
    pair.source
        .execute(&format!("SET GLOBAL max_connections = {before}"));
    pair.source.execute("DROP USER 'few'@'%'");
    let (code, text) = judged;
    assert_eq!(code, 3, "{text}");
    assert!(text.contains("1040"), "{text}");
}

fn tls_that_isnt_offered_is_unknown(pair: &mut Pair) {
    let offers = match pair.flavour {
        Flavour::Mariadb | Flavour::MariadbOther => pair.source.value("SELECT @@have_ssl") == "YES",
        // Makes its own certificate.
        Flavour::Mysql97 | Flavour::Mysql56 => true,
    };
    let lines = match offers {
        false => format!("{}\ntls = \"required\"", at(pair.source.port)),
        true => {
            let ca = pair.base().join("ca.pem");
            crate::lab::sh(&[
                "openssl",
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:P-256",
                "-nodes",
                "-days",
                "2",
                "-subj",
                "/CN=somebody else",
                "-keyout",
                "/dev/null",
                "-out",
                ca.to_str().unwrap(),
            ]);
            format!(
                "{}\ntls = \"verify-ca\"\ntls_ca = \"{}\"",
                at(pair.source.port),
                ca.display()
            )
        }
    };
    let (code, text) = judge(pair, &lines);
    assert_eq!(code, 3, "{text}");
    assert!(text.contains("server.unknown"), "{text}");
}

/// A mistake of the configuration is UNKNOWN to a monitoring system, and no traceback.
fn credentials_that_others_may_read_are_unknown(pair: &mut Pair) {
    let credentials = option_file(pair, "open.cnf", "understudy", "secret word", 0o644);
    let (code, text) = judge(pair, &format!("{}\n{credentials}", at(pair.source.port)));
    assert_eq!(code, 3, "{text}");
    assert!(
        text.starts_with("UNDERSTUDY UNKNOWN") && text.contains("chmod 600"),
        "{text}"
    );
    let run = pair.tool.text(&["check", "nobody"], false).expect_code(3);
    assert!(
        run.stdout.starts_with("UNDERSTUDY UNKNOWN"),
        "{}",
        run.stdout
    );
    let run = pair
        .tool
        .text(&["check", "--no-such-option"], false)
        .expect_code(3);
    assert!(
        run.stdout.starts_with("UNDERSTUDY UNKNOWN"),
        "{}",
        run.stdout
    );
}
