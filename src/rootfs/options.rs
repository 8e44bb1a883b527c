//! Mount options: the words of `/mounts/N/options`, sorted by what the kernel does with them.
//!
//! One table for all words that config.md lists as MUST (section "Linux mount options"). A word that is
//! not in it belongs to the filesystem and goes to fsconfig(2).

use crate::error::{Error, Result};
use crate::sys::mount::{Attr, attr};

/// What the options of one mount ask for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// Flags of the mount itself.
    pub own: Attr,
    /// Flags of the mount and all mounts below it.
    pub recursive: Attr,
    /// Changes of propagation, in order: `MS_*` and whether it is recursive.
    pub propagation: Vec<(u64, bool)>,
    /// A bind mount: `Some(true)` takes the mounts below along.
    pub bind: Option<bool>,
    /// Changes an existing mount instead of making one.
    pub remount: bool,
    /// Starts a tmpfs with a copy of what it covers.
    pub copy_up: bool,
    /// Gives the source the container's SELinux label: `Some(true)` for this container alone.
    pub relabel: Option<bool>,
    /// Shows the files with other owners: `Some(true)` those of the mounts below too.
    pub idmap: Option<bool>,
    /// Options of the filesystem: a flag, or a key with a value.
    pub data: Vec<(String, Option<String>)>,
}

/// One thing that a word does.
enum Word {
    Nothing,
    Set(u64),
    Clear(u64),
    SetAll(u64),
    ClearAll(u64),
    Atime(u64),
    AtimeAll(u64),
    Propagate(u64, bool),
    Bind(bool),
    Remount,
    CopyUp,
    Relabel(bool),
    IdMap(bool),
    /// A flag of the superblock, under the name that fsconfig(2) has for it.
    Superblock(&'static str),
}

fn word(word: &str) -> Option<Word> {
    use Word::*;
    Some(match word {
        // Podman gives an empty word where SELinux needs no label.
        "" | "defaults" | "loud" | "silent" | "nodefaults" => Nothing,
        "ro" => Set(attr::RDONLY),
        "rw" => Clear(attr::RDONLY),
        "nosuid" => Set(attr::NOSUID),
        "suid" => Clear(attr::NOSUID),
        "nodev" => Set(attr::NODEV),
        "dev" => Clear(attr::NODEV),
        "noexec" => Set(attr::NOEXEC),
        "exec" => Clear(attr::NOEXEC),
        "nosymfollow" => Set(attr::NOSYMFOLLOW),
        "symfollow" => Clear(attr::NOSYMFOLLOW),
        "nodiratime" => Set(attr::NODIRATIME),
        "diratime" => Clear(attr::NODIRATIME),
        // Relative access times are the kernel's default, and what remains if the others are taken away.
        "relatime" | "atime" | "nostrictatime" => Atime(0),
        "noatime" => Atime(attr::NOATIME),
        "strictatime" | "norelatime" => Atime(attr::STRICTATIME),
        "rro" => SetAll(attr::RDONLY),
        "rrw" => ClearAll(attr::RDONLY),
        "rnosuid" => SetAll(attr::NOSUID),
        "rsuid" => ClearAll(attr::NOSUID),
        "rnodev" => SetAll(attr::NODEV),
        "rdev" => ClearAll(attr::NODEV),
        "rnoexec" => SetAll(attr::NOEXEC),
        "rexec" => ClearAll(attr::NOEXEC),
        "rnosymfollow" => SetAll(attr::NOSYMFOLLOW),
        "rsymfollow" => ClearAll(attr::NOSYMFOLLOW),
        "rnodiratime" => SetAll(attr::NODIRATIME),
        "rdiratime" => ClearAll(attr::NODIRATIME),
        "rrelatime" | "ratime" | "rnostrictatime" => AtimeAll(0),
        "rnoatime" => AtimeAll(attr::NOATIME),
        "rstrictatime" | "rnorelatime" => AtimeAll(attr::STRICTATIME),
        "private" => Propagate(libc::MS_PRIVATE, false),
        "rprivate" => Propagate(libc::MS_PRIVATE, true),
        "slave" => Propagate(libc::MS_SLAVE, false),
        "rslave" => Propagate(libc::MS_SLAVE, true),
        "shared" => Propagate(libc::MS_SHARED, false),
        "rshared" => Propagate(libc::MS_SHARED, true),
        "unbindable" => Propagate(libc::MS_UNBINDABLE, false),
        "runbindable" => Propagate(libc::MS_UNBINDABLE, true),
        "bind" => Bind(false),
        "rbind" => Bind(true),
        "remount" => Remount,
        "tmpcopyup" => CopyUp,
        "z" => Relabel(false),
        "Z" => Relabel(true),
        "idmap" => IdMap(false),
        "ridmap" => IdMap(true),
        "async" => Superblock("async"),
        "sync" => Superblock("sync"),
        "dirsync" => Superblock("dirsync"),
        "lazytime" => Superblock("lazytime"),
        "nolazytime" => Superblock("nolazytime"),
        "mand" => Superblock("mand"),
        "nomand" => Superblock("nomand"),
        "iversion" => Superblock("iversion"),
        "noiversion" => Superblock("noiversion"),
        _ => return None,
    })
}

/// All words of the table, for `myrt features`.
pub const WORDS: &[&str] = &[
    "Z",
    "async",
    "atime",
    "bind",
    "defaults",
    "dev",
    "diratime",
    "dirsync",
    "exec",
    "idmap",
    "iversion",
    "lazytime",
    "loud",
    "mand",
    "noatime",
    "nodev",
    "nodiratime",
    "noexec",
    "noiversion",
    "nolazytime",
    "nomand",
    "norelatime",
    "nostrictatime",
    "nosuid",
    "nosymfollow",
    "private",
    "ratime",
    "rbind",
    "rdev",
    "rdiratime",
    "relatime",
    "remount",
    "rexec",
    "ridmap",
    "rnoatime",
    "rnodev",
    "rnodiratime",
    "rnoexec",
    "rnorelatime",
    "rnostrictatime",
    "rnosuid",
    "rnosymfollow",
    "ro",
    "rprivate",
    "rrelatime",
    "rro",
    "rrw",
    "rshared",
    "rslave",
    "rstrictatime",
    "rsuid",
    "rsymfollow",
    "runbindable",
    "rw",
    "shared",
    "silent",
    "slave",
    "strictatime",
    "suid",
    "symfollow",
    "sync",
    "tmpcopyup",
    "unbindable",
    "z",
];

impl Options {
    /// Sorts the words; a later one wins over an earlier one.
    pub fn new(words: &[String]) -> Result<Options> {
        let mut options = Options::default();
        for text in words {
            match word(text) {
                Some(word) => options.apply(word),
                None => options.filesystem(text)?,
            }
        }
        Ok(options)
    }

    fn apply(&mut self, word: Word) {
        match word {
            Word::Nothing => {}
            Word::Set(flag) => change(&mut self.own, flag, flag, flag),
            Word::Clear(flag) => change(&mut self.own, flag, 0, flag),
            Word::SetAll(flag) => change(&mut self.recursive, flag, flag, flag),
            Word::ClearAll(flag) => change(&mut self.recursive, flag, 0, flag),
            Word::Atime(mode) => change(&mut self.own, attr::ATIME, mode, attr::ATIME),
            Word::AtimeAll(mode) => change(&mut self.recursive, attr::ATIME, mode, attr::ATIME),
            Word::Propagate(kind, recursive) => self.propagation.push((kind, recursive)),
            Word::Bind(recursive) => self.bind = Some(recursive),
            Word::Remount => self.remount = true,
            Word::CopyUp => self.copy_up = true,
            Word::Relabel(private) => self.relabel = Some(private),
            Word::IdMap(recursive) => self.idmap = Some(recursive),
            Word::Superblock(name) => self.data.push((name.to_string(), None)),
        }
    }

    fn filesystem(&mut self, text: &str) -> Result<()> {
        if text.starts_with("idmap=") || text.starts_with("ridmap=") {
            return Err(Error::new(format!("option {text}: idmap takes no value"))
                .hint("give the mount uidMappings and gidMappings"));
        }
        if text.contains('\0') {
            return Err(Error::new(format!("{text:?} is not a mount option")));
        }
        let (key, value) = match text.split_once('=') {
            Some((key, value)) => (key, Some(value.to_string())),
            None => (text, None),
        };
        self.data.push((key.to_string(), value));
        Ok(())
    }

    /// The flags for fsmount(2), which makes a mount without any before.
    pub fn mount_flags(&self) -> u64 {
        self.own.set
    }
}

/// Within `mask`: sets `set`, clears the rest. mount_setattr(2) wants the whole access time mask cleared
/// whenever one of its modes is set.
fn change(attr: &mut Attr, mask: u64, set: u64, clear: u64) {
    attr.set = attr.set & !mask | set;
    attr.clear = attr.clear & !mask | (clear & !set) | if mask == attr::ATIME { attr::ATIME } else { 0 };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(words: &[&str]) -> Result<Options> {
        Options::new(&words.iter().map(|w| w.to_string()).collect::<Vec<_>>())
    }

    #[test]
    fn a_later_word_wins() {
        let o = options(&["ro", "nosuid", "rw", "suid", "nosuid"]).unwrap();
        assert_eq!(o.own, Attr::flags(attr::NOSUID, attr::RDONLY));
    }

    #[test]
    fn access_times_are_one_field() {
        assert_eq!(options(&["noatime"]).unwrap().own, Attr::flags(attr::NOATIME, attr::ATIME));
        assert_eq!(options(&["noatime", "relatime"]).unwrap().own, Attr::flags(0, attr::ATIME));
        assert_eq!(
            options(&["noatime", "strictatime"]).unwrap().own,
            Attr::flags(attr::STRICTATIME, attr::ATIME)
        );
    }

    #[test]
    fn ro_is_not_recursive_and_rro_is() {
        let o = options(&["rbind", "ro"]).unwrap();
        assert_eq!((o.own.set, o.recursive.set, o.bind), (attr::RDONLY, 0, Some(true)));
        assert_eq!(options(&["rbind", "rro"]).unwrap().recursive.set, attr::RDONLY);
    }

    #[test]
    fn every_word_of_the_list_is_in_the_table() {
        for text in WORDS {
            assert!(word(text).is_some(), "{text}");
        }
    }

    #[test]
    fn other_words_belong_to_the_filesystem() {
        let o = options(&["size=64k", "mode=755", "nr_inodes=1k", "huge"]).unwrap();
        assert_eq!(o.data[0], ("size".into(), Some("64k".into())));
        assert_eq!(o.data[3], ("huge".into(), None));
        assert!(options(&["", "defaults"]).unwrap().data.is_empty());
        assert_eq!(options(&["idmap", "ridmap"]).unwrap().idmap, Some(true));
        assert!(options(&["idmap=uids=0-1000-10"]).is_err());
    }
}
