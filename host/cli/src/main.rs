//! The `trocar` command.
fn main() {}
