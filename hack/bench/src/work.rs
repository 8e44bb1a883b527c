//! What is measured over time: each group is a set of cases that are run in turn, in random order within each round,
//! so that all of them meet the same machine. Their ratios hold on a busy machine too; their times do not.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::lab::{Kind, Lab, View};
use crate::random::Random;
use crate::spawn::{Command, Sample};

/// The measurements of one work by one runtime.
#[derive(Debug)]
pub struct Series {
    /// "run", or "run, 500 binds" for a point of a curve.
    pub work: String,
    pub view: View,
    pub runtime: usize,
    /// The place on the horizontal axis, for a curve.
    pub x: Option<u32>,
    pub samples: Vec<Sample>,
    /// Why there are no more samples.
    pub trouble: Option<String>,
}

type Once<'a> = Box<dyn FnMut() -> Result<Vec<Sample>, String> + 'a>;

/// One thing to do again and again; it gives a sample for each of its works.
struct Case<'a> {
    works: Vec<String>,
    view: View,
    runtime: usize,
    x: Option<u32>,
    once: Once<'a>,
}

/// How much time a group may take.
#[derive(Debug, Clone, Copy)]
pub struct Effort {
    pub budget: Duration,
    /// Rounds that are done even if they take longer.
    pub least: usize,
    pub most: usize,
}

/// A group of cases by name, with its share of the time.
pub struct Group {
    pub name: &'static str,
    pub seconds: u64,
    pub measure: fn(&Lab, &mut Random, Effort) -> Result<Vec<Series>, String>,
}

pub const GROUPS: [Group; 8] = [
    Group { name: "run", seconds: 60, measure: run },
    Group { name: "exec", seconds: 30, measure: exec },
    Group { name: "steps", seconds: 45, measure: steps },
    Group { name: "at-once", seconds: 60, measure: at_once },
    Group { name: "mounts", seconds: 40, measure: mounts },
    Group { name: "seccomp", seconds: 40, measure: seccomp },
    Group { name: "arguments", seconds: 20, measure: arguments },
    Group { name: "cgroups", seconds: 20, measure: cgroups },
];

/// Runs all cases round after round. The first round warms up and is not counted.
fn measure(lab: &Lab, random: &mut Random, mut cases: Vec<Case>, effort: Effort) -> Vec<Series> {
    let mut series: Vec<Vec<Series>> = cases.iter().map(begin).collect();
    let begun = Instant::now();
    for round in 0..=effort.most {
        if round > effort.least && begun.elapsed() > effort.budget {
            break;
        }
        let mut order: Vec<usize> = (0..cases.len()).collect();
        random.shuffle(&mut order);
        for index in order {
            if series[index][0].trouble.is_some() {
                continue;
            }
            lab.enter(cases[index].view, cases[index].runtime);
            match (cases[index].once)() {
                Ok(samples) if round > 0 => {
                    series[index].iter_mut().zip(samples).for_each(|(s, sample)| s.samples.push(sample));
                }
                Ok(_) => {}
                Err(why) => series[index].iter_mut().for_each(|s| s.trouble = Some(why.clone())),
            }
        }
    }
    series.into_iter().flatten().collect()
}

fn begin(case: &Case) -> Vec<Series> {
    let one = |work: &String| Series {
        work: work.clone(),
        view: case.view,
        runtime: case.runtime,
        x: case.x,
        samples: Vec::new(),
        trouble: None,
    };
    case.works.iter().map(one).collect()
}

/// The seccomp filter that the floor installs, in a bundle that has one.
const FILTER: &str = "filter";

/// Puts the filter that myrt makes of a bundle's profile beside it, for the floor: what the kernel takes for it is the
/// same for everybody.
pub fn keep_filter(lab: &Lab, bundle: &Path) -> Result<(), String> {
    /// What precedes the instructions in the file that myrt keeps for `exec`.
    const HEAD: usize = 24;
    let myrt = lab.runtimes.iter().position(|r| r.kind == Kind::Myrt).ok_or("myrt is always there")?;
    let waiting = Waiting::create(lab, (myrt, View::V2), bundle, false)?;
    let file = lab.dir.join(format!("state-{myrt}")).join(&waiting.id).join("seccomp");
    let filter = std::fs::read(&file).map_err(|e| format!("{}: {e}", file.display()))?;
    let instructions = filter.get(HEAD..).filter(|rest| !rest.is_empty() && rest.len() % 8 == 0);
    let instructions = instructions.ok_or(format!("{}: no filter", file.display()))?;
    std::fs::write(bundle.join(FILTER), instructions).map_err(|e| e.to_string())
}

/// The command that runs a bundle's program in a container that is gone afterwards.
pub fn run_command(lab: &Lab, runtime: usize, view: View, bundle: &Path) -> Command {
    let (id, rootfs) = (lab.fresh_id(), bundle.join("rootfs"));
    let (bundle, rootfs) = (bundle.to_string_lossy(), rootfs.to_string_lossy());
    let program = lab.runtimes[runtime].path.as_str();
    match lab.runtimes[runtime].kind {
        Kind::Floor | Kind::FloorNoCgroup => {
            let cgroups = if lab.runtimes[runtime].kind == Kind::Floor {
                lab.floor_cgroups(view)
            } else {
                "none".into()
            };
            let filter = Path::new(&*bundle).join(FILTER);
            let words = [program, "run", &rootfs, &id, &cgroups].map(str::to_string);
            Command::new(
                words.into_iter().chain(filter.exists().then(|| filter.to_string_lossy().into_owned())),
            )
        }
        Kind::Bwrap => bwrap(program, &rootfs),
        _ => lab.oci(runtime, &["run", "--bundle", &bundle, &id]),
    }
}

/// What comes nearest to the bundle: bubblewrap knows no cgroups, device nodes of its own choice and no masks.
fn bwrap(program: &str, rootfs: &str) -> Command {
    let line = "--unshare-pid --unshare-net --unshare-ipc --unshare-uts --unshare-cgroup --hostname myrt --cap-drop ALL";
    let mut words: Vec<&str> = vec![program];
    words.extend(line.split(' '));
    words.extend(["--ro-bind", rootfs, "/", "--proc", "/proc", "--dev", "/dev", "--mqueue", "/dev/mqueue"]);
    words.extend(["--ro-bind", "/sys", "/sys", "/bin/true"]);
    Command::new(words)
}

fn run_case<'a>(lab: &'a Lab, runtime: usize, view: View, bundle: &'a Path, work: &str) -> Case<'a> {
    let once = move || lab.spawner.run(&run_command(lab, runtime, view, bundle)).map(|s| vec![s]);
    Case { works: vec![work.to_string()], view, runtime, x: None, once: Box::new(once) }
}

/// The same command again and again, in the cgroup v2 view.
fn again<'a>(lab: &'a Lab, runtime: usize, command: Command, work: &str) -> Case<'a> {
    let once = move || {
        let sample = lab.spawner.run(&command)?;
        lab.spawner.forget();
        Ok(vec![sample])
    };
    Case { works: vec![work.to_string()], view: View::V2, runtime, x: None, once: Box::new(once) }
}

/// The runtimes that have the commands of an OCI runtime.
pub fn oci(lab: &Lab) -> impl Iterator<Item = usize> + '_ {
    (0..lab.runtimes.len()).filter(|r| lab.runtimes[*r].is_oci())
}

fn run(lab: &Lab, random: &mut Random, effort: Effort) -> Result<Vec<Series>, String> {
    let plain = lab.bundle("plain", |_| {})?;
    let profile = docker_profile();
    let with_seccomp = lab.bundle("seccomp", |config| config["linux"]["seccomp"] = profile)?;
    keep_filter(lab, &with_seccomp)?;
    let mut cases = Vec::new();
    for (runtime, found) in lab.runtimes.iter().enumerate() {
        cases.push(run_case(lab, runtime, View::V2, &plain, "run"));
        if found.is_oci() || found.kind == Kind::Floor {
            cases.push(run_case(lab, runtime, View::V2, &with_seccomp, "run, Docker's seccomp profile"));
        }
        if (found.is_oci() || found.kind == Kind::Floor) && !lab.hierarchies.is_empty() {
            cases.push(run_case(lab, runtime, View::Host, &plain, "run"));
        }
    }
    Ok(measure(lab, random, cases, effort))
}

/// The profile as Docker writes it for a container without further rights.
pub fn docker_profile() -> Value {
    let text = include_str!("../../../runtime-tests/bundles/docker-plain.json");
    let config: Value = serde_json::from_str(text).expect("the sample bundle is JSON");
    config["linux"]["seccomp"].clone()
}

/// A container that waits, and is deleted at the end.
pub struct Waiting<'a> {
    lab: &'a Lab,
    runtime: usize,
    view: View,
    pub id: String,
    /// Its first process.
    pub pid: u32,
}

impl<'a> Waiting<'a> {
    /// Creates a container of a bundle, and starts it if asked to.
    pub fn create(
        lab: &'a Lab,
        (runtime, view): (usize, View),
        bundle: &Path,
        start: bool,
    ) -> Result<Waiting<'a>, String> {
        lab.enter(view, runtime);
        let id = lab.fresh_id();
        let bundle = bundle.to_string_lossy();
        let mut waiting = Waiting { lab, runtime, view, id: id.clone(), pid: 0 };
        lab.spawner.run(&lab.oci(runtime, &["create", "--bundle", &bundle, &id]))?;
        if start {
            lab.spawner.run(&lab.oci(runtime, &["start", &id]))?;
        }
        lab.spawner.forget();
        let state = lab.spawner.read(&lab.oci(runtime, &["state", &id]))?;
        let state: Value = serde_json::from_str(&state).map_err(|e| format!("state {id}: {e}"))?;
        waiting.pid = state["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok()).unwrap_or(0);
        Ok(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.lab.enter(self.view, self.runtime);
        // What cannot be deleted is found, and reported, by Lab::clean.
        drop(self.lab.spawner.run(&self.lab.oci(self.runtime, &["delete", "--force", &self.id])));
        self.lab.spawner.reap();
    }
}

/// A bundle whose program waits for ever.
pub fn waiting_bundle(lab: &Lab) -> Result<PathBuf, String> {
    lab.bundle("waiting", |config| config["process"]["args"] = json!(["/bin/true", "wait"]))
}

/// The floor's `exec` into a waiting container.
pub fn floor_exec(lab: &Lab, floor: usize, waiting: &Waiting) -> Result<Command, String> {
    let text = std::fs::read_to_string(format!("/proc/{}/cgroup", waiting.pid)).map_err(|e| e.to_string())?;
    let path = text.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or(&waiting.id);
    let program = lab.runtimes[floor].path.as_str();
    Ok(Command::new([program, "exec", &waiting.pid.to_string(), path, "v2"]))
}

fn exec(lab: &Lab, random: &mut Random, effort: Effort) -> Result<Vec<Series>, String> {
    let bundle = waiting_bundle(lab)?;
    let mut containers = Vec::new();
    let mut failed = Vec::new();
    for runtime in oci(lab) {
        match Waiting::create(lab, (runtime, View::V2), &bundle, true) {
            Ok(waiting) => containers.push((runtime, waiting)),
            Err(why) => failed.push((runtime, why)),
        }
    }
    let floor = lab.runtimes.iter().position(|r| r.kind == Kind::Floor).ok_or("the floor is always there")?;
    let mut cases: Vec<Case> = Vec::new();
    for (runtime, waiting) in &containers {
        let command = lab.oci(*runtime, &["exec", &waiting.id, "/bin/true"]);
        cases.push(again(lab, *runtime, command, "exec"));
        if lab.runtimes[*runtime].kind == Kind::Myrt {
            cases.push(again(lab, floor, floor_exec(lab, floor, waiting)?, "exec"));
        }
    }
    let mut series = measure(lab, random, cases, effort);
    series.extend(failed.into_iter().map(|(runtime, why)| Series {
        work: "exec".to_string(),
        view: View::V2,
        runtime,
        x: None,
        samples: Vec::new(),
        trouble: Some(why),
    }));
    Ok(series)
}

fn steps(lab: &Lab, random: &mut Random, effort: Effort) -> Result<Vec<Series>, String> {
    let bundle = waiting_bundle(lab)?;
    let works = ["create", "start", "state", "kill", "delete --force", "create + start + kill + delete"];
    let cases = oci(lab).map(|runtime| {
        let bundle = bundle.to_string_lossy().into_owned();
        let once = move || {
            let id = lab.fresh_id();
            let run = |words: &[&str]| lab.spawner.run(&lab.oci(runtime, words));
            let create = run(&["create", "--bundle", &bundle, &id])?;
            let start = run(&["start", &id])?;
            let state = run(&["state", &id])?;
            let kill = run(&["kill", &id, "KILL"])?;
            let delete = run(&["delete", "--force", &id])?;
            lab.spawner.reap();
            lab.spawner.forget();
            Ok(vec![create, start, state, kill, delete, create.plus(start).plus(kill).plus(delete)])
        };
        let works = works.iter().map(|w| w.to_string()).collect();
        Case { works, view: View::V2, runtime, x: None, once: Box::new(once) }
    });
    Ok(measure(lab, random, cases.collect(), effort))
}

fn at_once(lab: &Lab, random: &mut Random, effort: Effort) -> Result<Vec<Series>, String> {
    let bundle = lab.bundle("plain", |_| {})?;
    let bundle = &bundle;
    let mut cases = Vec::new();
    for count in [1, 10, 50, 100] {
        for runtime in (0..lab.runtimes.len()).filter(|r| lab.runtimes[*r].kind != Kind::FloorNoCgroup) {
            let once = move || {
                let commands: Vec<_> =
                    (0..count).map(|_| run_command(lab, runtime, View::V2, bundle)).collect();
                lab.spawner.run_all(&commands).map(|s| vec![s])
            };
            let works = vec!["runs at once".to_string()];
            cases.push(Case { works, view: View::V2, runtime, x: Some(count), once: Box::new(once) });
        }
    }
    Ok(measure(lab, random, cases, effort))
}

/// A curve: one bundle for each x, run by every OCI runtime.
fn curve(
    lab: &Lab,
    random: &mut Random,
    effort: Effort,
    work: &str,
    points: Vec<(u32, PathBuf)>,
) -> Vec<Series> {
    let mut cases = Vec::new();
    for (x, bundle) in &points {
        cases.extend(
            oci(lab).map(|runtime| Case { x: Some(*x), ..run_case(lab, runtime, View::V2, bundle, work) }),
        );
    }
    measure(lab, random, cases, effort)
}

fn mounts(lab: &Lab, random: &mut Random, effort: Effort) -> Result<Vec<Series>, String> {
    let mut points = Vec::new();
    for count in [0, 10, 100, 500] {
        let bundle = lab.bundle(&format!("mounts-{count}"), |_| {})?;
        let mut list = Vec::new();
        for number in 0..count {
            let (source, inside) = (bundle.join(format!("source/{number}")), format!("/data/{number}"));
            for dir in [&source, &bundle.join("rootfs").join(&inside[1..])] {
                std::fs::create_dir_all(dir).map_err(|e| format!("{}: {e}", dir.display()))?;
            }
            list.push(
                json!({ "destination": inside, "type": "bind", "source": source, "options": ["bind"] }),
            );
        }
        change(&bundle, |config| config["mounts"].as_array_mut().expect("mounts").extend(list))?;
        points.push((count, bundle));
    }
    Ok(curve(lab, random, effort, "run, bind mounts", points))
}

/// Changes a bundle that was written before.
fn change(bundle: &Path, change: impl FnOnce(&mut Value)) -> Result<(), String> {
    let file = bundle.join("config.json");
    let text = std::fs::read(&file).map_err(|e| format!("{}: {e}", file.display()))?;
    let mut config = serde_json::from_slice(&text).map_err(|e| format!("{}: {e}", file.display()))?;
    change(&mut config);
    std::fs::write(&file, config.to_string()).map_err(|e| format!("{}: {e}", file.display()))
}

/// The architectures whose system calls a process on x86_64 or aarch64 could make, and one more.
const ARCHITECTURES: [&str; 4] = ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32", "SCMP_ARCH_AARCH64"];

/// A profile with so many rules, on so many architectures, none of which ever applies: each forbids a call with an
/// argument that nobody gives, so that every runtime and program lives under it.
fn profile(rules: usize, architectures: usize) -> Value {
    let docker = docker_profile();
    let lists = docker["syscalls"].as_array().expect("Docker's profile has rules").iter();
    let mut names: Vec<&str> = lists
        .flat_map(|rule| rule["names"].as_array().expect("a rule has names"))
        .filter_map(Value::as_str)
        .collect();
    names.sort();
    names.dedup();
    let rule = |number: usize| {
        let args = json!([{ "index": 0, "value": 0x7fff_ffff_0000u64 + (number / names.len()) as u64, "op": "SCMP_CMP_EQ" }]);
        json!({ "names": [names[number % names.len()]], "action": "SCMP_ACT_ERRNO", "args": args })
    };
    json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ARCHITECTURES[..architectures],
        "syscalls": (0..rules).map(rule).collect::<Vec<_>>(),
    })
}

fn seccomp(lab: &Lab, random: &mut Random, mut effort: Effort) -> Result<Vec<Series>, String> {
    let write = |rules, architectures| {
        lab.bundle(&format!("seccomp-{rules}-{architectures}"), |config| {
            config["linux"]["seccomp"] = profile(rules, architectures);
        })
    };
    effort.budget /= 2;
    let mut rules = vec![(0, lab.bundle("plain", |_| {})?)];
    for count in [40, 400] {
        rules.push((count, write(count as usize, 1)?));
    }
    let mut architectures = Vec::new();
    for count in 1..=4 {
        architectures.push((count, write(400, count as usize)?));
    }
    let mut series = curve(lab, random, effort, "run, seccomp rules", rules);
    series.extend(curve(lab, random, effort, "run, architectures of 400 seccomp rules", architectures));
    Ok(series)
}

fn arguments(lab: &Lab, random: &mut Random, effort: Effort) -> Result<Vec<Series>, String> {
    let mut points = Vec::new();
    for kib in [0, 16, 128, 512] {
        let bundle = lab.bundle(&format!("arguments-{kib}"), |config| {
            let process = &mut config["process"];
            for number in 0..kib / 2 {
                let text = format!("{number:04}{}", "x".repeat(1018));
                process["env"].as_array_mut().expect("env").push(json!(format!("V{number}={text}")));
                process["args"].as_array_mut().expect("args").push(json!(text));
            }
        })?;
        points.push((kib, bundle));
    }
    Ok(curve(lab, random, effort, "run, KiB of arguments and environment", points))
}

fn cgroups(lab: &Lab, random: &mut Random, effort: Effort) -> Result<Vec<Series>, String> {
    let bundle = lab.bundle("plain", |_| {})?;
    let mut all = Vec::new();
    let mut neighbours = Neighbours { lab, dirs: Vec::new() };
    for count in [0, 10, 1000] {
        neighbours.grow_to(count)?;
        let mut cases = Vec::new();
        for view in [View::V2, View::Host] {
            if view == View::V2 || !lab.hierarchies.is_empty() {
                let work = "run, other cgroups";
                cases.extend(
                    oci(lab).map(|r| Case { x: Some(count), ..run_case(lab, r, view, &bundle, work) }),
                );
            }
        }
        all.extend(measure(lab, random, cases, Effort { budget: effort.budget / 3, ..effort }));
    }
    Ok(all)
}

/// Empty cgroups in every hierarchy of every view, removed at the end.
struct Neighbours<'a> {
    lab: &'a Lab,
    /// For each of them its directories, with the view in which each can be seen.
    dirs: Vec<Vec<(View, PathBuf)>>,
}

impl Neighbours<'_> {
    fn grow_to(&mut self, count: u32) -> Result<(), String> {
        for number in self.dirs.len()..count as usize {
            self.dirs.push(Vec::new());
            for view in [View::V2, View::Host] {
                self.lab.enter(view, 0);
                for folder in crate::lab::cgroup_folders() {
                    let dir = folder.join(format!("{}neighbour-{number}", self.lab.prefix()));
                    // On a hybrid host the cgroup2 tree is in both views.
                    if !dir.exists() {
                        std::fs::create_dir(&dir).map_err(|e| format!("{}: {e}", dir.display()))?;
                        self.dirs[number].push((view, dir));
                    }
                }
            }
        }
        Ok(())
    }
}

impl Drop for Neighbours<'_> {
    fn drop(&mut self) {
        for (view, dir) in self.dirs.iter().flatten() {
            self.lab.enter(*view, 0);
            // Lab::clean finds, and reports, what stays.
            drop(std::fs::remove_dir(dir));
        }
    }
}

/// Cost with so many running containers: of one more, of `state` and of `list`.
///
/// They have no network namespace: a thousand of those is another measurement.
pub fn containers(
    lab: &Lab,
    random: &mut Random,
    effort: Effort,
    counts: &[u32],
) -> Result<Vec<Series>, String> {
    let waiting = lab.bundle("waiting-no-net", |config| {
        config["process"]["args"] = json!(["/bin/true", "wait"]);
        let namespaces = config["linux"]["namespaces"].as_array_mut().expect("namespaces");
        namespaces.retain(|n| n["type"] != "network");
        config["mounts"].as_array_mut().expect("mounts").retain(|m| m["type"] != "sysfs");
    })?;
    let plain = lab.bundle("plain", |_| {})?;
    let mut standing: Vec<(usize, Vec<Waiting>)> = oci(lab).map(|runtime| (runtime, Vec::new())).collect();
    let mut all = Vec::new();
    for count in counts {
        for (runtime, containers) in &mut standing {
            while containers.len() < *count as usize {
                match Waiting::create(lab, (*runtime, View::V2), &waiting, true) {
                    Ok(waiting) => containers.push(waiting),
                    Err(why) => {
                        eprintln!("bench: {why}");
                        break;
                    }
                }
            }
        }
        let mut cases = Vec::new();
        for (runtime, containers) in standing.iter().filter(|(_, c)| c.len() == *count as usize) {
            let (runtime, first) = (*runtime, containers[0].id.as_str());
            cases.push(again(lab, runtime, lab.oci(runtime, &["list"]), "list, containers"));
            cases.push(again(lab, runtime, lab.oci(runtime, &["state", first]), "state, containers"));
            cases.push(run_case(lab, runtime, View::V2, &plain, "run, containers"));
        }
        cases.iter_mut().for_each(|case| case.x = Some(*count));
        all.extend(measure(lab, random, cases, effort));
    }
    Ok(all)
}
