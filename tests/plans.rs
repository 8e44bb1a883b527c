//! The plans of sample configurations: their text (golden files) and the laws of the order of their steps.
//!
//! The samples are the files of runtime-tests/bundles and what `myrt spec` writes; their plans lie in
//! runtime-tests/plans. `UPDATE_PLANS=1 cargo test --test plans` writes them anew: read the difference.
//! Needs nothing: no root, no container is made, and what depends on the host is left out.
#![allow(missing_docs, clippy::unwrap_used)] // A test that cannot go on panics.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use myrt::bundle::Bundle;
use myrt::plan::{Plan, Request};
use serde_json::{Value, json};

fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// What `myrt spec` writes, with options; the ids of the caller are replaced.
fn written(options: &[&str]) -> Value {
    // Tests run in several threads at once.
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let dir = std::env::temp_dir().join(format!("myrt-plans-{}-{number}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let status =
        Command::new(env!("CARGO_BIN_EXE_myrt")).arg("spec").args(options).arg("--bundle").arg(&dir).status();
    let text = std::fs::read_to_string(dir.join("config.json"));
    std::fs::remove_dir_all(&dir).unwrap();
    assert!(status.unwrap().success());
    let mut config: Value = serde_json::from_str(&text.unwrap()).unwrap();
    for field in ["uidMappings", "gidMappings"] {
        if let Some(map) = config["linux"].get_mut(field) {
            map[0]["hostID"] = json!(1000);
        }
    }
    config
}

/// Every sample: its name and its configuration.
fn samples() -> BTreeMap<String, Value> {
    let mut samples = BTreeMap::new();
    samples.insert("spec".to_string(), written(&[]));
    samples.insert("spec-rootless".to_string(), written(&["--rootless"]));
    for entry in std::fs::read_dir(here("runtime-tests/bundles")).unwrap() {
        let path = entry.unwrap().path();
        let config: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        // The others are processes for `exec`.
        if config.get("ociVersion").is_some() {
            samples.insert(path.file_stem().unwrap().to_string_lossy().into_owned(), config);
        }
    }
    samples
}

/// Plans as anybody on any host can: without cgroup limits and labels, which need what the host may lack.
fn plan(mut config: Value) -> Result<Plan, myrt::error::Error> {
    if let Some(linux) = config["linux"].as_object_mut() {
        linux.remove("resources");
        linux.remove("cgroupsPath");
        linux.remove("mountLabel");
    }
    if let Some(process) = config["process"].as_object_mut() {
        process.remove("selinuxLabel");
        process.remove("apparmorProfile");
    }
    plan_as_it_is(&config)
}

fn plan_as_it_is(config: &Value) -> Result<Plan, myrt::error::Error> {
    // No such directory is there: relative paths of the host are shown below it, and nothing is resolved.
    let bundle = Bundle::from_bytes("/BUNDLE".into(), config.to_string().into_bytes())?;
    Plan::create(&bundle, &Request { id: "web".to_string(), ..Request::default() })
}

struct Line {
    place: String,
    text: String,
    asked_by: String,
}

/// The lines of a plan as `myrt plan --format json` has them, the same on every host.
fn lines(plan: &Plan) -> Vec<Line> {
    let json = json!(plan.lines());
    let mut lines: Vec<Line> = json.as_array().unwrap().iter().map(line).collect();
    // Where cgroups are made is the host's affair; only what follows from the configuration alone is compared.
    lines.retain(|line| {
        let host = line.place == "host";
        !host || line.text.starts_with("map ") || line.text.starts_with("set oom_score_adj ")
    });
    // On a v1 host the child enters its cgroup and makes its cgroup namespace itself, and there are several hierarchies.
    lines.retain(|line| !line.text.starts_with("enter the cgroup in "));
    let late = lines.iter().any(|line| line.text == "make a cgroup namespace");
    lines.retain(|line| line.text != "make a cgroup namespace");
    for line in &mut lines {
        if late && line.text.starts_with("child") {
            line.text = with_cgroup(&line.text);
        }
        line.text = line.text.replace("mount cgroup hierarchies on", "mount cgroup2 on");
        if let Some(rest) = line.text.strip_prefix("install seccomp filter, ") {
            // The number differs between processors.
            assert!(
                rest.ends_with(" instructions") && rest.starts_with(|c: char| c.is_ascii_digit()),
                "{rest}"
            );
            line.text = "install seccomp filter, N instructions".to_string();
        }
    }
    lines
}

fn line(line: &Value) -> Line {
    let text = |key: &str| line[key].as_str().unwrap().to_string();
    Line { place: text("place"), text: text("text"), asked_by: text("asked_by") }
}

fn with_cgroup(child: &str) -> String {
    const ORDER: [&str; 8] = ["user", "pid", "net", "ipc", "uts", "mnt", "cgroup", "time"];
    let there = child.strip_prefix("child with new ").unwrap_or_default();
    let names: Vec<&str> =
        ORDER.into_iter().filter(|name| *name == "cgroup" || there.split(", ").any(|n| n == *name)).collect();
    format!("child with new {}", names.join(", "))
}

fn text(plan: &Plan) -> String {
    let line = |Line { place, text, asked_by }: Line| {
        format!("{place:<6} {text:<64} {asked_by}").trim_end().to_string()
    };
    lines(plan).into_iter().map(|l| line(l) + "\n").collect()
}

#[test]
fn plans_are_as_they_were() {
    let update = std::env::var_os("UPDATE_PLANS").is_some();
    let folder = here("runtime-tests/plans");
    std::fs::create_dir_all(&folder).unwrap();
    let samples = samples();
    for (name, config) in &samples {
        let file = folder.join(format!("{name}.txt"));
        let text = text(&plan(config.clone()).unwrap_or_else(|e| panic!("{name}: {e}")));
        if update {
            std::fs::write(&file, &text).unwrap();
        }
        let expected = std::fs::read_to_string(&file).unwrap_or_default();
        let different = text.lines().zip(expected.lines()).find(|(now, then)| now != then);
        if let Some((now, then)) = different {
            panic!(
                "{name}: planned\n  {now}\nbut {} has\n  {then}\nUPDATE_PLANS=1 writes it anew",
                file.display()
            );
        }
        assert_eq!(text, expected, "{name}: {} ends elsewhere", file.display());
    }
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        assert!(samples.contains_key(&name), "{} belongs to no sample", path.display());
    }
}

#[test]
fn text_and_json_of_a_plan_say_the_same() {
    for (name, config) in samples() {
        let plan = plan(config).unwrap();
        let text = plan.to_string();
        let json = json!(plan.lines());
        assert_eq!(text.lines().count(), json.as_array().unwrap().len(), "{name}");
        for (shown, line) in text.lines().zip(json.as_array().unwrap().iter().map(line)) {
            assert!(shown.starts_with(&line.place) && shown.contains(&line.text), "{name}: {shown}");
            assert!(shown.ends_with(&line.asked_by), "{name}: {shown}");
        }
    }
}

#[test]
fn every_line_names_an_existing_field_or_nobody() {
    for (name, config) in samples() {
        for line in lines(&plan(config.clone()).unwrap()) {
            // What holds if the configuration says nothing counts as asked for by the field.
            let parent = line.asked_by.rsplit_once('/').map_or("", |(parent, _)| parent);
            let there = config.pointer(&line.asked_by).or(config.pointer(parent));
            assert!(there.is_some(), "{name}: {} asks for {}", line.asked_by, line.text);
        }
    }
}

/// The place of the one step that begins with one of the words.
fn only(lines: &[Line], words: &[&str]) -> usize {
    let found = all(lines, words);
    assert_eq!(found.len(), 1, "{words:?}");
    found[0]
}

/// The places of all steps that begin with one of the words.
fn all(lines: &[Line], words: &[&str]) -> Vec<usize> {
    let begins = |line: &Line| line.place != "host" && words.iter().any(|word| line.text.starts_with(word));
    lines.iter().enumerate().filter(|(_, line)| begins(line)).map(|(at, _)| at).collect()
}

fn places_asked_by(lines: &[Line], pointer: &str) -> Vec<usize> {
    let asked = |line: &Line| line.asked_by.starts_with(pointer);
    lines.iter().enumerate().filter(|(_, line)| asked(line)).map(|(at, _)| at).collect()
}

/// Checks a law on the plans of all samples.
fn for_all(law: impl Fn(&str, &Value, &[Line])) {
    for (name, config) in samples() {
        law(&name, &config, &lines(&plan(config.clone()).unwrap()));
    }
}

const PIVOT: &[&str] = &["pivot into", "change the root"];
const BECOME_USER: &[&str] = &["become user"];
const GROUPS: &[&str] = &["drop the caller's groups", "set groups"];

#[test]
fn masks_come_after_all_mounts_and_before_the_root_is_changed() {
    for_all(|name, config, lines| {
        let masks = all(lines, &["mask ", "make /"]);
        let count = |field: &str| config["linux"][field].as_array().map_or(0, Vec::len);
        assert_eq!(masks.len(), count("maskedPaths") + count("readonlyPaths"), "{name}");
        let devices = all(lines, &["make device", "bind device", "link /"]);
        let last = places_asked_by(lines, "/mounts").into_iter().chain(devices).max();
        assert!(masks.iter().all(|mask| Some(*mask) > last), "{name}");
        let pivot = only(lines, PIVOT);
        assert!(masks.iter().all(|mask| *mask < pivot), "{name}");
        let readonly_root = all(lines, &["make the root read-only"]);
        assert!(readonly_root.iter().all(|root| masks.iter().all(|mask| mask < root)), "{name}");
    });
}

#[test]
fn mounts_keep_the_order_of_the_configuration() {
    for_all(|name, config, lines| {
        let asked: Vec<&str> =
            places_asked_by(lines, "/mounts").iter().map(|at| lines[*at].asked_by.as_str()).collect();
        let count = config["mounts"].as_array().unwrap().len();
        assert_eq!(asked, (0..count).map(|n| format!("/mounts/{n}")).collect::<Vec<_>>(), "{name}");
    });
}

#[test]
fn namespaces_are_joined_before_anything_is_set_in_them() {
    for_all(|name, _, lines| {
        let joined = all(lines, &["join net", "join ipc", "join uts", "join mnt"]);
        let set = all(lines, &["set hostname", "set domainname", "set sysctl", "attach root", "use root"]);
        assert!(joined.iter().all(|join| set.iter().all(|set| join < set)), "{name}");
    });
}

#[test]
fn groups_and_bounding_set_are_dropped_before_the_user_id() {
    for_all(|name, _, lines| {
        let user = only(lines, BECOME_USER);
        assert!(only(lines, GROUPS) < user, "{name}");
        assert!(only(lines, &["limit bounding set"]) < user, "{name}");
    });
}

#[test]
fn capabilities_are_set_after_the_user_id() {
    for_all(|name, _, lines| {
        let user = only(lines, BECOME_USER);
        assert!(all(lines, &["set effective"]).iter().all(|set| *set > user), "{name}");
        assert!(!all(lines, &["set effective"]).is_empty(), "{name}");
    });
}

#[test]
fn the_working_directory_is_verified_with_the_rights_of_the_user_and_before_the_filter() {
    for_all(|name, _, lines| {
        let verified: Vec<usize> =
            all(lines, &["enter "]).into_iter().filter(|at| lines[*at].text.contains("verify")).collect();
        assert_eq!(verified.len(), 1, "{name}");
        assert!(verified[0] > only(lines, BECOME_USER), "{name}");
        assert!(all(lines, &["install seccomp"]).iter().all(|filter| *filter > verified[0]), "{name}");
    });
}

#[test]
fn the_filter_is_last_with_no_new_privs_and_before_the_last_capabilities_without() {
    for_all(|name, config, lines| {
        let execute = only(lines, &["execute "]);
        assert_eq!(execute, lines.len() - 1, "{name}: the program ends the plan");
        let [filter] = all(lines, &["install seccomp"])[..] else {
            assert!(config["linux"].get("seccomp").is_none(), "{name}");
            return;
        };
        let sets = all(lines, &["set effective"]);
        if config["process"]["noNewPrivileges"] == json!(true) {
            assert_eq!(filter, execute - 1, "{name}");
            assert!(only(lines, &["set no_new_privs"]) < filter, "{name}");
            assert_eq!(sets.len(), 1, "{name}: nothing is kept for the filter");
        } else {
            assert!(all(lines, &["set no_new_privs"]).is_empty(), "{name}");
            assert_eq!(sets.len(), 2, "{name}: CAP_SYS_ADMIN is kept for the filter, then dropped");
            assert!(lines[sets[0]].text.contains("CAP_SYS_ADMIN until the filter"), "{name}");
            assert!(!lines[sets[1]].text.contains("CAP_SYS_ADMIN"), "{name}");
            assert_eq!((filter, sets[1]), (execute - 2, execute - 1), "{name}");
        }
    });
    let filtered = samples().into_values().filter(|config| config["linux"].get("seccomp").is_some());
    let orders: HashSet<bool> = filtered.map(|c| c["process"]["noNewPrivileges"] == json!(true)).collect();
    assert_eq!(orders.len(), 2, "the samples show both orders");
}

#[test]
fn hooks_of_the_container_run_at_their_points() {
    for_all(|name, config, lines| {
        let pivot = only(lines, PIVOT);
        let steps = [
            ("createContainer", all(lines, &["run"]).into_iter().find(|at| lines[*at].place == "child")),
            ("startContainer", all(lines, &["run"]).into_iter().find(|at| lines[*at].place == "start")),
        ];
        for (kind, at) in steps {
            assert_eq!(at.is_some(), config["hooks"].get(kind).is_some(), "{name}: {kind}");
        }
        assert!(steps[0].1.is_none_or(|at| at < pivot), "{name}");
        let told = all(lines, &["let the host run"]);
        let asked = ["prestart", "createRuntime"].iter().any(|kind| config["hooks"].get(kind).is_some());
        assert_eq!(!told.is_empty(), asked, "{name}");
        assert!(told.iter().all(|at| *at < pivot), "{name}");
    });
}

/// Needs a host with the security module; says so if it is not there.
#[test]
fn labels_are_written_before_the_root_is_changed() {
    let fields = [
        ("selinuxLabel", "system_u:system_r:container_t:s0:c1,c2", "label the program"),
        ("apparmorProfile", "myrt-example", "confine the program"),
    ];
    for (field, label, word) in fields {
        let mut config = written(&[]);
        config["linux"].as_object_mut().unwrap().remove("resources");
        config["process"][field] = json!(label);
        match plan_as_it_is(&config) {
            Ok(plan) => {
                let lines = lines(&plan);
                assert!(only(&lines, &[word]) < only(&lines, PIVOT), "{field}");
                let keys = all(&lines, &["label keys"]);
                assert_eq!(keys.len(), usize::from(field == "selinuxLabel"));
                assert!(keys.iter().all(|label| *label < only(&lines, &["join session keyring"])));
            }
            Err(e) => {
                assert!(e.to_string().contains(&format!("config.json /process/{field}")), "{e}");
                println!("skipped for {field}: {}", e.line());
            }
        }
    }
}
