//! The text of a label: `user:role:type:level`, and the categories of its level.

use std::fmt;
use std::sync::{Arc, OnceLock};

use crate::error::{Error, Result};

/// A label whose level may not be known before the container's id is claimed.
#[derive(Debug, Clone)]
pub struct Label {
    /// `user:role:type`
    domain: String,
    level: Level,
}

#[derive(Debug, Clone)]
enum Level {
    /// `s0:c1,c2`, or empty where the policy has no levels.
    Fixed(String),
    /// This sensitivity, and a pair of categories that is chosen when it is reserved.
    Own(String, Pair),
}

/// A pair of categories of the container's own: empty in a plan, there once it is reserved.
pub type Pair = Arc<OnceLock<String>>;

impl Label {
    /// Takes a label apart; only the policy knows whether it is valid.
    pub fn new(text: &str) -> Result<Label> {
        let parts: Vec<&str> = text.splitn(4, ':').collect();
        let whole = parts.len() >= 3 && parts.iter().all(|part| !part.is_empty());
        if !whole || text.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err(Error::new(format!("{text:?} is not a label"))
                .hint("a label has the form user:role:type:level"));
        }
        let level = parts.get(3).copied().unwrap_or_default();
        Ok(Label { domain: parts[..3].join(":"), level: Level::Fixed(level.to_string()) })
    }

    /// The same with another level.
    pub fn with_level(&self, level: &str) -> Label {
        Label { domain: self.domain.clone(), level: Level::Fixed(level.to_string()) }
    }

    /// The same with a pair of categories that will be reserved.
    pub fn with_own(&self, pair: &Pair) -> Label {
        let level = Level::Own(self.sensitivity().to_string(), pair.clone());
        Label { domain: self.domain.clone(), level }
    }

    /// The same without categories: what every container may touch.
    pub fn shared(&self) -> Label {
        self.with_level(self.sensitivity())
    }

    /// The level, if it is known.
    pub fn level(&self) -> Option<String> {
        match &self.level {
            Level::Fixed(level) => Some(level.clone()),
            Level::Own(sensitivity, pair) => pair.get().map(|pair| format!("{sensitivity}:{pair}")),
        }
    }

    /// The type: what the rules of the policy speak of.
    pub fn kind(&self) -> &str {
        self.domain.rsplit(':').next().unwrap_or_default()
    }

    /// The lower sensitivity: `s0` of `s0-s0:c1,c2`.
    pub fn sensitivity(&self) -> &str {
        match &self.level {
            Level::Fixed(level) => level.split(['-', ':']).next().unwrap_or_default(),
            Level::Own(sensitivity, _) => sensitivity,
        }
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.domain)?;
        match (&self.level, self.level()) {
            (_, Some(level)) if level.is_empty() => Ok(()),
            (_, Some(level)) => write!(f, ":{level}"),
            (_, None) => write!(f, ":{}:cA,cB", self.sensitivity()),
        }
    }
}

/// How many categories there are: c0 to c1023, as policies have them.
pub const CATEGORIES: u16 = 1024;

/// The categories of a level.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Categories([u64; CATEGORIES as usize / 64]);

impl Categories {
    /// The categories up to which a level reaches: those of the upper end if it is a range. `None` if it
    /// speaks of others than c0 to c1023, in words that a policy may translate for example.
    pub fn of(level: &str) -> Option<Categories> {
        let mut set = Categories::default();
        let Some((_, list)) = level.rsplit('-').next()?.split_once(':') else { return Some(set) };
        for part in list.split(',') {
            let (first, last) = part.split_once('.').unwrap_or((part, part));
            let (first, last) = (number(first)?, number(last)?);
            (first..=last).for_each(|category| set.add(category));
        }
        Some(set)
    }

    /// The two categories of a pair.
    pub fn pair(a: u16, b: u16) -> Categories {
        let mut set = Categories::default();
        set.add(a);
        set.add(b);
        set
    }

    fn add(&mut self, category: u16) {
        self.0[usize::from(category) / 64] |= 1 << (category % 64);
    }

    /// True if all of `other` are in it: a process with these may touch files with those.
    pub fn include(&self, other: &Categories) -> bool {
        self.0.iter().zip(&other.0).all(|(mine, theirs)| theirs & !mine == 0)
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        *self == Categories::default()
    }

    /// True if it has them all.
    pub fn is_full(&self) -> bool {
        self.0.iter().all(|word| *word == u64::MAX)
    }
}

fn number(name: &str) -> Option<u16> {
    let digits = name.strip_prefix('c').filter(|d| !d.is_empty() && d.bytes().all(|b| b.is_ascii_digit()))?;
    digits.parse().ok().filter(|number| *number < CATEGORIES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_shown_as_it_was_given() {
        for text in ["a:b:c", "system_u:system_r:container_t:s0:c1,c2", "u:r:t:s0-s0:c0.c1023"] {
            assert_eq!(Label::new(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_no_label_is_refused() {
        for text in ["", "label", "a:b", "a::c", ":b:c", "a:b:c:", "a:b:c :s0", "a:b:c\n:s0", "a:b:c:s0\0"] {
            assert!(Label::new(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_level_is_replaced_whole() {
        let label = Label::new("u:r:t:s0-s0:c1,c2").unwrap();
        assert_eq!(label.shared().to_string(), "u:r:t:s0");
        assert_eq!(label.with_level("s0:c3").to_string(), "u:r:t:s0:c3");
        assert_eq!(label.kind(), "t");
    }

    #[test]
    fn an_own_level_is_there_once_it_is_reserved() {
        let pair = Pair::default();
        let label = Label::new("u:r:t:s0").unwrap().with_own(&pair);
        assert_eq!((label.to_string().as_str(), label.level()), ("u:r:t:s0:cA,cB", None));
        pair.set("c4,c5".to_string()).unwrap();
        assert_eq!((label.to_string().as_str(), label.level()), ("u:r:t:s0:c4,c5", Some("s0:c4,c5".into())));
        assert_eq!(label.shared().to_string(), "u:r:t:s0");
    }

    #[test]
    fn categories_are_those_of_the_upper_end() {
        let set = |level| Categories::of(level).unwrap();
        assert!(set("s0").is_empty() && set("s0-s15").is_empty());
        assert_eq!(set("s0:c7,c3"), Categories::pair(3, 7));
        assert_eq!(set("s0-s0:c3.c4"), Categories::pair(3, 4));
        assert!(set("s0-s0:c0.c1023").is_full());
        assert!(set("s0:c1.c9").include(&Categories::pair(1, 9)));
        assert!(!set("s0:c1.c9").include(&Categories::pair(1, 10)));
    }

    #[test]
    fn other_words_than_categories_are_not_understood() {
        for level in ["s0:c1024", "s0:secret", "s0:c", "s0:c1,", "s0:c+1", "s0:c1.x"] {
            assert_eq!(Categories::of(level), None, "{level}");
        }
    }
}
