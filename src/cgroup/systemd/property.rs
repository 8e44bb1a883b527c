//! Properties of the unit: limits and device rules in systemd's words, and `org.systemd.property.*` annotations.
//!
//! Every limit is also written to the cgroup's files, exactly and in full. systemd is told so that it does not take
//! them back when it applies its own idea of the unit (`systemctl daemon-reload`, a change beside it), and so that
//! `systemctl show` is right. See systemd.resource-control(5), org.freedesktop.systemd1(5).

use std::collections::HashMap;

use super::gvariant;
use super::value::Value;
use crate::cgroup::devices::{self, Kind, MKNOD, READ, Rule, WRITE};
use crate::cgroup::limits::{Missing, Write};
use crate::error::{Context, Error, Result};

/// One property.
#[derive(Debug, Clone, PartialEq)]
pub struct Property {
    /// As D-Bus spells it.
    pub name: String,
    /// Its value.
    pub value: Value,
    /// The JSON pointer that asked for it; empty if myrt itself did.
    pub pointer: String,
}

impl Property {
    /// One that myrt itself sets.
    pub fn new(name: &str, value: Value) -> Property {
        Property { name: name.to_string(), value, pointer: String::new() }
    }

    /// A list that is emptied before it is filled.
    pub fn is_empty_list(&self) -> bool {
        matches!(&self.value, Value::Array(_, elements) if elements.is_empty())
    }

    /// `(sv)`, as StartTransientUnit and SetUnitProperties want it.
    pub fn argument(&self) -> Value {
        Value::Tuple(vec![Value::text(&self.name), Value::Variant(Box::new(self.value.clone()))])
    }
}

/// Properties as one argument, `a(sv)`.
pub fn argument(properties: &[Property]) -> Value {
    Value::Array("(sv)".into(), properties.iter().map(Property::argument).collect())
}

/// `infinity`, for numbers of bytes, tasks and microseconds.
const INFINITY: u64 = u64::MAX;

/// systemd keeps a quota in percent of a CPU, which is 10 ms in a second: rounded up, so that the exact value, which
/// is written to the file, is never above what systemd has.
const QUOTA_STEP: u64 = 10_000;

/// The period of `cpu.max` when nobody names one, in microseconds.
const PERIOD: u64 = 100_000;

/// The limits that systemd has a property for. A later write of the same file wins, as it does in the file.
///
/// `period` is the CPU period in force, which an update of the quota alone leaves as it is.
pub fn of_limits(writes: &[Write], period: Option<u64>) -> Vec<Property> {
    let mut list: Vec<Property> = Vec::new();
    for write in writes {
        for (name, value) in of_write(write, period) {
            list.retain(|property| property.name != name);
            list.push(Property { name: name.to_string(), value, pointer: write.pointer.clone() });
        }
    }
    list
}

fn of_write(write: &Write, period: Option<u64>) -> Vec<(&'static str, Value)> {
    let text = write.value.trim();
    let number = match text {
        "max" => Some(INFINITY),
        text => text.parse::<u64>().ok(),
    };
    let one = |name, value: Option<u64>| value.map(|value| (name, Value::U64(value))).into_iter().collect();
    let cpus = |name| cpu_set(text).map(|bits| (name, Value::bytes(&bits))).into_iter().collect();
    match write.file.as_str() {
        "memory.max" => one("MemoryMax", number),
        "memory.high" => one("MemoryHigh", number),
        "memory.low" => one("MemoryLow", number),
        "memory.min" => one("MemoryMin", number),
        "memory.swap.max" => one("MemorySwapMax", number),
        "pids.max" => one("TasksMax", number),
        "cpu.weight" => one("CPUWeight", number),
        "io.weight" => one("IOWeight", text.strip_prefix("default ").unwrap_or(text).parse().ok()),
        // BFQ's own file counts otherwise; what is written instead where there is none counts as systemd does.
        "io.bfq.weight" => match &write.missing {
            Missing::Instead(_, value) => one("IOWeight", value.parse().ok()),
            _ => Vec::new(),
        },
        "cpu.max" => quota(text, period),
        "cpuset.cpus" => cpus("AllowedCPUs"),
        "cpuset.mems" => cpus("AllowedMemoryNodes"),
        _ => Vec::new(),
    }
}

/// `cpu.max`: quota and period in microseconds as CPU time per second.
fn quota(text: &str, period: Option<u64>) -> Vec<(&'static str, Value)> {
    let mut words = text.split_whitespace();
    let (quota, named) = (words.next().unwrap_or("max"), words.next().and_then(|p| p.parse::<u64>().ok()));
    let period = named.or(period).filter(|&p| p > 0).unwrap_or(PERIOD);
    let per_second = match quota.parse::<u128>() {
        Ok(quota) => {
            let exact = (quota * 1_000_000).div_ceil(u128::from(period));
            u64::try_from(exact.next_multiple_of(u128::from(QUOTA_STEP))).unwrap_or(INFINITY)
        }
        Err(_) => INFINITY,
    };
    let mut list = vec![("CPUQuotaPerSecUSec", Value::U64(per_second))];
    if named.is_some() {
        list.push(("CPUQuotaPeriodUSec", Value::U64(period)));
    }
    list
}

/// The largest number in a list of CPUs or memory nodes.
const MOST_CPUS: usize = 1 << 16;

/// `0-3,7` as a bit for each, the first in the lowest; `None` if it is no such list (the kernel will say so).
fn cpu_set(list: &str) -> Option<Vec<u8>> {
    let mut bits = Vec::new();
    for range in list.split(',').map(str::trim).filter(|range| !range.is_empty()) {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last) = (first.parse::<usize>().ok()?, last.parse::<usize>().ok()?);
        if last >= MOST_CPUS || first > last {
            return None;
        }
        bits.resize(bits.len().max(last / 8 + 1), 0);
        (first..=last).for_each(|n| bits[n / 8] |= 1 << (n % 8));
    }
    (!bits.is_empty()).then_some(bits)
}

/// The device rules, as far as systemd has words for them.
///
/// systemd only knows what is allowed. It gets everything that some rule allows, so that its own filter never takes
/// away what ours, which stands beside it and is exact, lets through: a device is there only if both agree.
pub fn of_devices(rules: &[Rule]) -> Vec<Property> {
    let all = devices::with_defaults(rules);
    let last = all.iter().rposition(Rule::is_total);
    let everything = last.is_some_and(|last| all[last].allow);
    let open = all[last.map_or(0, |last| last + 1)..].iter().filter(|rule| rule.allow);
    let mut allowed: Vec<(String, String)> = Vec::new();
    if !everything {
        for (node, access) in open.flat_map(|rule| nodes(rule).into_iter().map(|node| (node, letters(rule))))
        {
            if !allowed.contains(&(node.clone(), access.clone())) {
                allowed.push((node, access));
            }
        }
    }
    let pair = |(node, access)| Value::Tuple(vec![Value::Text(node), Value::Text(access)]);
    let property = |name: &str, value| Property {
        name: name.to_string(),
        value,
        pointer: if rules.is_empty() { String::new() } else { "/linux/resources/devices".to_string() },
    };
    vec![
        property("DevicePolicy", Value::text(if everything { "auto" } else { "strict" })),
        // The list that is there is emptied first; a scope that is new has none.
        property("DeviceAllow", Value::Array("(ss)".into(), Vec::new())),
        property("DeviceAllow", Value::Array("(ss)".into(), allowed.into_iter().map(pair).collect())),
    ]
}

/// What systemd calls the devices of a rule. A minor number without a major one is wider there than here.
fn nodes(rule: &Rule) -> Vec<String> {
    let kinds: &[&str] = match rule.kind {
        Kind::Any => &["block", "char"],
        Kind::Block => &["block"],
        Kind::Char => &["char"],
    };
    let name = |kind: &&str| match (rule.major, rule.minor) {
        (Some(major), Some(minor)) => format!("/dev/{kind}/{major}:{minor}"),
        (Some(major), None) => format!("{kind}-{major}"),
        (None, _) => format!("{kind}-*"),
    };
    kinds.iter().map(name).collect()
}

fn letters(rule: &Rule) -> String {
    let letters = [(READ, 'r'), (WRITE, 'w'), (MKNOD, 'm')];
    letters.iter().filter(|(bit, _)| rule.access & bit != 0).map(|(_, letter)| letter).collect()
}

const ANNOTATION: &str = "org.systemd.property.";

/// What an annotation may not set: an image brings annotations too, and these reach beyond its container (they start
/// and stop other units, or act on the host when this one ends) or undo what confines it.
const OUT_OF_REACH: [&str; 29] = [
    "BindsTo",
    "BPFProgram",
    "Conflicts",
    "ControlGroup",
    "Controller",
    "Delegate",
    "DelegateControllers",
    "DelegateSubgroup",
    "DeviceAllow",
    "DevicePolicy",
    "JoinsNamespaceOf",
    "NFTSet",
    "OnFailure",
    "OnSuccess",
    "PIDFDs",
    "PIDs",
    "PartOf",
    "PropagatesReloadTo",
    "PropagatesStopTo",
    "ReloadPropagatedFrom",
    "Requires",
    "RequiresMountsFor",
    "Requisite",
    "Slice",
    "StopPropagatedFrom",
    "Upholds",
    "User",
    "Wants",
    "WantsMountsFor",
];

/// The annotations that are properties, sorted by name.
pub fn of_annotations(annotations: Option<&HashMap<String, String>>) -> Result<Vec<Property>> {
    let mut list = Vec::new();
    for (key, text) in annotations.into_iter().flatten() {
        let Some(name) = key.strip_prefix(ANNOTATION).filter(|name| !name.is_empty()) else { continue };
        let pointer = format!("/annotations/{key}");
        let (name, value) = of_annotation(name, text).map_err(|e| e.from_config(&pointer))?;
        list.push(Property { name, value, pointer });
    }
    list.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(list)
}

fn of_annotation(name: &str, text: &str) -> Result<(String, Value)> {
    if name.len() < 3 || !name.bytes().all(|b| b.is_ascii_alphabetic()) {
        return Err(Error::new(format!("{name:?} is no name of a property: letters only, three at least")));
    }
    if OUT_OF_REACH.contains(&name) || name.ends_with("Action") {
        return Err(Error::new(format!("an annotation may not set {name}"))
            .hint("it would reach beyond the container or loosen what confines it"));
    }
    let value = gvariant::parse(text).at(format!("value {text:?} of {name}"))?;
    // People write TimeoutStopSec, as in unit files; D-Bus has TimeoutStopUSec.
    match name.strip_suffix("Sec").filter(|stem| stem.ends_with(|c: char| c.is_ascii_lowercase())) {
        Some(stem) => Ok((format!("{stem}USec"), Value::U64(microseconds(&value).at(name)?))),
        None => Ok((name.to_string(), value)),
    }
}

fn microseconds(seconds: &Value) -> Result<u64> {
    let seconds = match seconds {
        Value::Byte(n) => f64::from(*n),
        Value::I16(n) => f64::from(*n),
        Value::U16(n) => f64::from(*n),
        Value::I32(n) => f64::from(*n),
        Value::U32(n) => f64::from(*n),
        Value::I64(n) => *n as f64,
        Value::U64(n) => *n as f64,
        Value::F64(n) => *n,
        _ => return Err(Error::new("seconds are a number")),
    };
    let micros = seconds * 1e6;
    match (0.0..u64::MAX as f64).contains(&micros) {
        true => Ok(micros.round() as u64),
        false => Err(Error::new(format!("{seconds} seconds are out of range"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::limits::{self, Now, Offer};

    fn limits(resources: &str) -> Vec<(String, Value)> {
        let all = ["cpu", "cpuset", "memory", "pids", "io"].map(str::to_string).to_vec();
        let offer = Offer { v2: all, v1: Vec::new(), unified: true };
        let plan = limits::plan(&serde_json::from_str(resources).unwrap(), &offer, &Now::default()).unwrap();
        of_limits(&plan.writes, None).into_iter().map(|p| (p.name, p.value)).collect()
    }

    fn number(name: &str, value: u64) -> (String, Value) {
        (name.to_string(), Value::U64(value))
    }

    #[test]
    fn limits_have_properties() {
        let found = limits(
            r#"{"memory": {"limit": 1048576, "swap": 3145728, "reservation": 4096}, "pids": {"limit": 9}}"#,
        );
        let expected = [
            number("MemorySwapMax", 2_097_152),
            number("MemoryMax", 1_048_576),
            number("MemoryLow", 4096),
            number("TasksMax", 9),
        ];
        assert_eq!(found, expected);
        assert_eq!(limits(r#"{"pids": {"limit": -1}}"#), [number("TasksMax", u64::MAX)]);
        assert_eq!(limits(r#"{"cpu": {"shares": 1024}}"#), [number("CPUWeight", 100)]);
        assert_eq!(limits(r#"{"blockIO": {"weight": 1000}}"#), [number("IOWeight", 10_000)]);
        let cpus = limits(r#"{"cpu": {"cpus": "0-2,9", "mems": "0"}}"#);
        assert_eq!(cpus[0], ("AllowedCPUs".to_string(), Value::bytes(&[7, 2])));
        assert_eq!(cpus[1], ("AllowedMemoryNodes".to_string(), Value::bytes(&[1])));
    }

    #[test]
    fn quota_is_cpu_time_in_a_second_rounded_up() {
        let quota = |json| limits(&format!(r#"{{"cpu": {json}}}"#));
        let both = |q, p| vec![number("CPUQuotaPerSecUSec", q), number("CPUQuotaPeriodUSec", p)];
        assert_eq!(quota(r#"{"quota": 50000, "period": 100000}"#), both(500_000, 100_000));
        assert_eq!(quota(r#"{"quota": 12345, "period": 100000}"#), both(130_000, 100_000));
        assert_eq!(quota(r#"{"quota": 20000}"#), [number("CPUQuotaPerSecUSec", 200_000)]);
        assert_eq!(quota(r#"{"quota": -1}"#), [number("CPUQuotaPerSecUSec", u64::MAX)]);
        let write = Write {
            version: limits::Version::V2,
            controller: "cpu".into(),
            file: "cpu.max".into(),
            value: "20000".into(),
            pointer: String::new(),
            missing: Missing::Refuse,
        };
        assert_eq!(
            of_limits(&[write], Some(50_000))[0].value,
            Value::U64(400_000),
            "the period in force counts"
        );
    }

    #[test]
    fn unified_has_the_last_word() {
        let found =
            limits(r#"{"memory": {"limit": 4096}, "unified": {"memory.max": "8192", "memory.high": "max"}}"#);
        assert_eq!(found, [number("MemoryHigh", u64::MAX), number("MemoryMax", 8192)]);
    }

    fn allowed(rules: &[Rule]) -> (Value, Vec<String>) {
        let list = of_devices(rules);
        let Value::Array(_, pairs) = &list[2].value else { panic!() };
        let text = |value: &Value| match value {
            Value::Tuple(parts) => match &parts[..] {
                [Value::Text(node), Value::Text(access)] => format!("{node} {access}"),
                _ => panic!(),
            },
            _ => panic!(),
        };
        (list[0].value.clone(), pairs.iter().map(text).collect())
    }

    #[test]
    fn systemd_is_told_everything_that_some_rule_allows() {
        let rule = |allow, kind, major, minor, access| Rule { allow, kind, major, minor, access };
        let (policy, list) = allowed(&[
            rule(true, Kind::Char, Some(10), Some(229), READ | WRITE),
            rule(false, Kind::Char, Some(10), Some(229), WRITE),
            rule(true, Kind::Any, Some(8), None, READ),
            rule(true, Kind::Block, None, Some(3), READ),
        ]);
        assert_eq!(policy, Value::text("strict"));
        let first = ["/dev/char/10:229 rw", "block-8 r", "char-8 r", "block-* r", "block-* m", "char-* m"];
        assert_eq!(list[..6], first);
        assert!(
            list.contains(&"/dev/char/1:3 rwm".to_string()) && list.contains(&"char-136 rwm".to_string())
        );
        assert_eq!(allowed(&[rule(true, Kind::Any, None, None, 7)]), (Value::text("auto"), Vec::new()));
    }

    fn annotated(name: &str, text: &str) -> Result<Vec<Property>> {
        of_annotations(Some(&HashMap::from([(format!("org.systemd.property.{name}"), text.to_string())])))
    }

    #[test]
    fn annotations_are_properties() {
        let one = |name: &str, text: &str| annotated(name, text).map(|mut l| l.remove(0)).unwrap();
        let property = one("TimeoutStopUSec", "uint64 5");
        assert_eq!((property.name.as_str(), property.value), ("TimeoutStopUSec", Value::U64(5)));
        assert_eq!(property.pointer, "/annotations/org.systemd.property.TimeoutStopUSec");
        for (text, micros) in [("3", 3_000_000), ("1.5", 1_500_000), ("uint64 2", 2_000_000)] {
            let property = one("TimeoutStopSec", text);
            assert_eq!((property.name.as_str(), property.value), ("TimeoutStopUSec", Value::U64(micros)));
        }
        assert_eq!(one("CollectMode", "'inactive'").value, Value::text("inactive"));
        let others = HashMap::from([("org.systemd.property.".to_string(), "x".to_string())]);
        assert!(
            of_annotations(Some(&others)).unwrap().is_empty() && of_annotations(None).unwrap().is_empty()
        );
    }

    #[test]
    fn annotations_that_are_wrong_or_reach_too_far_are_refused() {
        for (name, text) in [
            ("TimeoutStopUSec", "word"),
            ("TimeoutStopSec", "'1'"),
            ("TimeoutStopSec", "-1"),
            ("A1b", "1"),
            ("Ab", "1"),
            ("Conflicts", "['sshd.service']"),
            ("FailureAction", "'reboot'"),
            ("DeviceAllow", "[('/dev/sda', 'rwm')]"),
        ] {
            let error = annotated(name, text).unwrap_err().to_string();
            assert!(error.contains("/annotations/org.systemd.property."), "{name}: {error}");
        }
    }
}
