//! pids, hugepages, rdma, network and `unified`.

use std::collections::HashMap;

use oci_spec::runtime::{LinuxHugepageLimit, LinuxNetwork, LinuxPids, LinuxRdma};

use super::{List, Missing, Version, or_max};
use crate::error::{Error, Result};

/// `pids: {}` reaches us as 0 and means "not set"; any negative number means "no limit".
pub(super) fn pids(list: &mut List, pids: &LinuxPids) -> Result<()> {
    let pointer = "/linux/resources/pids/limit";
    if pids.limit() == 0 {
        return Ok(());
    }
    let version = list.home("pids", "pids", pointer)?;
    list.push(version, "pids", "pids.max", or_max(pids.limit().max(-1)), pointer);
    Ok(())
}

/// Limits usage and, where the kernel has it (5.7), reservation: without the latter a process dies of SIGBUS.
pub(super) fn hugetlb(list: &mut List, limits: &[LinuxHugepageLimit]) -> Result<()> {
    for (n, limit) in limits.iter().enumerate() {
        let pointer = format!("/linux/resources/hugepageLimits/{n}");
        let size = limit.page_size();
        let digits = size.trim_end_matches(|c: char| !c.is_ascii_digit());
        if digits.is_empty()
            || !digits.bytes().all(|b| b.is_ascii_digit())
            || !matches!(&size[digits.len()..], "KB" | "MB" | "GB")
        {
            return Err(Error::new(format!("hugepage size {size:?} is not of the form 64KB, 2MB or 1GB"))
                .from_config(format!("{pointer}/pageSize")));
        }
        super::check_limit("hugepage limit", limit.limit(), &pointer)?;
        let version = list.home("hugetlb", "hugetlb", &pointer)?;
        let (suffix, value) = match version {
            Version::V2 => ("max", or_max(limit.limit())),
            Version::V1 => ("limit_in_bytes", limit.limit().to_string()),
        };
        list.push(version, "hugetlb", &format!("hugetlb.{size}.{suffix}"), &value, &pointer);
        let reserved = format!("hugetlb.{size}.rsvd.{suffix}");
        list.push_or(version, "hugetlb", &reserved, &value, &pointer, Missing::Skip);
    }
    Ok(())
}

/// One line per adapter; what is not named keeps its value.
pub(super) fn rdma(list: &mut List, adapters: &HashMap<String, LinuxRdma>) -> Result<()> {
    let mut names: Vec<&String> = adapters.keys().collect();
    names.sort();
    for name in names {
        let pointer = format!("/linux/resources/rdma/{name}");
        if name.is_empty() || name.bytes().any(|b| b.is_ascii_whitespace() || b == 0) {
            return Err(Error::new(format!("rdma device name {name:?}")).from_config(&pointer));
        }
        let limit = &adapters[name];
        let mut value = name.clone();
        if let Some(handles) = limit.hca_handles() {
            value.push_str(&format!(" hca_handle={handles}"));
        }
        if let Some(objects) = limit.hca_objects() {
            value.push_str(&format!(" hca_object={objects}"));
        }
        if value.len() > name.len() {
            let version = list.home("rdma", "rdma", &pointer)?;
            list.push(version, "rdma", "rdma.max", value, &pointer);
        }
    }
    Ok(())
}

/// net_cls and net_prio exist in cgroup v1 only.
pub(super) fn network(list: &mut List, network: &LinuxNetwork) -> Result<()> {
    if let Some(class) = network.class_id().filter(|&c| c != 0) {
        let pointer = "/linux/resources/network/classID";
        // There is no such controller in cgroup v2; "" matches nothing there.
        let version = list.home("", "net_cls", pointer)?;
        list.push(version, "net_cls", "net_cls.classid", class, pointer);
    }
    for (n, priority) in network.priorities().as_deref().unwrap_or_default().iter().enumerate() {
        let pointer = format!("/linux/resources/network/priorities/{n}");
        let name = priority.name();
        if name.is_empty() || name.bytes().any(|b| b.is_ascii_whitespace() || b == b'/' || b == 0) {
            return Err(Error::new(format!("network interface name {name:?}")).from_config(&pointer));
        }
        let version = list.home("", "net_prio", &pointer)?;
        list.push(
            version,
            "net_prio",
            "net_prio.ifpriomap",
            format!("{name} {}", priority.priority()),
            &pointer,
        );
    }
    Ok(())
}

/// Files of the cgroup's directory that steer it and are no limits.
const NO_LIMITS: [&str; 6] = [
    "cgroup.procs",
    "cgroup.threads",
    "cgroup.kill",
    "cgroup.freeze",
    "cgroup.type",
    "cgroup.subtree_control",
];

/// Any file of the container's directory in the cgroup2 tree, line by line, in the order of the names.
pub(super) fn unified(list: &mut List, files: &HashMap<String, String>) -> Result<()> {
    let mut names: Vec<&String> = files.keys().collect();
    names.sort();
    for name in names {
        let pointer = format!("/linux/resources/unified/{name}");
        let refuse = |why: &str| Error::new(format!("unified {name:?} {why}")).from_config(&pointer);
        let Some((controller, rest)) = name.split_once('.') else {
            return Err(refuse("is not of the form CONTROLLER.PARAMETER"));
        };
        if name.contains('/') || name.contains('\0') || controller.is_empty() || rest.is_empty() {
            return Err(refuse("is not a file name of the form CONTROLLER.PARAMETER"));
        }
        if NO_LIMITS.contains(&name.as_str()) {
            return Err(refuse("is not a limit"));
        }
        if !list.offer.unified {
            return Err(refuse("needs cgroup v2, which this host has not").hint("use the v1 fields instead"));
        }
        if controller != "cgroup" && !list.offer.v2.iter().any(|c| c == controller) {
            return Err(refuse(&format!("needs the controller {controller}, which the host does not offer")));
        }
        for line in files[name].lines() {
            list.push(Version::V2, controller, name, line, &pointer);
        }
    }
    Ok(())
}
