//! `myrt features`

use clap::Args;
use serde_json::json;

use super::{Global, Subcommand, say};
use crate::error::Result;
use crate::rootfs::options;

/// Print what this runtime can do.
#[derive(Debug, Args)]
pub struct Features {}

impl Subcommand for Features {
    const NAME: &'static str = "features";
    const ABOUT: &'static str = "Print what this runtime can do, as JSON (features.md of the spec)";

    fn run(self, _: &Global) -> Result<u8> {
        let mut capabilities: Vec<String> = caps::all().into_iter().map(|c| c.to_string()).collect();
        capabilities.sort();
        let features = json!({
            "ociVersionMin": "1.0.0",
            "ociVersionMax": "1.3.0",
            "hooks": ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"],
            "mountOptions": options::WORDS,
            "linux": {
                "namespaces": ["cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"],
                "capabilities": capabilities,
                "cgroup": {"v1": true, "v2": true, "systemd": true, "systemdUser": true, "rdma": true},
                "seccomp": {
                    "enabled": true,
                    "actions": [
                        "SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS",
                        "SCMP_ACT_KILL_THREAD", "SCMP_ACT_LOG", "SCMP_ACT_TRACE", "SCMP_ACT_TRAP"
                    ],
                    "operators": [
                        "SCMP_CMP_EQ", "SCMP_CMP_GE", "SCMP_CMP_GT", "SCMP_CMP_LE", "SCMP_CMP_LT",
                        "SCMP_CMP_MASKED_EQ", "SCMP_CMP_NE"
                    ],
                    "archs": ["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM", "SCMP_ARCH_X32", "SCMP_ARCH_X86", "SCMP_ARCH_X86_64"],
                    "knownFlags": [
                        "SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW", "SECCOMP_FILTER_FLAG_TSYNC"
                    ],
                    "supportedFlags": [
                        "SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW", "SECCOMP_FILTER_FLAG_TSYNC"
                    ]
                },
                "apparmor": {"enabled": true},
                "selinux": {"enabled": true},
                "intelRdt": {"enabled": false},
                "netDevices": {"enabled": false},
                "mountExtensions": {"idmap": {"enabled": true}}
            },
            "annotations": {
                "org.myrt.version": env!("CARGO_PKG_VERSION"),
                "org.opencontainers.runc.checkpoint.enabled": "false"
            }
        });
        say(format!("{features:#}\n")).map(|()| 0)
    }
}
