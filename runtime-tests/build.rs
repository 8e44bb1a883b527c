//! Writes the table of tests: every `pub fn name(t: &T)` in a file of `src/` is a test of that subject.

use std::fmt::Write;
use std::{env, fs, path::Path};

fn main() {
    println!("cargo::rerun-if-changed=src");
    let mut files: Vec<_> = fs::read_dir("src").unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    let mut table = String::from("&[\n");
    for file in files.iter().filter(|f| f.extension().is_some_and(|e| e == "rs")) {
        let subject = file.file_stem().unwrap().to_str().unwrap();
        for line in fs::read_to_string(file).unwrap().lines() {
            if let Some(name) = line.strip_prefix("pub fn ").and_then(|l| l.strip_suffix("(t: &T) {")) {
                writeln!(
                    table,
                    "    Test {{ subject: {subject:?}, name: {name:?}, run: crate::{subject}::{name} }},"
                )
                .unwrap();
            }
        }
    }
    table.push(']');
    fs::write(Path::new(&env::var("OUT_DIR").unwrap()).join("tests.rs"), table).unwrap();
}
