//! Levels: a pair of categories for each container that asks for one of its own.
//!
//! What is reserved is what the containers' directories say (see [`crate::container`]); nothing is kept
//! beside them, so nothing has to be put right after a crash. The pair is a random one: the files of a container
//! that was deleted should not fall to the next.

use super::label::{CATEGORIES, Categories};
use crate::error::{Error, Result};

/// A pair `cA,cB` (A < B) that no reserved level reaches and that reaches none, searched from `seed` on.
///
/// Levels are compared by their categories: a process reaches the files whose categories are among its own. A
/// level without any or with all of them stands above the containers and keeps no pair from anybody.
pub fn free_pair(reserved: &[String], seed: u64) -> Result<String> {
    let reserved: Vec<Categories> = reserved
        .iter()
        .filter_map(|level| Categories::of(level))
        .filter(|set| !set.is_empty() && !set.is_full())
        .collect();
    let count = u64::from(CATEGORIES) * u64::from(CATEGORIES - 1);
    let pairs = (0..count).map(|step| pair((seed % count + step) % count));
    let mut free = pairs.filter(|(a, b)| {
        let set = Categories::pair(*a, *b);
        !reserved.iter().any(|other| other.include(&set) || set.include(other))
    });
    match free.next() {
        Some((a, b)) => Ok(format!("c{a},c{b}")),
        None => Err(Error::new("no pair of categories is free").hint("delete containers, or name a level")),
    }
}

/// The pair with a number below 1024 * 1023: every pair has two.
fn pair(number: u64) -> (u16, u16) {
    let others = u64::from(CATEGORIES - 1);
    let (a, b) = ((number / others) as u16, (number % others) as u16);
    if b < a { (b, a) } else { (a, b + 1) }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn levels(texts: &[&str]) -> Vec<String> {
        texts.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn numbers_are_all_pairs_of_two_in_order() {
        let count = u64::from(CATEGORIES) * u64::from(CATEGORIES - 1);
        let mut seen = vec![0u8; usize::from(CATEGORIES) * usize::from(CATEGORIES)];
        for (a, b) in (0..count).map(pair) {
            assert!(a < b && b < CATEGORIES);
            seen[usize::from(a) * usize::from(CATEGORIES) + usize::from(b)] += 1;
        }
        assert_eq!(seen.iter().filter(|times| **times == 2).count() as u64, count / 2);
    }

    #[test]
    fn two_hundred_containers_have_two_hundred_pairs() {
        let mut reserved = Vec::new();
        for _ in 0..200 {
            // Always from the same place: the worst case.
            reserved.push(format!("s0:{}", free_pair(&reserved, 77).unwrap()));
        }
        assert_eq!(reserved.iter().collect::<HashSet<_>>().len(), 200);
    }

    #[test]
    fn a_pair_that_is_named_is_avoided_in_any_order() {
        assert_eq!(free_pair(&[], 0).unwrap(), "c0,c1");
        assert_eq!(free_pair(&levels(&["s0:c1,c0"]), 0).unwrap(), "c0,c2");
        assert_eq!(free_pair(&levels(&["s0-s0:c0.c1"]), 0).unwrap(), "c0,c2");
    }

    #[test]
    fn what_would_reach_it_or_be_reached_by_it_is_avoided() {
        assert_eq!(free_pair(&levels(&["s0:c0"]), 0).unwrap(), "c1,c2", "c0,cN would reach c0");
        assert_eq!(free_pair(&levels(&["s0:c0.c5"]), 0).unwrap(), "c0,c6", "c0.c5 would reach c0,c5");
    }

    #[test]
    fn levels_above_the_containers_reserve_nothing() {
        assert_eq!(free_pair(&levels(&["s0", "s0-s0:c0.c1023", "", "s0:secret"]), 0).unwrap(), "c0,c1");
    }

    #[test]
    fn none_is_left_when_all_are_reached() {
        assert!(free_pair(&levels(&["s0:c0.c1022", "s0:c1023"]), 5).is_err());
    }
}
