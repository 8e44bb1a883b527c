//! The systemd cgroup driver: systemd makes the container's cgroup, as a scope (or slice) unit. `--systemd-cgroup`.
//!
//! The unit is made after the child, because a scope is made of processes: the connection is opened before the clone,
//! the request sent right behind it, and its end awaited just before the child gets its Go. What systemd has no word
//! for is written to the unit's directory by descriptor, as without systemd. Words: a *manager* is a systemd, the
//! host's or a user's. See org.freedesktop.systemd1(5), systemd.scope(5) and systemd's "Control Group APIs and
//! Delegation".

mod bus;
mod gvariant;
mod message;
mod name;
mod plan;
mod property;
mod unit;
mod value;

pub use bus::Manager;
pub use unit::{Reached, Starting, Unit, UnitPlan};

pub(super) use property::{of_devices, of_limits};
