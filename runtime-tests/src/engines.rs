//! What containerd, conmon, Podman, Docker and BuildKit rely on, beyond what other subjects test.

use crate::bundle::Bundle;
use crate::harness::{T, wait_for};
use crate::host::{self, Need, lives};
use crate::read;
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::Stdio;

/// The options that containerd's shim puts before the command.
fn logging(t: &T, format: &str) -> (std::process::Command, PathBuf) {
    let log = t.dir.join("log");
    let mut command = t.command();
    command.args(["--log", log.to_str().unwrap(), "--log-format", format]);
    (command, log)
}

fn errors(log: &PathBuf) -> Vec<Value> {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines = text.lines().map(|l| serde_json::from_str::<Value>(l).expect("each line is JSON"));
    lines.filter(|l| l["level"] == "error").collect()
}

pub fn pid_file_has_digits_and_nothing_else(t: &T) {
    let file = t.dir.join("pid");
    let c = t
        .bundle()
        .create_with(&["--pid-file", file.to_str().unwrap()])
        .unwrap_or_else(|o| panic!("{}", o.err));
    assert_eq!(read(file), c.pid().to_string());
}

pub fn pid_file_appears_only_on_success(t: &T) {
    let file = t.dir.join("pid");
    let b = t.bundle().set("/root/path", "frobnicate");
    assert!(b.create_with(&["--pid-file", file.to_str().unwrap()]).is_err());
    assert!(!file.exists());
}

pub fn pid_file_of_run_is_that_of_the_program(t: &T) {
    let file = t.dir.join("pid");
    let b = t.bundle().inside(&["pause"]);
    let running = t.begin(b.command("run", &["--pid-file", file.to_str().unwrap()]));
    let pid: i64 = wait_for("the pid file", || fs::read_to_string(&file).ok()?.parse().ok());
    assert_eq!(t.runtime(&["state", &b.id]).ok().json()["pid"], pid);
    t.runtime(&["kill", &b.id, "KILL"]).ok();
    running.wait();
}

pub fn failure_is_one_json_line_with_level_msg_and_time(t: &T) {
    let (mut command, log) = logging(t, "json");
    command.args(["state", "never-created"]);
    t.finish(command).refused();
    let errors = errors(&log);
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert!(!errors[0]["msg"].as_str().unwrap().is_empty());
    let time = errors[0]["time"].as_str().unwrap();
    assert!(time.len() >= 20 && time.as_bytes()[10] == b'T', "{time}");
}

pub fn failing_create_logs_one_error(t: &T) {
    let b = t.bundle().args(&["/frobnicate"]);
    b.write();
    let (mut command, log) = logging(t, "json");
    command.args(["run", "--bundle", b.dir.to_str().unwrap(), &b.id]);
    t.finish(command).refused();
    let errors = errors(&log);
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert!(errors[0]["msg"].as_str().unwrap().contains("frobnicate"), "{errors:?}");
}

pub fn log_is_appended_to(t: &T) {
    let (mut command, log) = logging(t, "json");
    fs::write(&log, "{\"level\":\"info\",\"msg\":\"earlier\"}\n").unwrap();
    command.args(["state", "never-created"]);
    t.finish(command).refused();
    assert!(read(&log).starts_with("{\"level\":\"info\",\"msg\":\"earlier\"}\n"));
    assert_eq!(errors(&log).len(), 1);
}

pub fn error_is_on_stderr_too_when_there_is_a_log(t: &T) {
    let (mut command, log) = logging(t, "json");
    command.args(["state", "never-created"]);
    let output = t.finish(command).refused();
    let message = errors(&log)[0]["msg"].as_str().unwrap().to_string();
    assert!(output.err.contains(&message), "{} is not in {}", message, output.err);
    assert_eq!(output.out, "");
}

pub fn command_line_that_cannot_be_read_is_one_error_in_the_log(t: &T) {
    let lines: [&[&str]; 5] = [
        &["create", "--frob", "some-id"],
        &["exec", "--frob", "some-id", "x"],
        &["kill"],
        &["create"],
        &["frob"],
    ];
    for line in lines {
        let (mut command, log) = logging(t, "json");
        command.args(line);
        let output = t.finish(command).refused();
        let errors = errors(&log);
        assert_eq!(errors.len(), 1, "{line:?}: {errors:?}");
        let message = errors[0]["msg"].as_str().unwrap().trim();
        assert!(!message.is_empty() && output.err.contains(message), "{message} is not in {}", output.err);
        fs::remove_file(log).unwrap();
    }
}

pub fn success_logs_no_error(t: &T) {
    let b = t.bundle().inside(&["exit 0"]);
    b.write();
    let (mut command, log) = logging(t, "json");
    command.args(["run", "--bundle", b.dir.to_str().unwrap(), &b.id]);
    t.finish(command).ok();
    assert!(errors(&log).is_empty());
}

pub fn failure_prints_nothing_on_stdout(t: &T) {
    assert_eq!(t.bundle().args(&["/frobnicate"]).run().refused().out, "");
}

/// Creates a container as Podman's `--cgroups=disabled` does.
fn create_without_a_cgroup(t: &T, resources: Value) -> (Bundle<'_>, crate::bundle::Output) {
    let b = t.bundle().remove("/linux/cgroupsPath").set("/linux/resources", resources).inside(&["pause"]);
    b.write();
    let mut command = t.command();
    command.args(["--cgroup-manager", "disabled", "create", "--bundle"]).arg(&b.dir).arg(&b.id);
    let output = t.finish(command);
    (b, output)
}

pub fn disabled_cgroup_manager_makes_no_cgroup(t: &T) {
    // Podman leaves its device rules there.
    let rules = json!({"devices": [{"allow": false, "access": "rwm"}]});
    let (b, created) = create_without_a_cgroup(t, rules);
    created.ok();
    let pid = t.runtime(&["state", &b.id]).ok().json()["pid"].clone();
    assert_eq!(read(format!("/proc/{pid}/cgroup")), read("/proc/self/cgroup"));
    t.runtime(&["start", &b.id]).ok();
    t.runtime(&["exec", &b.id, "/inside", "exit", "0"]).ok();
    t.runtime(&["delete", "--force", &b.id]).ok();
}

pub fn limits_without_a_cgroup_are_refused(t: &T) {
    let (_, created) = create_without_a_cgroup(t, json!({"pids": {"limit": 10}}));
    created.refused().says("without a cgroup");
}

pub fn command_line_of_containerds_shim_works(t: &T) {
    let b = t.bundle().inside(&["pause"]);
    b.write();
    let pid_file = b.dir.join("init.pid");
    let (mut command, _) = logging(t, "json");
    command.args(["create", "--bundle"]).arg(&b.dir).arg("--pid-file").arg(&pid_file).arg(&b.id);
    t.finish(command).ok();
    let (mut command, _) = logging(t, "json");
    command.args(["start", &b.id]);
    t.finish(command).ok();
    let (mut command, _) = logging(t, "json");
    command.args(["kill", "--all", &b.id, "9"]);
    t.finish(command).ok();
    let pid: i64 = read(pid_file).parse().unwrap();
    wait_for("the end", || (!lives(pid)).then_some(()));
    let (mut command, _) = logging(t, "json");
    command.args(["delete", "--force", &b.id]);
    t.finish(command).ok();
}

pub fn exec_as_the_shim_calls_it_works(t: &T) {
    let c = t.bundle().start();
    let file = c.process_file(|_| (), &["create /tmp/by-exec"]);
    let pid_file = t.dir.join("exec.pid");
    let (mut command, _) = logging(t, "json");
    command.args(["exec", "--process"]).arg(file).args(["--detach", "--pid-file"]).arg(&pid_file).arg(&c.id);
    t.finish(command).ok();
    assert!(read(pid_file).parse::<i64>().is_ok());
    wait_for("the file", || c.bundle.rootfs().join("tmp/by-exec").exists().then_some(()));
}

pub fn exec_of_a_process_that_docker_wrote_works(t: &T) {
    let process: Value = serde_json::from_str(include_str!("../bundles/docker-exec-process.json")).unwrap();
    let c = t.bundle().start();
    let output = c.exec_process(
        |p| {
            let args = p["args"].clone();
            *p = process;
            p["args"] = args;
        },
        &["report"],
    );
    let report = output.ok().probes().remove(0);
    assert_eq!((&report["uids"][0], &report["cwd"]), (&json!(5), &json!("/tmp")));
}

pub fn missing_container_is_said_in_the_words_that_engines_match(t: &T) {
    for verb in ["state", "start", "delete"] {
        t.runtime(&[verb, "never-created"]).refused().says("container does not exist");
    }
}

pub fn existing_container_is_said_in_the_words_that_engines_match(t: &T) {
    let c = t.bundle().create();
    let mut b = t.bundle();
    b.id = c.id.clone();
    b.refused().says("container with given ID already exists");
}

pub fn stdio_is_inherited_as_it_is(t: &T) {
    let b = t.bundle().inside(&["copy", "complain to stderr"]);
    let input = t.dir.join("input");
    fs::write(&input, "from stdin\n").unwrap();
    let mut command = b.command("run", &[]);
    command.stdin(fs::File::open(input).unwrap());
    let output = t.finish(command).ok();
    assert!(output.out.starts_with("from stdin\n"), "{}", output.out);
    assert!(output.err.contains("to stderr"), "{}", output.err);
}

pub fn pipes_end_when_the_program_ends(t: &T) {
    // BuildKit reads to the end of the pipe: nothing else may hold it.
    let b = t.bundle().inside(&["print through a pipe"]);
    let output = b.command("run", &[]).stdout(Stdio::piped()).stderr(Stdio::piped()).output().unwrap();
    assert!(String::from_utf8_lossy(&output.stdout).starts_with("through a pipe\n"));
}

pub fn descriptors_of_the_caller_are_closed_after_create(t: &T) {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
    let b = t.bundle();
    let mut command = b.command("create", &[]);
    let mut ends = [0; 2];
    // SAFETY: both descriptors are new and ours.
    let (reader, writer) = unsafe {
        assert_eq!(libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC), 0);
        (OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1]))
    };
    let raw = writer.as_raw_fd();
    crate::harness::before_exec(&mut command, move || {
        // SAFETY: descriptor 20 of the child is free; it stays open over the exec.
        unsafe { libc::dup2(raw, 20) };
        Ok(())
    });
    t.finish(command).ok();
    drop(writer);
    // The created container waits; if it held the pipe, there would be no hang-up.
    let mut fds = [PollFd::new(reader.as_fd(), PollFlags::POLLIN)];
    poll(&mut fds, PollTimeout::from(5000u16)).unwrap();
    assert!(
        fds[0].revents().unwrap().contains(PollFlags::POLLHUP),
        "the container holds a descriptor of its caller"
    );
}

pub fn owner_of_a_null_device_given_as_stdio_is_kept(t: &T) {
    let before = fs::metadata("/dev/null").unwrap();
    let b = t.bundle().set("/process/user/uid", 1000).inside(&["exit 0"]);
    let mut command = b.command("run", &[]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    assert!(command.status().unwrap().success());
    let after = fs::metadata("/dev/null").unwrap();
    assert_eq!((before.uid(), before.mode()), (after.uid(), after.mode()));
}

// ---- features ----------------------------------------------------------------------------------

fn features(t: &T) -> Value {
    let mut command = t.bare();
    command.arg("features");
    t.finish(command).ok().json()
}

fn includes(list: &Value, item: &str) -> bool {
    list.as_array().is_some_and(|l| l.iter().any(|i| i == item))
}

pub fn features_names_the_versions_it_knows(t: &T) {
    let features = features(t);
    assert_eq!(features["ociVersionMin"], "1.0.0");
    assert!(features["ociVersionMax"].as_str().unwrap().starts_with("1."), "{features}");
}

pub fn features_of_myrt_go_up_to_version_1_3_0(t: &T) {
    t.needs(&[Need::Only("myrt")]);
    assert_eq!(features(t)["ociVersionMax"], "1.3.0");
}

pub fn features_lists_every_kind_of_hook(t: &T) {
    let hooks = features(t)["hooks"].clone();
    for kind in ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"] {
        assert!(includes(&hooks, kind), "{kind}");
    }
}

pub fn features_lists_recursive_mount_options(t: &T) {
    let options = features(t)["mountOptions"].clone();
    for option in ["rro", "bind", "ro", "nosuid", "rprivate"] {
        assert!(includes(&options, option), "{option}");
    }
}

pub fn features_lists_namespaces_and_capabilities(t: &T) {
    let linux = features(t)["linux"].clone();
    for kind in ["user", "pid", "network", "mount", "uts", "ipc", "cgroup"] {
        assert!(includes(&linux["namespaces"], kind), "{kind}");
    }
    assert!(includes(&linux["capabilities"], "CAP_SYS_ADMIN"));
}

pub fn features_describes_seccomp(t: &T) {
    let seccomp = features(t)["linux"]["seccomp"].clone();
    assert_eq!(seccomp["enabled"], true);
    assert!(includes(&seccomp["actions"], "SCMP_ACT_ERRNO"));
    assert!(includes(&seccomp["operators"], "SCMP_CMP_MASKED_EQ"));
    assert!(includes(&seccomp["archs"], "SCMP_ARCH_X86_64"));
}

pub fn features_describes_cgroups_and_labels(t: &T) {
    let linux = features(t)["linux"].clone();
    assert_eq!(linux["cgroup"]["v1"], true);
    assert_eq!(linux["cgroup"]["v2"], true);
    for label in ["apparmor", "selinux"] {
        assert!(linux[label]["enabled"].is_boolean(), "{label}");
    }
}

pub fn features_of_myrt_say_whether_idmapped_mounts_work(t: &T) {
    t.needs(&[Need::Only("myrt")]);
    assert!(features(t)["linux"]["mountExtensions"]["idmap"]["enabled"].is_boolean());
}

// ---- the rest ----------------------------------------------------------------------------------

fn version(t: &T, version: &str) -> Result<(), String> {
    let b: Bundle = t.bundle().set("/ociVersion", version);
    b.create_with(&[]).map(|_| ()).map_err(|o| o.err)
}

pub fn versions_of_the_spec_are_accepted(t: &T) {
    for v in ["1.0.0", "1.0.2-dev", "1.0.2", "1.1.0", "1.2.0", "1.2.1", "1.3.0"] {
        assert_eq!(version(t, v), Ok(()), "{v}");
    }
}

pub fn invalid_versions_are_refused(t: &T) {
    for v in ["", "frob", "1", "1.0", "0.1.0", "2.0.0", "1.0.x"] {
        assert!(version(t, v).is_err(), "{v:?} is accepted");
    }
}

pub fn missing_version_is_refused(t: &T) {
    t.bundle().remove("/ociVersion").refused();
}

pub fn unknown_members_of_the_config_are_ignored(t: &T) {
    t.bundle()
        .set("/frobnicate", json!({ "a": 1 }))
        .set("/annotations", json!({ "org.example.frob": "x" }))
        .report();
}

pub fn time_namespace_of_newer_docker_is_accepted(t: &T) {
    t.needs(&[Need::Path("/proc/self/ns/time")]);
    t.bundle().namespace("time").namespace("cgroup").namespace("network").report();
}

pub fn exit_status_reaches_who_reaps_the_container(t: &T) {
    // As conmon does: the caller is the subreaper and waits for the pid of the pid file.
    nix::sys::prctl::set_child_subreaper(true).unwrap();
    let c = t.bundle().inside(&["exit 44"]).create();
    let pid = nix::unistd::Pid::from_raw(c.pid() as i32);
    c.start();
    let status = nix::sys::wait::waitpid(pid, None).unwrap();
    assert_eq!(status, nix::sys::wait::WaitStatus::Exited(pid, 44));
}

pub fn pidfd_socket_sends_a_descriptor_of_the_process(t: &T) {
    t.needs(&[Need::Only("myrt")]);
    let (listener, path) = crate::terminal::listen(t);
    let b = t.bundle().inside(&["pause"]);
    let c =
        b.create_with(&["--pidfd-socket", path.to_str().unwrap()]).unwrap_or_else(|o| panic!("{}", o.err));
    let received = crate::terminal::receive(&listener);
    assert_eq!(received.descriptors, 1);
    use std::os::fd::AsRawFd;
    let info = read(format!("/proc/self/fdinfo/{}", received.master.as_raw_fd()));
    assert_eq!(
        host::status_of(c.pid(), "Pid"),
        info.lines().find_map(|l| l.strip_prefix("Pid:")).map(|p| p.trim().into())
    );
}
