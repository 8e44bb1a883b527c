//! `slice:prefix:name`: the form that `/linux/cgroupsPath` has with the systemd cgroup driver.
//!
//! `system.slice:myrt:web` is the unit `myrt-web.scope` in `system.slice`. A slice with dashes is nested:
//! `a-b.slice` lies in `a.slice`. A name that ends in `.slice` is a slice unit itself, wherever its own dashes put it.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// The longest name of a unit that systemd takes.
const LONGEST: usize = 255;

/// A unit of systemd and the slice it is put in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    /// With its suffix, `.scope` or `.slice`.
    pub unit: String,
    /// With its suffix.
    pub slice: String,
    /// `/linux/cgroupsPath` named it.
    pub given: bool,
}

impl Name {
    /// Reads the path; without one, the unit is named after the container.
    pub fn new(path: Option<&Path>, id: &str, default_slice: &str) -> Result<Name> {
        let Some(path) = path else {
            let name = format!("myrt-{}.scope", escaped(id));
            check(&name).map_err(|e| e.hint("give the container a shorter id, or a cgroupsPath"))?;
            return Ok(Name { unit: name, slice: default_slice.to_string(), given: false });
        };
        parse(path, default_slice).map_err(|e| e.from_config("/linux/cgroupsPath"))
    }

    /// A slice takes no processes from us when it starts, and may be there already.
    pub fn is_slice(&self) -> bool {
        self.unit.ends_with(".slice")
    }

    /// The unit's directory below the manager's own.
    pub fn path(&self) -> Result<PathBuf> {
        if self.is_slice() {
            return expand(&self.unit);
        }
        Ok(expand(&self.slice)?.join(&self.unit))
    }
}

fn parse(path: &Path, default_slice: &str) -> Result<Name> {
    let text = path.to_string_lossy();
    let parts: Vec<&str> = text.split(':').collect();
    let [slice, prefix, name] = parts[..] else {
        return Err(Error::new(format!("cgroups path {text:?} is not of the form slice:prefix:name"))
            .hint("the systemd cgroup driver wants that form, as in system.slice:myrt:web"));
    };
    if name.is_empty() {
        return Err(Error::new(format!("cgroups path {text:?} has no name after the second colon")));
    }
    let slice = match slice {
        "" => default_slice,
        "-" => "-.slice",
        slice => slice,
    };
    expand(slice)?;
    let name = match name {
        name if name.ends_with(".slice") => {
            expand(name)?;
            name.to_string()
        }
        name => format!("{prefix}-{}.scope", name.strip_suffix(".scope").unwrap_or(name)),
    };
    check(&name)?;
    Ok(Name { unit: name, slice: slice.to_string(), given: true })
}

/// The directory of a slice: each dash is one level.
fn expand(slice: &str) -> Result<PathBuf> {
    let refuse = |why: &str| Error::new(format!("slice {slice:?} {why}"));
    let Some(stem) = slice.strip_suffix(".slice") else {
        return Err(refuse("does not end in .slice"));
    };
    check(slice)?;
    if stem == "-" {
        return Ok(PathBuf::new());
    }
    if stem.split('-').any(str::is_empty) {
        return Err(refuse("has a dash with nothing before or after it"));
    }
    let ends = stem.match_indices('-').map(|(at, _)| at).chain([stem.len()]);
    Ok(ends.map(|end| format!("{}.slice", &stem[..end])).collect())
}

fn check(name: &str) -> Result<()> {
    if name.len() > LONGEST {
        return Err(Error::new(format!("unit name {name:?} has more than {LONGEST} bytes")));
    }
    match name.chars().find(|c| !c.is_ascii_alphanumeric() && !":-_.\\@".contains(*c)) {
        Some(c) => Err(Error::new(format!("unit name {name:?} has the character {c:?}"))
            .hint("units are named with letters, digits and :-_.\\@")),
        None => Ok(()),
    }
}

/// An id may have a plus sign in it, a unit may not.
fn escaped(id: &str) -> String {
    id.replace('+', "\\x2b")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(path: &str) -> Result<Name> {
        Name::new(Some(Path::new(path)), "id", "system.slice")
    }

    #[test]
    fn parts_become_a_scope_in_a_slice() {
        for (path, name, dir) in [
            ("system.slice:myrt:web", "myrt-web.scope", "system.slice/myrt-web.scope"),
            (":docker:0123", "docker-0123.scope", "system.slice/docker-0123.scope"),
            ("machine.slice:libpod:a.scope", "libpod-a.scope", "machine.slice/libpod-a.scope"),
            ("a-b-c.slice:p:n", "p-n.scope", "a.slice/a-b.slice/a-b-c.slice/p-n.scope"),
            ("-.slice:p:n", "p-n.scope", "p-n.scope"),
            ("-:p:n", "p-n.scope", "p-n.scope"),
            ("system.slice::n", "-n.scope", "system.slice/-n.scope"),
            ("system.slice:p:pod-x.slice", "pod-x.slice", "pod.slice/pod-x.slice"),
        ] {
            let unit = unit(path).unwrap();
            assert_eq!(unit.unit, name, "{path}");
            assert_eq!(unit.path().unwrap(), Path::new(dir), "{path}");
        }
        assert!(unit("a.slice:p:n.slice").unwrap().is_slice() && !unit("a.slice:p:n").unwrap().is_slice());
    }

    #[test]
    fn without_a_path_the_unit_is_named_after_the_container() {
        let unit = Name::new(None, "web+1", "user.slice").unwrap();
        assert_eq!(unit.path().unwrap(), Path::new("user.slice/myrt-web\\x2b1.scope"));
        assert!(Name::new(None, &"x".repeat(255), "user.slice").is_err());
    }

    #[test]
    fn bad_forms_are_refused() {
        for bad in [
            "/system.slice/web",
            "web",
            "a.slice:b",
            "a.slice:b:c:d",
            "a.slice:b:",
            "a:b:c",
            "a.slice/b.slice:c:d",
            "../a.slice:b:c",
            "a--b.slice:c:d",
            "-a.slice:c:d",
            "a-.slice:c:d",
            ".slice:c:d",
            "a.slice:b/../..:c",
            "a.slice:b:c d",
            "a.slice:b:'c",
            "a.slice:b:c--d.slice",
            &format!("a.slice:b:{}", "x".repeat(255)),
        ] {
            let error = unit(bad).unwrap_err().to_string();
            assert!(error.contains("/linux/cgroupsPath"), "{bad}: {error}");
        }
    }
}
