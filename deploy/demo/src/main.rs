//! The whole system on one machine, in one command.
fn main() {}
