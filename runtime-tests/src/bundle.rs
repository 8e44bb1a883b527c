//! Bundles and containers: a minimal config.json that tests patch, and a guard for what runs.

use crate::harness::{Running, T, wait_for};
use crate::host::Cgroups;
use crate::read;
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

/// What a finished command left.
#[derive(Debug)]
pub struct Output {
    /// The exit status, or 128+n after signal n.
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Output {
    pub fn new(status: ExitStatus, out: &Path, err: &Path) -> Output {
        let code = status.code().or(status.signal().map(|s| 128 + s)).unwrap_or(-1);
        let text = |path| String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned();
        Output { code, out: text(out), err: text(err) }
    }

    /// The output itself, after a check that the command succeeded.
    #[track_caller]
    pub fn ok(self) -> Output {
        assert_eq!(self.code, 0, "must succeed: {}", self.err);
        self
    }

    /// The output itself, after a check that the command failed and said why on stderr.
    #[track_caller]
    pub fn refused(self) -> Output {
        assert_ne!(self.code, 0, "must be refused");
        assert!(!self.err.trim().is_empty(), "must say why it is refused");
        assert!(!self.err.contains("panicked"), "must not panic: {}", self.err);
        self
    }

    /// What the probes of `inside` found, in order.
    #[track_caller]
    pub fn probes(&self) -> Vec<Value> {
        let line = self.out.lines().rfind(|l| l.starts_with('[')).unwrap_or_default();
        serde_json::from_str(line).unwrap_or_else(|e| panic!("no report: {e}: {} {}", self.out, self.err))
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("no JSON: {e}: {}", self.out))
    }

    #[track_caller]
    pub fn says(&self, phrase: &str) {
        assert!(self.err.contains(phrase), "must say {phrase:?}: {}", self.err);
    }
}

/// The errno that one probe got.
pub fn errno(probe: &Value) -> i32 {
    probe["errno"].as_i64().unwrap_or(-1) as i32
}

/// The errnos of several probes, in order.
pub fn errnos(probes: &[Value]) -> Vec<i32> {
    probes.iter().map(errno).collect()
}

/// A bundle on disk: a rootfs with `/inside` in it, and a config.json that is written when it is used.
pub struct Bundle<'t> {
    pub t: &'t T,
    pub id: String,
    pub dir: PathBuf,
    pub config: Value,
}

/// The config.json that tests begin with: nothing but what a program needs to run.
fn minimal(cgroups_path: &str) -> Value {
    json!({
        "ociVersion": "1.0.2",
        "root": { "path": "rootfs" },
        "process": {
            "user": { "uid": 0, "gid": 0 },
            "args": ["/inside", "report"],
            "env": ["PATH=/bin:/"],
            "cwd": "/",
        },
        "mounts": [
            { "destination": "/proc", "type": "proc", "source": "proc" },
            { "destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"] },
            { "destination": "/dev/pts", "type": "devpts", "source": "devpts",
              "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"] },
        ],
        "linux": {
            "cgroupsPath": cgroups_path,
            "namespaces": [{ "type": "pid" }, { "type": "ipc" }, { "type": "uts" }, { "type": "mount" }],
        },
    })
}

impl T {
    pub fn bundle(&self) -> Bundle<'_> {
        let id = self.fresh_id();
        let dir = self.dir.join(format!("bundle-{id}"));
        let config = minimal(&self.cgroups_path(&id));
        let bundle = Bundle { t: self, id, dir, config };
        for folder in ["proc", "dev", "sys", "tmp", "etc", "bin"] {
            fs::create_dir_all(bundle.rootfs().join(folder)).unwrap();
        }
        fs::copy(std::env::var_os("INSIDE").unwrap(), bundle.rootfs().join("inside")).unwrap();
        bundle
    }

    /// Runs probes in a fresh minimal container.
    pub fn probe(&self, probes: &[&str]) -> Vec<Value> {
        self.bundle().probe(probes)
    }
}

impl<'t> Bundle<'t> {
    pub fn rootfs(&self) -> PathBuf {
        self.dir.join("rootfs")
    }

    // ---- patches of config.json

    /// Puts a value at a JSON pointer, making the objects on the way; "-" appends to an array.
    pub fn set(mut self, pointer: &str, value: impl Into<Value>) -> Self {
        let mut place = &mut self.config;
        for key in pointer.split('/').skip(1) {
            if place.is_null() {
                *place = if key == "-" { json!([]) } else { json!({}) };
            }
            place = match place {
                Value::Array(list) => {
                    if key == "-" {
                        list.push(Value::Null);
                    }
                    let index = key.parse().unwrap_or(list.len() - 1);
                    &mut list[index]
                }
                other => &mut other[key],
            };
        }
        *place = value.into();
        self
    }

    pub fn remove(mut self, pointer: &str) -> Self {
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        self.config.pointer_mut(parent).unwrap().as_object_mut().unwrap().remove(key);
        self
    }

    pub fn args(self, args: &[&str]) -> Self {
        self.set("/process/args", args)
    }

    /// Sets the program to `inside` with these probes, each a string of words.
    pub fn inside(self, probes: &[&str]) -> Self {
        let words: Vec<&str> =
            probes.iter().flat_map(|p| ["--"].into_iter().chain(p.split(' '))).skip(1).collect();
        self.args(&[&["/inside"], &words[..]].concat())
    }

    pub fn mount(self, destination: &str, kind: &str, source: impl AsRef<Path>, options: &[&str]) -> Self {
        let source = source.as_ref().to_str().unwrap();
        let mut entry = json!({ "destination": destination, "source": source, "options": options });
        if !kind.is_empty() {
            entry["type"] = json!(kind);
        }
        self.set("/mounts/-", entry)
    }

    pub fn namespace(self, kind: &str) -> Self {
        self.set("/linux/namespaces/-", json!({ "type": kind }))
    }

    pub fn join_namespace(self, kind: &str, path: &str) -> Self {
        self.without_namespace(kind).set("/linux/namespaces/-", json!({ "type": kind, "path": path }))
    }

    pub fn without_namespace(mut self, kind: &str) -> Self {
        self.config["linux"]["namespaces"].as_array_mut().unwrap().retain(|n| n["type"] != kind);
        self
    }

    /// A user namespace in which 0.. is 100000.. outside, and a rootfs that belongs to its root.
    pub fn user_namespace(self) -> Self {
        let map = json!([{ "containerID": 0, "hostID": 100_000, "size": 65_536 }]);
        for path in [".", "inside", "proc", "dev", "sys", "tmp", "etc", "bin"] {
            std::os::unix::fs::chown(self.rootfs().join(path), Some(100_000), Some(100_000)).unwrap();
        }
        self.namespace("user").set("/linux/uidMappings", map.clone()).set("/linux/gidMappings", map)
    }

    /// The same capabilities in the given sets.
    pub fn caps(self, names: &[&str], sets: &[&str]) -> Self {
        sets.iter().fold(self, |b, set| b.set(&format!("/process/capabilities/{set}"), names))
    }

    /// Bounding, permitted and effective sets as wide as ours.
    pub fn all_caps(self) -> Self {
        let ours = crate::host::effective();
        let names: Vec<&str> = (0..)
            .zip(crate::capabilities::NAMES)
            .filter(|(i, _)| ours >> i & 1 == 1)
            .map(|(_, n)| n)
            .collect();
        self.caps(&names, &["bounding", "permitted", "effective"])
    }

    pub fn hook(self, kind: &str, hook: Value) -> Self {
        self.set(&format!("/hooks/{kind}/-"), hook)
    }

    // ---- things in the rootfs

    pub fn file(self, path: &str, content: &str) -> Self {
        let file = self.rootfs().join(path.trim_start_matches('/'));
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, content).unwrap();
        self
    }

    pub fn folder(self, path: &str) -> Self {
        fs::create_dir_all(self.rootfs().join(path.trim_start_matches('/'))).unwrap();
        self
    }

    pub fn link(self, path: &str, target: &str) -> Self {
        let file = self.rootfs().join(path.trim_start_matches('/'));
        let _ = fs::remove_dir(&file);
        symlink(target, file).unwrap();
        self
    }

    // ---- use

    pub fn write(&self) {
        fs::write(self.dir.join("config.json"), serde_json::to_vec_pretty(&self.config).unwrap()).unwrap();
    }

    /// A command of the runtime on this bundle, with the id last; config.json is written.
    pub fn command(&self, verb: &str, options: &[&str]) -> Command {
        self.write();
        let mut command = self.t.command();
        command.arg(verb).args(options).arg("--bundle").arg(&self.dir).arg(&self.id);
        command
    }

    pub fn run(&self) -> Output {
        self.t.finish(self.command("run", &[]))
    }

    /// Starts `run` in the background.
    pub fn begin(&self) -> Running<'t> {
        self.t.begin(self.command("run", &[]))
    }

    pub fn create_with(self, options: &[&str]) -> Result<Container<'t>, Output> {
        let running = self.t.begin(self.command("create", options));
        let stdout = running.out.clone();
        let output = running.wait();
        if output.code != 0 {
            return Err(output);
        }
        Ok(Container { t: self.t, id: self.id.clone(), bundle: self, stdout })
    }

    #[track_caller]
    pub fn create(self) -> Container<'t> {
        match self.create_with(&[]) {
            Ok(container) => container,
            Err(output) => panic!("create must succeed: {}", output.err),
        }
    }

    /// What `create` said when it refused this bundle.
    #[track_caller]
    pub fn refused(self) -> Output {
        match self.create_with(&[]) {
            Ok(_) => panic!("create must be refused"),
            Err(output) => output.refused(),
        }
    }

    /// Creates and starts a container that waits until it is killed.
    #[track_caller]
    pub fn start(self) -> Container<'t> {
        self.inside(&["pause"]).start_as_is()
    }

    /// Creates and starts the program that the config has.
    #[track_caller]
    pub fn start_as_is(self) -> Container<'t> {
        let container = self.create();
        container.start();
        container
    }

    /// Runs `inside report` and gives what it found.
    #[track_caller]
    pub fn report(self) -> Value {
        self.inside(&["report"]).run().ok().probes().remove(0)
    }

    /// Runs probes and gives what each found.
    #[track_caller]
    pub fn probe(self, probes: &[&str]) -> Vec<Value> {
        self.inside(probes).run().ok().probes()
    }

    /// The errno of each probe.
    #[track_caller]
    pub fn tries(self, probes: &[&str]) -> Vec<i32> {
        errnos(&self.probe(probes))
    }
}

/// A container that `create` made; the keeper deletes it if the test doesn't.
pub struct Container<'t> {
    pub t: &'t T,
    pub id: String,
    pub bundle: Bundle<'t>,
    stdout: PathBuf,
}

impl Container<'_> {
    /// `COMMAND OPTIONS ID ARGS`
    pub fn call(&self, verb: &str, options: &[&str], args: &[&str]) -> Output {
        let mut command = self.t.command();
        command.arg(verb).args(options).arg(&self.id).args(args);
        self.t.finish(command)
    }

    #[track_caller]
    pub fn start(&self) {
        self.call("start", &[], &[]).ok();
    }

    #[track_caller]
    pub fn state(&self) -> Value {
        self.call("state", &[], &[]).ok().json()
    }

    #[track_caller]
    pub fn status(&self) -> String {
        self.state()["status"].as_str().unwrap_or_default().to_string()
    }

    #[track_caller]
    pub fn pid(&self) -> i64 {
        self.state()["pid"].as_i64().unwrap_or_default()
    }

    #[track_caller]
    pub fn cgroups(&self) -> Cgroups {
        Cgroups::of(self.pid())
    }

    #[track_caller]
    pub fn wait_until(&self, status: &str) {
        wait_for(&format!("{} is {status}", self.id), || (self.status() == status).then_some(()));
    }

    #[track_caller]
    pub fn kill(&self, signal: &str) {
        self.call("kill", &[], &[signal]).ok();
    }

    #[track_caller]
    pub fn stop(&self) {
        self.kill("KILL");
        self.wait_until("stopped");
    }

    #[track_caller]
    pub fn delete(&self) {
        self.call("delete", &[], &[]).ok();
    }

    pub fn delete_by_force(&self) -> Output {
        self.call("delete", &["--force"], &[])
    }

    /// Runs probes with `exec OPTIONS`.
    #[track_caller]
    pub fn exec(&self, options: &[&str], probes: &[&str]) -> Vec<Value> {
        let words: Vec<&str> =
            probes.iter().flat_map(|p| ["--"].into_iter().chain(p.split(' '))).skip(1).collect();
        self.call("exec", options, &[&["/inside"], &words[..]].concat()).ok().probes()
    }

    /// `exec --process FILE`, with the container's own process patched by `patch`.
    pub fn exec_process(&self, patch: impl FnOnce(&mut Value), probes: &[&str]) -> Output {
        let file = self.process_file(patch, probes);
        self.call("exec", &["--process", file.to_str().unwrap()], &[])
    }

    pub fn process_file(&self, patch: impl FnOnce(&mut Value), probes: &[&str]) -> PathBuf {
        let words: Vec<&str> =
            probes.iter().flat_map(|p| ["--"].into_iter().chain(p.split(' '))).skip(1).collect();
        let mut process = self.bundle.config["process"].clone();
        process["args"] = json!([&["/inside"], &words[..]].concat());
        patch(&mut process);
        let file = self.t.dir.join(format!("process-{}.json", self.t.fresh_id()));
        fs::write(&file, process.to_string()).unwrap();
        file
    }

    /// What the program wrote so far.
    pub fn output(&self) -> String {
        read(&self.stdout)
    }
}
