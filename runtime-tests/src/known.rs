//! Known differences of released runtimes from what these tests ask for: (runtime, test, reason).
//!
//! A test that fails here is printed as `known` and not counted. myrt has no row.

const KNOWN: &[(&str, &str, &str)] = &[];

pub fn reason(runtime: &str, subject: &str, name: &str) -> Option<&'static str> {
    let title = format!("{subject}::{name}");
    KNOWN.iter().find(|(r, test, _)| *r == runtime && *test == title).map(|(_, _, reason)| *reason)
}
