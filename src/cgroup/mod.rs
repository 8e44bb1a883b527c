//! Control groups: limits, device rules, freezing, killing, statistics. `/linux/cgroupsPath`, `/linux/resources`.
