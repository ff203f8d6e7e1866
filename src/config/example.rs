//! The example configuration, which teaches every key.

/// A commented configuration that passes `parse`, and `validate_files` on any host.
pub fn example() -> &'static str {
    include_str!("example.toml")
}
