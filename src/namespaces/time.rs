//! Time namespaces: `/linux/timeOffsets`. time_namespaces(7).

use std::collections::BTreeMap;
use std::fmt::Write as _;

use oci_spec::runtime::Linux;

use crate::error::{Error, Result};

/// The content of /proc/PID/timens_offsets: a line for each clock; `None` if none is shifted.
///
/// Seconds are signed, nanoseconds are 0 to 999,999,999.
pub fn offsets(linux: &Linux, new: bool) -> Result<Option<String>> {
    let Some(offsets) = linux.time_offsets().as_ref().filter(|o| !o.is_empty()) else { return Ok(None) };
    if !new {
        return Err(Error::new("time offsets without a new time namespace")
            .hint("add {\"type\": \"time\"} to /linux/namespaces")
            .from_config("/linux/timeOffsets"));
    }
    let mut text = String::new();
    // A map has no order of its own, and a plan reads the same every time.
    for (clock, offset) in offsets.iter().collect::<BTreeMap<_, _>>() {
        let at = format!("/linux/timeOffsets/{clock}");
        if clock != "monotonic" && clock != "boottime" {
            return Err(Error::new(format!("clock {clock:?} is not monotonic or boottime")).from_config(at));
        }
        let (secs, nanos) = (offset.secs().unwrap_or(0), offset.nanosecs().unwrap_or(0));
        if nanos > 999_999_999 {
            return Err(Error::new(format!("{nanos} nanoseconds are more than a second")).from_config(at));
        }
        writeln!(text, "{clock} {secs} {nanos}").map_err(|e| Error::new(e.to_string()))?;
    }
    Ok(Some(text))
}
