//! Labels: refused where SELinux is off, applied where it is on.

use crate::bundle::Bundle;
use crate::harness::T;
use crate::host::Need;
use serde_json::json;
use std::process::Command;

const PROCESS: &str = "system_u:system_r:container_t:s0:c11,c12";
const FILES: &str = "system_u:object_r:container_file_t:s0:c11,c12";

/// A bundle whose files carry the label that the process may use.
fn labelled(t: &T) -> Bundle<'_> {
    t.needs(&[Need::SeLinux, Need::Program("chcon")]);
    let b = t.bundle().set("/process/selinuxLabel", PROCESS).set("/linux/mountLabel", FILES);
    let mut command = Command::new("chcon");
    command.args(["-R", FILES]).arg(b.rootfs());
    t.finish(command).ok();
    b
}

pub fn label_without_selinux_is_refused(t: &T) {
    t.needs(&[Need::NoSeLinux]);
    let output = t.bundle().set("/process/selinuxLabel", PROCESS).refused();
    assert!(output.err.to_lowercase().contains("selinux"), "{}", output.err);
}

pub fn program_has_the_label_of_the_config(t: &T) {
    // Read from outside: the program may not write to the test's files under its label.
    let c = labelled(t).start();
    assert_eq!(
        crate::read(format!("/proc/{}/attr/current", c.pid())).trim_end_matches(['\0', '\n']),
        PROCESS
    );
}

pub fn mounts_have_the_label_of_the_config(t: &T) {
    let c = labelled(t).mount("/m", "tmpfs", "tmpfs", &[]).start();
    let mut command = Command::new("stat");
    command.args(["-c", "%C"]).arg(format!("/proc/{}/root/m", c.pid()));
    assert_eq!(t.finish(command).ok().out.trim(), FILES);
}

pub fn exec_has_the_label_of_the_container(t: &T) {
    let c = labelled(t).start();
    let file = t.dir.join("pid");
    c.call("exec", &["--detach", "--pid-file", file.to_str().unwrap()], &["/inside", "pause"]).ok();
    let label = crate::read(format!("/proc/{}/attr/current", crate::read(file)));
    assert_eq!(label.trim_end_matches(['\0', '\n']), PROCESS);
}

pub fn exec_takes_a_label_by_option(t: &T) {
    let other = "system_u:system_r:container_t:s0:c11,c12";
    let c = labelled(t).start();
    let file = t.dir.join("pid");
    let options = ["--process-label", other, "--detach", "--pid-file", file.to_str().unwrap()];
    c.call("exec", &options, &["/inside", "pause"]).ok();
    let label = crate::read(format!("/proc/{}/attr/current", crate::read(file)));
    assert_eq!(label.trim_end_matches(['\0', '\n']), other);
}

pub fn malformed_label_is_refused(t: &T) {
    t.needs(&[Need::SeLinux]);
    t.bundle().set("/process/selinuxLabel", json!("not a label")).refused();
}
