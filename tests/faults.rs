#![expect(clippy::unwrap_used, reason = "tests")]
fn main() {
    Some(1).unwrap();
}
