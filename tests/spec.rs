//! docs/spec.md, held to the schema of the runtime spec and to the code.
//!
//! `docs/spec-1.3-fields.txt` lists the fields; `hack/spec-fields` makes it from the schema, and where
//! `MYRT_SPEC_SCHEMA` names the schema's directory the test does so again. Needs nothing else, no root either.
#![allow(missing_docs, clippy::unwrap_used)] // A test that cannot go on panics.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use myrt::bundle::Bundle;
use myrt::error::Error;
use myrt::plan::{Plan, Request};
use serde_json::{Value, json};

/// Ignored though they belong to Linux; each row says why.
const IGNORED_HERE: [&str; 3] = [
    "/linux/resources/memory/kernel",
    "/linux/resources/memory/kernelTCP",
    "/linux/resources/memory/useHierarchy",
];

/// The fields and objects of other platforms.
const ELSEWHERE: [&str; 7] =
    ["/windows", "/solaris", "/vm", "/zos", "/freebsd", "/process/commandLine", "/process/user/username"];

fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn read(path: &str) -> String {
    std::fs::read_to_string(here(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// All fields of the schema, as JSON pointers with `*` for any element.
fn fields() -> BTreeSet<String> {
    let text = read("docs/spec-1.3-fields.txt");
    let fields: BTreeSet<String> = text.lines().map(str::to_string).collect();
    assert_eq!(fields.len(), text.lines().count(), "a field stands there twice");
    fields
}

struct Row {
    state: String,
    words: String,
    file: String,
}

/// The rows of docs/spec.md, by pointer.
fn rows() -> BTreeMap<String, Row> {
    let mut rows = BTreeMap::new();
    for line in read("docs/spec.md").lines().filter(|line| line.starts_with("| `/")) {
        let mut cells = line.trim_matches('|').split('|').map(|cell| cell.trim().to_string());
        let pointer = cells.next().unwrap().trim_matches('`').to_string();
        let mut next = || cells.next().unwrap_or_default();
        let row = Row { state: next(), words: next(), file: next() };
        assert!(cells.next().is_none(), "{pointer}: a row has four cells");
        assert!(rows.insert(pointer.clone(), row).is_none(), "{pointer} has two rows");
    }
    rows
}

fn in_state(state: &str) -> Vec<String> {
    rows().into_iter().filter(|(_, row)| row.state == state).map(|(pointer, _)| pointer).collect()
}

/// Whether a pointer is another one or lies below it.
fn is_below(pointer: &str, above: &str) -> bool {
    pointer.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[test]
fn every_field_has_one_row_and_every_row_a_field() {
    let (rows, fields) = (rows().into_keys().collect::<BTreeSet<_>>(), fields());
    let missing: Vec<_> = fields.difference(&rows).collect();
    let unknown: Vec<_> = rows.difference(&fields).collect();
    assert!(missing.is_empty() && unknown.is_empty(), "without a row: {missing:?}; no field: {unknown:?}");
}

#[test]
fn every_row_has_a_state_and_names_an_existing_file() {
    for (pointer, Row { state, words, file }) in rows() {
        assert!(["done", "refused", "ignored"].contains(&state.as_str()), "{pointer}: {state:?}");
        if state == "ignored" {
            let elsewhere = ELSEWHERE.iter().any(|above| is_below(&pointer, above));
            let here = IGNORED_HERE.contains(&pointer.as_str()) && !words.is_empty();
            assert!(elsewhere || here, "{pointer}: a field of Linux is done or refused");
        } else {
            assert!(file.ends_with(".rs") && here(&format!("src/{file}")).is_file(), "{pointer}: {file:?}");
        }
    }
}

#[test]
fn the_list_of_fields_is_that_of_the_schema() {
    let Some(schema) = std::env::var_os("MYRT_SPEC_SCHEMA") else {
        println!("skipped: MYRT_SPEC_SCHEMA does not name the schema's directory");
        return;
    };
    let made = Command::new(here("hack/spec-fields")).arg(schema).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    assert_eq!(String::from_utf8(made.stdout).unwrap(), read("docs/spec-1.3-fields.txt"));
}

/// A container with nothing special.
fn minimal() -> Value {
    json!({
        "ociVersion": "1.3.0",
        "root": {"path": "rootfs"},
        "process": {"user": {}, "args": ["true"], "cwd": "/"},
        "linux": {"namespaces": [{"type": "mount"}]}
    })
}

/// Valid values for every field that is refused.
fn refused_samples() -> Value {
    json!({
        "linux": {
            "intelRdt": {
                "closID": "web", "schemata": ["L3:0=f"], "l3CacheSchema": "L3:0=f", "memBwSchema": "MB:0=20",
                "enableMonitoring": true
            },
            "memoryPolicy": {"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"]},
            "netDevices": {"eth1": {"name": "net1"}},
            "personality": {"domain": "LINUX", "flags": ["ADDR_NO_RANDOMIZE"]},
            "seccomp": {
                "defaultAction": "SCMP_ACT_ERRNO", "listenerPath": "/run/listener", "listenerMetadata": "web"
            }
        }
    })
}

/// What an object with the field needs beside it to be valid.
const NEEDED: [(&str, &[&str]); 3] = [
    ("/linux/memoryPolicy", &["mode"]),
    ("/linux/personality", &["domain"]),
    ("/linux/seccomp", &["defaultAction"]),
];

/// The samples without all that is not on the way to the field.
fn cut(sample: &Value, at: &str, path: &[&str]) -> Value {
    let Some((key, rest)) = path.split_first() else { return sample.clone() };
    let inside = format!("{at}/{key}");
    match sample {
        Value::Array(list) => json!([cut(&list[0], &inside, rest)]),
        Value::Object(object) => {
            let key = if *key == "*" { object.keys().next().unwrap() } else { *key };
            let needed = NEEDED.iter().find(|(of, _)| *of == at).map_or(&[][..], |(_, keys)| keys);
            let mut kept: serde_json::Map<String, Value> =
                needed.iter().map(|key| (key.to_string(), object[*key].clone())).collect();
            let value = object.get(key).unwrap_or_else(|| panic!("no sample for {inside}"));
            kept.insert(key.to_string(), cut(value, &inside, rest));
            Value::Object(kept)
        }
        other => panic!("{at} is {other}"),
    }
}

/// Lays one configuration over another.
fn lay_over(base: &mut Value, over: Value) {
    match (base, over) {
        (Value::Object(base), Value::Object(over)) => {
            for (key, value) in over {
                lay_over(base.entry(key).or_insert(Value::Null), value);
            }
        }
        (base, over) => *base = over,
    }
}

fn plan(config: &Value) -> Result<Plan, Error> {
    let bundle = Bundle::from_bytes("/BUNDLE".into(), config.to_string().into_bytes())?;
    Plan::create(&bundle, &Request { id: "web".to_string(), ..Request::default() })
}

/// The pointer that an error names.
fn origin(e: &Error) -> String {
    let text = e.to_string();
    let (_, pointer) =
        text.split_once("\n  from: config.json ").unwrap_or_else(|| panic!("no origin: {text}"));
    pointer.to_string()
}

fn parts(pointer: &str) -> Vec<&str> {
    pointer.split('/').skip(1).collect()
}

/// Whether the error's pointer is the field, or the object or element that it is in and that is refused with it.
fn names(origin: &str, pointer: &str, refused: &[String]) -> bool {
    let (origin, field) = (parts(origin), parts(pointer));
    let matches = origin.len() <= field.len() && origin.iter().zip(&field).all(|(o, f)| o == f || *f == "*");
    let above = format!("/{}", field[..origin.len().min(field.len())].join("/"));
    matches && (above == pointer || refused.contains(&above) || above.ends_with("/*"))
}

#[test]
fn every_refused_field_is_refused_by_an_error_that_names_it() {
    let (samples, refused) = (refused_samples(), in_state("refused"));
    for pointer in &refused {
        let mut config = minimal();
        assert!(plan(&config).is_ok());
        lay_over(&mut config, cut(&samples, "", &parts(pointer)));
        let Err(e) = plan(&config) else { panic!("{pointer} is not refused") };
        assert!(e.to_string().contains("not supported"), "{pointer}: {e}");
        assert!(names(&origin(&e), pointer, &refused), "{pointer}: {e}");
    }
}

/// A configuration with every field that is done or ignored.
fn everything() -> Value {
    serde_json::from_str(&read("runtime-tests/bundles/everything.json")).unwrap()
}

fn has(config: &Value, path: &[&str]) -> bool {
    let Some((key, rest)) = path.split_first() else { return true };
    match config {
        Value::Array(list) => *key == "*" && list.iter().any(|element| has(element, rest)),
        Value::Object(object) if *key == "*" => object.values().any(|value| has(value, rest)),
        Value::Object(object) => object.get(*key).is_some_and(|value| has(value, rest)),
        _ => false,
    }
}

#[test]
fn the_sample_with_everything_has_every_field_that_is_not_refused() {
    let (everything, refused) = (everything(), in_state("refused"));
    for pointer in fields() {
        assert_eq!(has(&everything, &parts(&pointer)), !refused.contains(&pointer), "{pointer}");
    }
}

/// Fields that a host may lack the means for: cgroup controllers, rights over cgroups, security modules.
const BY_HOST: [&str; 4] =
    ["/linux/resources", "/linux/cgroupsPath", "/process/selinuxLabel", "/process/apparmorProfile"];

#[test]
fn no_other_field_is_refused() {
    let mut config = everything();
    config["linux"].as_object_mut().unwrap().retain(|key, _| key != "resources" && key != "cgroupsPath");
    config["process"]
        .as_object_mut()
        .unwrap()
        .retain(|key, _| key != "selinuxLabel" && key != "apparmorProfile");
    if let Err(e) = plan(&config) {
        panic!("{e}");
    }
}

#[test]
fn what_depends_on_the_host_is_refused_by_the_host_only() {
    let everything = everything();
    for pointer in fields().iter().filter(|pointer| BY_HOST.iter().any(|above| is_below(pointer, above))) {
        // Whole groups and single limits, but no parts of a device or an adapter: they make sense together.
        let path: Vec<&str> = parts(pointer).into_iter().take_while(|part| *part != "*").collect();
        let mut config = minimal();
        lay_over(&mut config, cut(&everything, "", &path));
        let Err(e) = plan(&config) else { continue };
        let text = e.to_string();
        assert!(!text.contains("supported by this version") && !text.contains("parse config.json"), "{text}");
        let origin = origin(&e);
        assert!(BY_HOST.iter().any(|above| is_below(&origin, above)), "{pointer}: {text}");
    }
}
