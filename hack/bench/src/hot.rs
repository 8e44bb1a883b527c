//! Which functions the life of a container uses: the linker puts them side by side (src/hot.ld).
//!
//! A page fault on the text maps 64 KiB around it. Functions that lie side by side cost a start a few faults; scattered
//! over all of the binary they cost a hundred, and megabytes of resident memory.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::count::addresses;
use crate::lab::{Lab, View};
use crate::spawn::Command;
use crate::work::{Waiting, docker_profile, run_command, waiting_bundle};

const HEAD: &str = "/* The functions that the life of a container uses, in the order of their first use, so that they lie side by
   side: a page fault maps 64 KiB around it. `make hot` writes this list from what it sees executed. Names are
   without the compiler's hashes; one that is not there any more does no harm. */
SECTIONS
{
  .text.hot :
  {
";
const TAIL: &str = "  }
}
INSERT BEFORE .text;
";

/// Prints the linker script for the binary that `map` describes.
pub fn hot(myrt: &Path, map: &Path) -> Result<bool, String> {
    let text = fs::read_to_string(map).map_err(|e| format!("{}: {e}", map.display()))?;
    let sections = sections(&text);
    let mut used = Vec::new();
    for address in life(&Lab::open(myrt, &[])?)? {
        let after = sections.partition_point(|s| s.start <= address);
        if let Some(i) = after.checked_sub(1).filter(|i| address < sections[*i].end && !used.contains(i)) {
            used.push(i);
        }
    }
    print!("{HEAD}");
    let mut printed = BTreeSet::new();
    for section in used.iter().map(|i| &sections[*i]) {
        let size = |of: &mut dyn Iterator<Item = &Section>| -> u64 {
            of.filter(|s| s.lasting == section.lasting).map(|s| s.end - s.start).sum()
        };
        // A name without its hash may be that of many instances of a generic function, most of which nobody calls.
        let (all, called) = (size(&mut sections.iter()), size(&mut used.iter().map(|i| &sections[*i])));
        let pattern = if all > called + called / 4 { &section.exact } else { &section.lasting };
        if printed.insert(pattern) {
            println!("    {pattern}");
        }
    }
    print!("{TAIL}");
    Ok(true)
}

/// The addresses that the commands of a container's life execute.
fn life(lab: &Lab) -> Result<Vec<u64>, String> {
    const RUNTIME: usize = 0;
    let (plain, waiting) = (lab.bundle("plain", |_| {})?, waiting_bundle(lab)?);
    let seccomp = lab.bundle("seccomp", |config| config["linux"]["seccomp"] = docker_profile())?;
    let mut all = Vec::new();
    let mut trace = |command: Command| addresses(&lab.spawner, &command).map(|found| all.extend(found));
    trace(run_command(lab, RUNTIME, View::V2, &seccomp))?;
    let container = Waiting::create(lab, (RUNTIME, View::V2), &waiting, true)?;
    for words in [["exec", &container.id, "/bin/true"].as_slice(), &["state", &container.id], &["list"]] {
        trace(lab.oci(RUNTIME, words))?;
    }
    let created = Waiting::create(lab, (RUNTIME, View::V2), &waiting, false)?;
    trace(lab.oci(RUNTIME, &["start", &created.id]))?;
    trace(lab.oci(RUNTIME, &["kill", &created.id, "KILL"]))?;
    // What a traced command leaves running ends with it.
    let id = lab.fresh_id();
    trace(lab.oci(RUNTIME, &["create", "--bundle", &waiting.to_string_lossy(), &id]))?;
    trace(lab.oci(RUNTIME, &["delete", "--force", &id]))?;
    if !lab.hierarchies.is_empty() {
        trace(run_command(lab, RUNTIME, View::Host, &plain))?;
    }
    Ok(all)
}

/// What the linker took from one file.
struct Section {
    start: u64,
    end: u64,
    /// As the linker script names it.
    exact: String,
    /// The same without what changes with the compiler.
    lasting: String,
}

/// The text sections of a map as lld writes it: address, address, size, alignment, `file:(section)`, the numbers in hex.
fn sections(map: &str) -> Vec<Section> {
    let mut all: Vec<Section> = map.lines().filter_map(section).filter(|s| s.start < s.end).collect();
    all.sort_by_key(|s| s.start);
    all
}

fn section(line: &str) -> Option<Section> {
    let mut words = line.split_whitespace();
    let start = u64::from_str_radix(words.next()?, 16).ok()?;
    let size = u64::from_str_radix(words.nth(1)?, 16).ok()?;
    let (file, name) = words.nth(1)?.strip_suffix(')')?.split_once(":(")?;
    if !name.starts_with(".text") || words.next().is_some() {
        return None;
    }
    let file = file.rsplit('/').next()?;
    // What the compiler gave a section of its own has a mangled name, or is in no archive.
    let (exact, lasting) = if name.contains("._") || name == ".text.main" || name == ".text.__libc_start_main"
    {
        (format!("*({name})"), format!("*({})", without_hashes(name)))
    } else {
        // The C libraries' files have few sections, whose names say nothing.
        let file = file.replace('(', ":").replace(')', "");
        let lasting = match file.split_once(".rlib:") {
            Some((archive, member)) => {
                format!("{}-*.rlib:{member}", archive.rsplit_once('-').map_or(archive, |(a, _)| a))
            }
            None => file.clone(),
        };
        (format!("*{file}({name})"), format!("*{lasting}({name})"))
    };
    Some(Section { start, end: start + size, exact, lasting })
}

/// The name of a function without the hashes that change with the compiler.
fn without_hashes(name: &str) -> String {
    // The older mangling ends with a hash of 16 digits, the newer one marks crates with one; behind a dot is a number.
    if let Some((path, _)) = name.split_once("17h").filter(|(_, rest)| rest.len() >= 17) {
        return format!("{path}17h*");
    }
    let name = match name.rsplit_once('.') {
        Some((front, number)) if number.bytes().all(|b| b.is_ascii_digit()) => &format!("{front}*"),
        _ => name,
    };
    let mut parts = name.split("Cs");
    let mut short = parts.next().unwrap_or_default().to_string();
    for part in parts {
        short += "Cs";
        short += match part.split_once('_') {
            Some((hash, _)) if hash.bytes().all(|b| b.is_ascii_alphanumeric()) => "*",
            _ => "",
        };
        short += part.split_once('_').map_or(part, |(_, rest)| rest);
    }
    if name.contains("Cs") { without_references(&short) } else { short }
}

/// The name without its references to what was named before (`B5_`): they count the digits of the hashes too.
fn without_references(name: &str) -> String {
    let mut parts = name.split('B');
    let mut short = parts.next().unwrap_or_default().to_string();
    for part in parts {
        let digits = part.bytes().take_while(u8::is_ascii_alphanumeric).count();
        let reference = (1..=3).contains(&digits) && part[digits..].starts_with('_');
        short += "B";
        short += if reference { "*" } else { "" };
        short += if reference { &part[digits..] } else { part };
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_become_patterns() {
        let map = "             VMA              LMA     Size Align Out     In      Symbol
          31d480           31d480   4104b8    64 .text
          31d480           31d480       26    16         /usr/lib/x86_64-linux-gnu/crt1.o:(.text)
          31d4b0           31d4b0       10    16         myrt.cgu.0.rcgu.o:(.text._ZN4myrt3run5build17hda8677ebc7fe61b8E)
          31d4c0           31d4c0        5    16         myrt.cgu.0.rcgu.o:(.text._RNvNtCsjrHSEGnQ3l9_3std2io5print)
          31d4c8           31d4c8        5    16         myrt.cgu.0.rcgu.o:(.text._RNvXs0_NtNtCsjrHSEGnQ3l9_3std2ioNtB5_5Error.12)
          31d4d0           31d4d0       20    16         /usr/lib/libc.a(malloc.o):(.text)
          31d4d0           31d4d0       20     1                 malloc\n";
        let patterns: Vec<String> = sections(map).into_iter().map(|s| s.lasting).collect();
        let expected = [
            "*crt1.o(.text)",
            "*(.text._ZN4myrt3run5build17h*)",
            "*(.text._RNvNtCs*3std2io5print)",
            "*(.text._RNvXs0_NtNtCs*3std2ioNtB*_5Error*)",
            "*libc.a:malloc.o(.text)",
        ];
        assert_eq!(expected.as_slice(), patterns);
    }
}
