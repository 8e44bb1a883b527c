//! Compiles the two C programs that the bench carries: the floor and the payload.

use std::process::Command;
use std::{env, path::Path};

fn main() {
    let out = env::var("OUT_DIR").expect("cargo sets OUT_DIR");
    compile("floor", &["-static"], &out);
    // The payload has no C library: what a container costs shall not be the start of its program.
    compile("payload", &["-static", "-nostdlib", "-ffreestanding", "-fno-stack-protector"], &out);
}

fn compile(name: &str, options: &[&str], out: &str) {
    let source = format!("{name}.c");
    println!("cargo:rerun-if-changed={source}");
    let status = Command::new("gcc")
        .args(["-O2", "-Wall", "-Wextra", "-Werror", "-s"])
        .args(options)
        .arg("-o")
        .arg(Path::new(out).join(name))
        .arg(&source)
        .status()
        .expect("gcc must be installed");
    assert!(status.success(), "gcc {source}");
}
