#![doc = "The command line; the story is told in lib.rs."]
fn main() {}
