//! Parses the command line, runs it, prints one error, exits.
#![cfg_attr(not(test), no_main)]

use std::ffi::{c_char, c_int};

#[cfg(all(own_c_start, not(test)))]
#[path = "sys/c_start.rs"]
mod c_start;

/// The C library calls it: std's start-up is left out, [`myrt::sys::start`] says why.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub extern "C" fn main(_: c_int, _: *const *const c_char) -> c_int {
    let status = match myrt::sys::start::prepare() {
        Ok(()) => myrt::cli::main(std::env::args_os()),
        Err(_) => 1,
    };
    std::process::exit(status.into())
}
