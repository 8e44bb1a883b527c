//! What was measured, and how the goals look in its light.

use crate::facts::{Fact, median};
use crate::lab::{Kind, Runtime, View};
use crate::trace::Traced;
use crate::work::Series;

/// Everything that one run of the bench has found.
pub struct Results {
    pub runtimes: Vec<Runtime>,
    pub series: Vec<Series>,
    pub facts: Vec<Fact>,
    pub traces: Vec<Traced>,
}

/// Samples in short; times in milliseconds.
#[derive(Debug, Clone, Copy)]
pub struct Summary {
    pub count: usize,
    /// The shortest: on a busy machine the nearest to what a quiet one would show.
    pub best: f64,
    pub median: f64,
    pub p95: f64,
    pub cpu: f64,
}

impl Series {
    /// `None` without samples.
    pub fn summary(&self) -> Option<Summary> {
        let ms = |d: std::time::Duration| d.as_secs_f64() * 1000.0;
        let mut wall: Vec<f64> = self.samples.iter().map(|s| ms(s.wall)).collect();
        let cpu: Vec<f64> = self.samples.iter().map(|s| ms(s.cpu)).collect();
        wall.sort_by(f64::total_cmp);
        let last = wall.len().checked_sub(1)?;
        let p95 = wall[(last as f64 * 0.95).round() as usize];
        Some(Summary { count: wall.len(), best: wall[0], median: median(&wall), p95, cpu: median(&cpu) })
    }
}

/// One promise with the number that keeps or breaks it.
pub struct Goal {
    pub row: &'static str,
    pub what: &'static str,
    pub limit: f64,
    /// `None` if a peer is missing or something failed.
    pub value: Option<f64>,
    /// The same ratio in CPU time, where the value is one of times: what a busy machine distorts least.
    pub cpu: Option<f64>,
}

impl Goal {
    pub fn reached(&self) -> Option<bool> {
        self.value.map(|value| value <= self.limit)
    }

    pub fn verdict(&self) -> &'static str {
        match self.reached() {
            Some(true) => "reached",
            Some(false) => "MISSED",
            None => "not measured",
        }
    }
}

/// A work: its name, its view, and its place on the axis of a curve.
type Work = (&'static str, View, Option<u32>);

const RUN: Work = ("run", View::V2, None);
const RUN_HOST: Work = ("run", View::Host, None);
const RUN_SECCOMP: Work = ("run, Docker's seccomp profile", View::V2, None);
const EXEC: Work = ("exec", View::V2, None);
const AT_ONCE: Work = ("runs at once", View::V2, Some(100));
const BINDS: Work = ("run, bind mounts", View::V2, Some(500));
const NO_BINDS: Work = ("run, bind mounts", View::V2, Some(0));
const LIST: Work = ("list, containers", View::V2, Some(1000));
const LIST_100: Work = ("list, containers", View::V2, Some(100));

impl Results {
    /// The runtime of a kind; of several the newest.
    fn find(&self, kind: Kind) -> Option<usize> {
        let version = |index: &usize| -> Vec<u32> {
            let name = &self.runtimes[*index].name;
            name.split([' ', '.']).filter_map(|part| part.parse().ok()).collect()
        };
        (0..self.runtimes.len()).filter(|i| self.runtimes[*i].kind == kind).max_by_key(version)
    }

    fn summary(&self, (work, view, x): Work, kind: Kind) -> Option<Summary> {
        let runtime = self.find(kind)?;
        let found = self.series.iter().find(|s| {
            s.work == work && s.view == view && s.x == x && s.runtime == runtime && s.trouble.is_none()
        })?;
        found.summary()
    }

    fn wall(&self, work: Work, kind: Kind) -> Option<f64> {
        self.summary(work, kind).map(|s| s.median)
    }

    fn fact(&self, work: &str) -> Option<f64> {
        let myrt = self.find(Kind::Myrt)?;
        let fact = self.facts.iter().find(|f| f.work == work && f.runtime == myrt)?;
        fact.value.as_ref().ok().copied()
    }

    /// Every row of the table of goals.
    pub fn goals(&self) -> Vec<Goal> {
        let mut goals: Vec<Goal> = Vec::new();
        let mut goal = |row, what, limit, (value, cpu)| goals.push(Goal { row, what, limit, value, cpu });
        let times = |work, kind| {
            let both = self.summary(work, Kind::Myrt).zip(self.summary(work, kind));
            both.map(|(ours, theirs)| (ours.median / theirs.median, ours.cpu / theirs.cpu)).unzip()
        };
        let number = |value| (value, None);
        let minus = |a, b| Some(self.wall(a, Kind::Myrt)? - self.wall(b, Kind::Myrt)?);
        let step = |name| (name, View::V2, None);

        goal("run, cgroup v2", "x crun", 0.35, times(RUN, Kind::Crun));
        goal("run, cgroup v2", "x crun static", 0.55, times(RUN, Kind::CrunStatic));
        goal("run, cgroup v2", "x the floor", 1.35, times(RUN, Kind::Floor));
        goal("run, hybrid v1 host", "x crun", 0.45, times(RUN_HOST, Kind::Crun));
        goal("run, hybrid v1 host", "x the floor", 1.2, times(RUN_HOST, Kind::Floor));
        goal("run, Docker's seccomp profile", "x crun", 0.2, times(RUN_SECCOMP, Kind::Crun));
        goal(
            "run, Docker's seccomp profile",
            "ms above run without it",
            0.3,
            number(minus(RUN_SECCOMP, RUN)),
        );
        goal("exec", "x crun", 0.3, times(EXEC, Kind::Crun));
        let cpu = |kind| self.summary(EXEC, kind).map(|s| s.cpu);
        let cpu_ratio = cpu(Kind::Myrt).zip(cpu(Kind::Crun)).map(|(ours, theirs)| ours / theirs);
        goal("exec, CPU time", "x crun", 0.3, number(cpu_ratio));
        let visible = self.fact("execs of ten that change the host's mount table");
        goal("exec", "of 10 seen in the host's mount table", 0.0, number(visible));
        goal("start", "x crun", 0.3, times(step("start"), Kind::Crun));
        goal("state", "x crun", 0.3, times(step("state"), Kind::Crun));
        goal("kill", "x crun", 0.3, times(step("kill"), Kind::Crun));
        let whole = step("create + start + kill + delete");
        goal("create + start + kill + delete", "x crun", 0.4, times(whole, Kind::Crun));
        goal("100 runs at once", "x crun", 0.4, times(AT_ONCE, Kind::Crun));
        goal("500 bind mounts", "x crun", 0.6, times(BINDS, Kind::Crun));
        goal("500 bind mounts", "ms for each", 0.02, number(minus(BINDS, NO_BINDS).map(|ms| ms / 500.0)));
        goal("list of 1000 containers", "x crun", 0.5, times(LIST, Kind::Crun));
        let both = self.summary(LIST, Kind::Myrt).zip(self.summary(LIST_100, Kind::Myrt));
        let growth = both.map(|(a, b)| (a.median / b.median, a.cpu / b.cpu)).unzip();
        goal("list of 1000 containers", "x list of 100", 11.0, growth);
        goal("peak memory of run", "KiB", 2048.0, number(self.fact("peak memory of run")));
        let created = self.fact("private memory while a container is created");
        goal("created container, private memory", "KiB", 120.0, number(created));
        goal("smallest memory limit, v1", "KiB", 192.0, number(self.fact("smallest memory limit, v1")));
        let foreground = self.fact("private memory of run in the foreground");
        goal("foreground run, private memory", "KiB", 1024.0, number(foreground));
        goal("system calls of run, cgroup v2", "", 250.0, number(self.fact("system calls of run")));
        goal(
            "consecutive runs",
            "failed or hung",
            0.0,
            number(self.fact("consecutive runs: failed or hung")),
        );
        goal(
            "consecutive runs",
            "things left behind",
            0.0,
            number(self.fact("consecutive runs: things left behind")),
        );
        goals
    }
}
