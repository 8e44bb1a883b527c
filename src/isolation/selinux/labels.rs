//! Which labels a container has: those of its configuration, and those that the command line asks for.

use std::path::{Path, PathBuf};

use oci_spec::runtime::{Process, Spec};

use super::label::{Label, Pair};
use super::relabel::Relabel;
use super::steps::{LabelKeys, LabelProgram};
use super::{levels, policy};
use crate::error::{Call, Context, Error, Result};
use crate::log;
use crate::step::Steps;

/// What the command line asks for. This is where a built-in policy that labels by itself comes in, too.
#[derive(Debug, Clone, Default)]
pub struct Ask {
    /// The level.
    pub level: Option<LevelAsk>,
    /// The file that names the types, instead of the policy's own.
    pub contexts: Option<PathBuf>,
    /// Relabel the root filesystem: `true` for this container alone.
    pub root: Option<bool>,
}

/// `--selinux-level`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LevelAsk {
    /// A pair that no other container has, if the configuration gives no label and SELinux is on.
    Own,
    /// This one, in any case.
    Given(String),
}

impl LevelAsk {
    /// Reads `auto` or a level.
    pub fn new(text: &str) -> LevelAsk {
        if text == "auto" { LevelAsk::Own } else { LevelAsk::Given(text.to_string()) }
    }
}

/// The labels of one container.
#[derive(Debug, Clone, Default)]
pub struct Labels {
    /// Of the program.
    pub process: Option<Label>,
    /// Of the filesystems that are made for it.
    pub mount: Option<Label>,
    /// The pair that is to be found, if there is one in the labels.
    pub own: Option<Pair>,
    /// What was asked for and is left out, for the plan.
    pub left_out: Option<String>,
    relabel_root: Option<bool>,
}

impl Labels {
    /// Reads the configuration; refuses what the loaded policy would.
    pub fn new(spec: &Spec, ask: &Ask) -> Result<Labels> {
        let process = spec.process().as_ref().and_then(|process| process.selinux_label().as_deref());
        let mount = spec.linux().as_ref().and_then(|linux| linux.mount_label().as_deref());
        let (process, mount) = (process.filter(|l| !l.is_empty()), mount.filter(|l| !l.is_empty()));
        if process.is_none() && mount.is_none() && ask.level.is_none() && ask.root.is_none() {
            return Ok(Labels::default());
        }
        if !policy::enabled() {
            return without_selinux(process, mount, ask);
        }
        let mut labels = Labels {
            process: process.map(Label::new).transpose().from_config("/process/selinuxLabel")?,
            mount: mount.map(Label::new).transpose().from_config("/linux/mountLabel")?,
            relabel_root: ask.root,
            ..Labels::default()
        };
        labels.apply(ask)?;
        if let Some(label) = &labels.process {
            let checked = policy::check(label).and_then(|()| policy::check_transition(label));
            checked.from_config("/process/selinuxLabel")?;
        }
        if let Some(label) = &labels.mount {
            policy::check(label).from_config("/linux/mountLabel")?;
        }
        if ask.root.is_some() && labels.mount.is_none() {
            return Err(Error::new("--selinux-root: there is no label to give")
                .hint("set /linux/mountLabel, or use --selinux-level"));
        }
        Ok(labels)
    }

    /// The level that is asked for, on labels of the configuration or of the contexts file.
    fn apply(&mut self, ask: &Ask) -> Result<()> {
        let Some(level) = &ask.level else { return Ok(()) };
        if *level == LevelAsk::Own && self.process.is_some() {
            return Ok(());
        }
        if !policy::has_levels() {
            return Err(Error::new("--selinux-level: the loaded policy has no levels"));
        }
        let default = match (&self.process, &self.mount) {
            (Some(_), Some(_)) => None,
            _ => Some(Contexts::read(ask.contexts.as_deref())?),
        };
        let either = |label: &Option<Label>, default: Option<&Label>| label.clone().or(default.cloned());
        let process = either(&self.process, default.as_ref().map(|contexts| &contexts.process));
        let mount = either(&self.mount, default.as_ref().map(|contexts| &contexts.file));
        let pair = Pair::default();
        let levelled = |label: Label| match level {
            LevelAsk::Own => label.with_own(&pair),
            LevelAsk::Given(text) => label.with_level(text),
        };
        self.process = process.map(levelled);
        self.mount = mount.map(levelled);
        self.own = (*level == LevelAsk::Own).then(|| pair.clone());
        Ok(())
    }

    /// The labels of a process that `exec` brings into a container.
    pub fn of_process(process: &Process) -> Result<Labels> {
        let Some(text) = process.selinux_label().as_deref().filter(|label| !label.is_empty()) else {
            return Ok(Labels::default());
        };
        if !policy::enabled() {
            return Err(off(format!("label {text:?}")).from_config("/process/selinuxLabel"));
        }
        let label = Label::new(text).and_then(|label| {
            policy::check(&label)?;
            policy::check_transition(&label)?;
            Ok(label)
        });
        Ok(Labels { process: Some(label.from_config("/process/selinuxLabel")?), ..Labels::default() })
    }

    /// Plans the label of the session keyring; comes before it is made.
    pub fn plan_keys(&self, steps: &mut Steps) {
        if let Some(label) = &self.process {
            steps.push(LabelKeys(label.clone()));
        }
    }

    /// Plans the label of the program; comes after the host's hooks.
    pub fn plan_program(&self, steps: &mut Steps) {
        if let Some(label) = &self.process {
            steps.push(LabelProgram { label: label.clone(), sockets: policy::may_label_sockets() });
        }
    }

    /// The level to reserve, when these are reserved already: the given one, which others may share, or a pair.
    pub fn choose(&self, reserved: &[String]) -> Result<String> {
        if let Some(own) = &self.own {
            let seed = crate::sys::random().call("getrandom(2)")?;
            let pair = levels::free_pair(reserved, seed)?;
            own.get_or_init(|| pair);
        }
        let level = self.process.as_ref().and_then(Label::level);
        level.ok_or_else(|| Error::new("there is no level to reserve"))
    }

    /// How the root filesystem is relabelled, if it is.
    pub fn relabel_root(&self) -> Option<Relabel> {
        self.relabel(self.relabel_root)
    }

    /// How a bind mount with `z` (false) or `Z` (true) is relabelled. Without a label there is nothing to give.
    pub fn relabel(&self, private: Option<bool>) -> Option<Relabel> {
        let label = self.mount.as_ref()?;
        private.map(|private| Relabel { label: if private { label.clone() } else { label.shared() } })
    }

    /// True if there are categories that must be written down, so that nobody else is given them.
    pub fn reserve(&self) -> bool {
        self.process.as_ref().is_some_and(|label| label.level().is_none_or(|level| level.contains(':')))
    }

    /// The lines of the plan for what the parent does.
    pub fn lines(&self) -> Vec<(String, String)> {
        let mut lines = Vec::new();
        if let Some(text) = &self.left_out {
            lines.push((text.clone(), String::new()));
        }
        if self.own.is_some() {
            lines.push((
                "reserve a pair of categories cA,cB that no other container has".to_string(),
                String::new(),
            ));
        } else if self.reserve()
            && let Some(level) = self.process.as_ref().and_then(Label::level)
        {
            lines.push((format!("reserve level {level}"), "/process/selinuxLabel".to_string()));
        }
        lines
    }
}

/// A label of a process confines and is refused; the rest is left out, aloud.
fn without_selinux(process: Option<&str>, mount: Option<&str>, ask: &Ask) -> Result<Labels> {
    if let Some(label) = process {
        return Err(off(format!("label {label:?}")).from_config("/process/selinuxLabel"));
    }
    if let Some(LevelAsk::Given(level)) = &ask.level {
        return Err(off(format!("--selinux-level {level}")));
    }
    if let Some(label) = mount {
        log::warn(format!("mountLabel {label:?} is left out: SELinux is off"));
    }
    let left_out = match (&ask.level, ask.root) {
        (Some(_), _) => Some("give no SELinux label: SELinux is off".to_string()),
        (None, Some(_)) => Some("relabel nothing: SELinux is off".to_string()),
        (None, None) => None,
    };
    Ok(Labels { left_out, ..Labels::default() })
}

fn off(what: String) -> Error {
    Error::new(format!("{what} cannot be applied: SELinux is off"))
        .hint("enable SELinux on the host, or remove the label")
}

/// The labels that the policy has for containers: lxc_contexts(5).
#[derive(Debug)]
struct Contexts {
    process: Label,
    file: Label,
}

impl Contexts {
    fn read(file: Option<&Path>) -> Result<Contexts> {
        let own = || selinux::path::lxc_contexts().map_err(|e| Error::new(e.to_string()));
        let path = match file {
            Some(path) => path,
            None => own().at("find the policy's lxc_contexts")?,
        };
        let step = || format!("read {}", path.display());
        let text = std::fs::read_to_string(path).call("open(2)").map_err(|e| e.at(step())).hint(
            "install the distribution's policy for containers, or name a file with --selinux-contexts",
        )?;
        Contexts::parse(&text).map_err(|e| e.at(step()))
    }

    /// Lines like `process = "user:role:type:level"`; `#` begins a comment.
    fn parse(text: &str) -> Result<Contexts> {
        let value = |name: &str| {
            let mut lines = text.lines().map(|line| line.split('#').next().unwrap_or_default());
            let found = lines.find_map(|line| {
                let (key, value) = line.split_once('=')?;
                (key.trim() == name).then(|| value.trim().trim_matches('"'))
            });
            Label::new(found.ok_or_else(|| Error::new(format!("it has no line {name} = \"...\"")))?)
        };
        Ok(Contexts { process: value("process")?, file: value("file")? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contexts_have_a_process_and_a_file() {
        let text = "# a comment\nprocess = \"u:r:container_t:s0\"\ncontent=\"u:r:x:s0\"\nfile=\"u:o:file_t:s0\" # b\n\
                    ro_file = \"u:o:ro_t:s0\"\n";
        let contexts = Contexts::parse(text).unwrap();
        assert_eq!(contexts.process.to_string(), "u:r:container_t:s0");
        assert_eq!(contexts.file.to_string(), "u:o:file_t:s0");
        assert!(Contexts::parse("process = \"u:r:t:s0\"").is_err());
        assert!(Contexts::parse("process = \"u:r\"\nfile = \"u:o:t\"").is_err());
    }

    #[test]
    fn a_level_is_a_level_or_auto() {
        assert_eq!(LevelAsk::new("auto"), LevelAsk::Own);
        assert_eq!(LevelAsk::new("s0:c1,c2"), LevelAsk::Given("s0:c1,c2".to_string()));
    }

    /// Needs a host without SELinux.
    #[test]
    fn without_selinux_what_confines_is_refused_and_the_rest_left_out() {
        if policy::enabled() {
            println!("skipped: SELinux is on");
            return;
        }
        let given = Ask { level: Some(LevelAsk::Given("s0:c1,c2".into())), ..Ask::default() };
        let own = Ask { level: Some(LevelAsk::Own), ..Ask::default() };
        assert!(without_selinux(Some("u:r:t:s0"), None, &Ask::default()).is_err());
        assert!(without_selinux(None, None, &given).is_err());
        let labels = without_selinux(None, Some("u:r:t:s0"), &own).unwrap();
        assert!(labels.process.is_none() && labels.mount.is_none() && !labels.reserve());
        assert_eq!(labels.lines(), [("give no SELinux label: SELinux is off".to_string(), String::new())]);
    }
}
