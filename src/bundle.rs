//! The bundle: `config.json`, read once and by nobody else. `/ociVersion`, and all that cannot be read.
//!
//! oci-spec parses it. What oci-spec gets wrong is put right here, on the path of the failure or of the rare
//! value only: an unknown capability is a warning and not an error (config.md, "Linux Process"), and
//! `"pids": {}` is not a limit of zero.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{LinuxResources, Process, Spec};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::error::{Call, Context, Error, Result};
use crate::log;

/// A larger file is not a configuration but an attack (CVE-2021-43784) or a mistake.
const LARGEST: u64 = 16 << 20;

/// A bundle: its directory and its configuration.
#[derive(Debug)]
pub struct Bundle {
    /// The directory, absolute, without symlinks.
    pub path: PathBuf,
    /// What `config.json` says.
    pub spec: Spec,
    /// `config.json` as it was read, kept with the state for `exec` and the poststop hooks.
    pub config: Vec<u8>,
}

impl Bundle {
    /// Opens a bundle and reads its configuration, `config` if another file than `config.json` serves.
    pub fn open(path: &Path, config: Option<&Path>) -> Result<Bundle> {
        let path = path.canonicalize().call("realpath(3)").at(format!("open bundle {}", path.display()))?;
        let file = path.join(config.unwrap_or(Path::new("config.json")));
        let hint = "a bundle is a directory with a config.json; `myrt spec` writes one to begin with";
        let bytes = read(&file).hint(hint)?;
        Bundle::from_bytes(path, bytes)
    }

    /// Takes a configuration that was read before.
    pub fn from_bytes(path: PathBuf, config: Vec<u8>) -> Result<Bundle> {
        let spec: Spec = parse(&config, "config.json")?;
        check_version(spec.version()).from_config("/ociVersion")?;
        check_io_priority(spec.process().as_ref(), &config)?;
        Ok(Bundle { path, spec, config })
    }

    /// A path of the configuration on the host: relative ones count from the bundle.
    pub fn host_path(&self, path: &Path) -> PathBuf {
        self.path.join(path)
    }
}

/// Reads a process configuration, as `exec --process` gets one.
pub fn read_process(file: &Path) -> Result<Process> {
    let bytes = read(file)?;
    let process = parse(&bytes, &file.display().to_string())?;
    check_io_priority(Some(&process), &bytes)?;
    Ok(process)
}

/// oci-spec takes a missing part of /process/ioPriority for the first: best effort, and the highest priority.
fn check_io_priority(process: Option<&Process>, bytes: &[u8]) -> Result<()> {
    if process.is_none_or(|process| process.io_priority().is_none()) {
        return Ok(());
    }
    let value: Value = serde_json::from_slice(bytes).map_err(|e| Error::new(e.to_string()))?;
    let priority = &value.get("process").unwrap_or(&value)["ioPriority"];
    match ["class", "priority"].into_iter().find(|part| priority.get(part).is_none()) {
        Some(part) => Err(Error::new(format!("ioPriority has no {part}")).from_config("/process/ioPriority")),
        None => Ok(()),
    }
}

/// Reads a resource configuration, as `update --resources` gets one.
pub fn read_resources(bytes: &[u8]) -> Result<LinuxResources> {
    parse(bytes, "resources")
}

fn read(file: &Path) -> Result<Vec<u8>> {
    let step = || format!("read {}", file.display());
    let mut source: Box<dyn Read> = if file == Path::new("-") {
        Box::new(std::io::stdin())
    } else {
        Box::new(File::open(file).call("open(2)").map_err(|e| e.at(step()))?)
    };
    let mut bytes = Vec::with_capacity(16 << 10);
    source.by_ref().take(LARGEST + 1).read_to_end(&mut bytes).call("read(2)").map_err(|e| e.at(step()))?;
    if bytes.len() as u64 > LARGEST {
        return Err(Error::new(format!("larger than {} MiB", LARGEST >> 20)).at(step()));
    }
    Ok(bytes)
}

/// Parses with oci-spec; unknown keys are ignored as the spec demands, unless they look like a mistyped key
/// that confines.
fn parse<T: DeserializeOwned>(bytes: &[u8], name: &str) -> Result<T> {
    if let Some(key) = object_written_as_list(bytes) {
        return Err(Error::new(format!("{key:?} is a list, expected an object")).at(format!("parse {name}")));
    }
    let mut suspect = None;
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let parsed = serde_ignored::deserialize(&mut deserializer, |path| {
        if suspect.is_none() {
            suspect = meant(&path.to_string());
        }
    })
    .and_then(|value| deserializer.end().map(|()| value));
    if let Some((key, meant)) = suspect {
        return Err(Error::new(format!("unknown key {key:?}"))
            .at(name)
            .hint(format!("did you mean {meant:?}?")));
    }
    match parsed {
        Ok(value) => Ok(value),
        Err(e) => parse_forgiving(bytes)
            .unwrap_or_else(|| Err(Error::new(e.to_string()).at(format!("parse {name}")))),
    }
}

/// The key of an object that is written as a list.
///
/// serde takes a list for a struct, field by field: `"resources": []` would be a container without limits.
fn object_written_as_list(bytes: &[u8]) -> Option<String> {
    const OBJECTS: [&str; 19] = [
        "process",
        "user",
        "root",
        "hooks",
        "linux",
        "resources",
        "memory",
        "cpu",
        "pids",
        "blockIO",
        "network",
        "seccomp",
        "capabilities",
        "personality",
        "consoleSize",
        "annotations",
        "scheduler",
        "ioPriority",
        "execCPUAffinity",
    ];
    let (mut key, mut start, mut colon) = (0..0, None, false);
    let mut escaped = false;
    for (at, byte) in bytes.iter().enumerate() {
        match (start, byte) {
            (Some(_), _) if escaped => escaped = false,
            (Some(_), b'\\') => escaped = true,
            (Some(from), b'"') => (key, start) = (from..at, None),
            (Some(_), _) => {}
            (None, b'"') => (start, colon) = (Some(at + 1), false),
            (None, b':') => colon = true,
            (None, b'[') if colon => {
                let name = String::from_utf8_lossy(&bytes[key.clone()]);
                if OBJECTS.contains(&name.as_ref()) {
                    return Some(name.into_owned());
                }
                colon = false;
            }
            (None, b' ' | b'\t' | b'\r' | b'\n') => {}
            (None, _) => colon = false,
        }
    }
    None
}

/// Once more without what the spec lets us leave out and oci-spec does not: capabilities that nobody knows,
/// sections of other platforms, an absent user (root), flags of a scheduler that it spells otherwise, empty lists of
/// CPUs. `None` if there was nothing of that.
fn parse_forgiving<T: DeserializeOwned>(bytes: &[u8]) -> Option<Result<T>> {
    let mut value: Value = serde_json::from_slice(bytes).ok()?;
    let top = value.as_object_mut()?;
    let mut changed = false;
    for platform in ["windows", "solaris", "vm", "zos", "freebsd"] {
        changed |= top.remove(platform).is_some();
    }
    let process = if top.contains_key("ociVersion") { top.get_mut("process")?.as_object_mut()? } else { top };
    if process.contains_key("cwd") && !process.contains_key("user") {
        process.insert("user".to_string(), Value::Object(Default::default()));
        changed = true;
    }
    changed |= respell_flags(process.get_mut("scheduler"));
    if let Some(affinity) = process.get_mut("execCPUAffinity").and_then(Value::as_object_mut) {
        // An empty list is as good as none.
        let count = affinity.len();
        affinity.retain(|_, list| list != "");
        changed |= affinity.len() < count;
    }
    for name in process.get_mut("capabilities").map(remove_unknown).unwrap_or_default() {
        log::warn(format!("capability {name} is unknown and is not granted"));
        changed = true;
    }
    changed
        .then(|| serde_json::from_value(value).map_err(|e| Error::new(e.to_string()).at("parse config.json")))
}

/// Gives the flags of a scheduler the names that oci-spec has for them; true if there were such.
fn respell_flags(scheduler: Option<&mut Value>) -> bool {
    const NAMES: [(&str, &str); 2] = [
        ("SCHED_FLAG_RESET_ON_FORK", "SCHED_RESET_ON_FORK"),
        ("SCHED_FLAG_DL_OVERRUN", "SCHED_FLAG_D_L_OVERRUN"),
    ];
    let flags = scheduler.and_then(|scheduler| scheduler.get_mut("flags")?.as_array_mut());
    let mut changed = false;
    for flag in flags.into_iter().flatten() {
        if let Some((_, name)) = NAMES.iter().find(|(spec, _)| flag == spec) {
            *flag = Value::from(*name);
            changed = true;
        }
    }
    changed
}

/// Takes the names that are no capabilities out of the sets; returns each once.
fn remove_unknown(capabilities: &mut Value) -> Vec<Value> {
    let mut unknown = Vec::new();
    let sets = capabilities.as_object_mut().into_iter().flat_map(|sets| sets.values_mut());
    for set in sets.filter_map(Value::as_array_mut) {
        set.retain(|name| {
            let known = serde_json::from_value::<oci_spec::runtime::Capability>(name.clone()).is_ok();
            if !known && name.is_string() && !unknown.contains(name) {
                unknown.push(name.clone());
            }
            known || !name.is_string()
        });
    }
    unknown
}

/// Keys that confine: one that is nearly spelt like them is a mistake that would weaken the container.
const CONFINING: &[&str] = &[
    "namespaces",
    "uidMappings",
    "gidMappings",
    "devices",
    "cgroupsPath",
    "resources",
    "memory",
    "cpu",
    "pids",
    "blockIO",
    "hugepageLimits",
    "unified",
    "seccomp",
    "defaultAction",
    "defaultErrnoRet",
    "architectures",
    "syscalls",
    "maskedPaths",
    "readonlyPaths",
    "mountLabel",
    "rootfsPropagation",
    "sysctl",
    "capabilities",
    "bounding",
    "effective",
    "inheritable",
    "permitted",
    "ambient",
    "noNewPrivileges",
    "apparmorProfile",
    "selinuxLabel",
    "rlimits",
    "readonly",
    "additionalGids",
    "limit",
    "process",
    "linux",
    "mounts",
    "hooks",
];

/// The confining key that `path`'s last part was probably meant to be.
fn meant(path: &str) -> Option<(String, &'static str)> {
    let key = path.rsplit('.').next()?;
    let plain = |s: &str| s.to_lowercase().replace(['_', '-'], "");
    // A field that belongs to another platform or a newer spec is not a typing error.
    let meant = CONFINING.iter().find(|known| key != **known && distance(&plain(key), &plain(known)) <= 1)?;
    (key.len() > 3).then(|| (key.to_string(), *meant))
}

/// The edit distance of two short words.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut corner = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let change = corner + usize::from(x != *y);
            corner = row[j + 1];
            row[j + 1] = change.min(corner + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

/// Accepts 1.x.y, with a pre-release or build suffix (semver 2.0; config.md, "Specification version").
fn check_version(version: &str) -> Result<()> {
    let core = version.split(['-', '+']).next().unwrap_or_default();
    let parts: Vec<&str> = core.split('.').collect();
    let number = |s: &&str| {
        !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit()) && (*s == "0" || !s.starts_with('0'))
    };
    if parts.len() != 3 || !parts.iter().all(number) {
        return Err(Error::new(format!("ociVersion {version:?} is not a version")).hint("write \"1.3.0\""));
    }
    if parts[0] != "1" {
        let hint = "this runtime knows versions 1.0.0 to 1.3.0";
        return Err(Error::new(format!("ociVersion {version:?} is not supported")).hint(hint));
    }
    Ok(())
}

/// Checks a container id: `[A-Za-z0-9_+.-]`, at most 255 bytes, not `.` or `..` (it becomes a file name).
pub fn check_id(id: &str) -> Result<()> {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"_+.-".contains(&b);
    if id.is_empty() || id.len() > 255 || id == "." || id == ".." || !id.bytes().all(fits) {
        let hint = "use at most 255 letters, digits and the signs _ + - .";
        return Err(Error::new(format!("invalid container id {:?}", OsStr::new(id))).hint(hint));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_semantic() {
        for good in ["1.0.0", "1.0.2-dev", "1.3.0+dev", "1.2.1"] {
            assert!(check_version(good).is_ok(), "{good}");
        }
        for bad in ["", "1", "1.0", "1.0.x", "01.0.0", "2.0.0", "0.9.0", "latest", "1.0.0.0"] {
            assert!(check_version(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn ids_cannot_leave_the_state_directory() {
        for good in ["a", "web-1", "a.b_c+d", "..."] {
            assert!(check_id(good).is_ok(), "{good}");
        }
        let long = "x".repeat(256);
        for bad in ["", ".", "..", "a/b", "a b", "ü", "a\0", "a\n", long.as_str()] {
            assert!(check_id(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn an_unknown_capability_is_left_out_and_the_others_stay() {
        let config = br#"{"ociVersion":"1.0.0","process":{"user":{},"cwd":"/","capabilities":{"bounding":["CAP_KILL","CAP_NOPE"]}}}"#;
        let bundle = Bundle::from_bytes("/b".into(), config.to_vec()).unwrap();
        let process = bundle.spec.process().as_ref().unwrap();
        assert_eq!(process.capabilities().as_ref().unwrap().bounding().as_ref().unwrap().len(), 1);
    }

    #[test]
    fn a_mistyped_confining_key_is_an_error_and_an_unknown_one_is_not() {
        let with = |key: &str| {
            let config = format!(r#"{{"ociVersion":"1.0.0","linux":{{"{key}":["/proc/kcore"]}}}}"#);
            Bundle::from_bytes("/b".into(), config.into_bytes())
        };
        let e = with("maskedPath").unwrap_err().to_string();
        assert!(e.contains("did you mean \"maskedPaths\""), "{e}");
        assert!(with("masked_paths").is_err());
        assert!(with("somethingNew").is_ok());
    }

    #[test]
    fn a_list_is_not_taken_for_an_object() {
        for bad in
            [r#"{"ociVersion":"1.0.0","hooks":[]}"#, r#"{"ociVersion":"1.0.0","linux":{"resources" : [ ]}}"#]
        {
            let e = Bundle::from_bytes("/b".into(), bad.as_bytes().to_vec()).unwrap_err().to_string();
            assert!(e.contains("is a list, expected an object"), "{e}");
        }
        let good = br#"{"ociVersion":"1.0.0","annotations":{"a":"\"linux\":[]"},"mounts":[]}"#;
        Bundle::from_bytes("/b".into(), good.to_vec()).unwrap();
    }

    #[test]
    fn bad_json_is_one_clear_error() {
        for bad in ["", "{", "[]", "{\"ociVersion\":1}", "{\"ociVersion\":\"1.0.0\"} x", "\u{0}"] {
            let e = Bundle::from_bytes("/b".into(), bad.as_bytes().to_vec()).unwrap_err();
            assert!(!e.line().contains('\n'));
        }
        let deep = format!(
            "{{\"ociVersion\":\"1.0.0\",\"annotations\":{}1{}}}",
            "[".repeat(100_000),
            "]".repeat(100_000)
        );
        assert!(Bundle::from_bytes("/b".into(), deep.into_bytes()).is_err());
        let twice = br#"{"ociVersion":"1.0.0","hostname":"a","hostname":"b"}"#;
        assert!(Bundle::from_bytes("/b".into(), twice.to_vec()).is_err());
    }
}
