//! `/process`: who the program is, what it may use, where its input and output go, and what it is.

pub mod command;
pub mod limits;
pub mod schedule;
pub mod session;
pub mod terminal;
pub mod user;
