use super::*;

fn offer(v2: &[&str], v1: &[&str]) -> Offer {
    let strings = |names: &[&str]| names.iter().map(|n| n.to_string()).collect();
    Offer { v2: strings(v2), v1: strings(v1), unified: !v2.is_empty() }
}

const V2: [&str; 8] = ["cpuset", "cpu", "io", "memory", "hugetlb", "pids", "rdma", "misc"];
const V1: [&str; 9] = ["cpuset", "cpu", "blkio", "memory", "hugetlb", "pids", "rdma", "net_cls", "net_prio"];

fn writes(json: &str, offer: &Offer, now: &Now) -> Vec<String> {
    let limits = plan(&serde_json::from_str(json).unwrap(), offer, now).unwrap();
    limits.writes.iter().map(|w| format!("{}={}", w.file, w.value)).collect()
}

fn v2(json: &str) -> Vec<String> {
    writes(json, &offer(&V2, &[]), &Now::default())
}

fn v1(json: &str) -> Vec<String> {
    writes(json, &offer(&[], &V1), &Now::default())
}

fn refused(json: &str, offer: &Offer) -> String {
    plan(&serde_json::from_str(json).unwrap(), offer, &Now::default()).unwrap_err().to_string()
}

#[test]
fn memory_and_swap_are_told_apart_on_v2() {
    assert_eq!(
        v2(r#"{"memory": {"limit": 100, "swap": 150, "reservation": 50}}"#),
        ["memory.swap.max=50", "memory.max=100", "memory.low=50"]
    );
    assert_eq!(v2(r#"{"memory": {"limit": 100, "swap": 100}}"#), ["memory.swap.max=0", "memory.max=100"]);
    assert_eq!(v2(r#"{"memory": {"limit": -1}}"#), ["memory.swap.max=max", "memory.max=max"]);
    assert_eq!(v2(r#"{"memory": {"limit": 5, "swap": -1}}"#), ["memory.swap.max=max", "memory.max=5"]);
    assert_eq!(v2(r#"{"memory": {"limit": -1, "swap": 7}}"#), ["memory.swap.max=7", "memory.max=max"]);
    assert_eq!(v2(r#"{"memory": {"limit": 0, "swap": 0, "reservation": 0}}"#), [""; 0]);
}

#[test]
fn swap_alone_is_counted_from_the_limit_in_force() {
    let json = r#"{"memory": {"swap": 150}}"#;
    assert!(refused(json, &offer(&V2, &[])).contains("without a memory limit"));
    let now = |memory| Now { memory: Some(memory), quota: None };
    assert_eq!(writes(json, &offer(&V2, &[]), &now(100)), ["memory.swap.max=50"]);
    assert_eq!(writes(json, &offer(&V2, &[]), &now(-1)), ["memory.swap.max=150"]);
}

#[test]
fn memory_limits_that_make_no_sense_are_refused() {
    for offer in [offer(&V2, &[]), offer(&[], &V1)] {
        assert!(
            refused(r#"{"memory": {"limit": 100, "swap": 50}}"#, &offer).contains("below the memory limit")
        );
        assert!(refused(r#"{"memory": {"limit": -2}}"#, &offer).contains("/linux/resources/memory/limit"));
    }
    assert!(refused(r#"{"memory": {"swappiness": 101}}"#, &offer(&[], &V1)).contains("above 100"));
}

#[test]
fn memory_on_v1() {
    assert_eq!(
        v1(
            r#"{"memory": {"limit": 100, "swap": 150, "reservation": 50, "swappiness": 60, "disableOOMKiller": true}}"#
        ),
        [
            "memory.limit_in_bytes=100",
            "memory.memsw.limit_in_bytes=150",
            "memory.soft_limit_in_bytes=50",
            "memory.oom_control=1",
            "memory.swappiness=60"
        ]
    );
    assert_eq!(
        v1(r#"{"memory": {"limit": -1}}"#),
        ["memory.limit_in_bytes=-1", "memory.memsw.limit_in_bytes=-1"]
    );
}

#[test]
fn what_v2_does_not_have_is_noted_as_runc_ignores_it() {
    let json = r#"{"memory": {"kernel": 1, "swappiness": 3, "disableOOMKiller": true}}"#;
    let limits = plan(&serde_json::from_str(json).unwrap(), &offer(&V2, &[]), &Now::default()).unwrap();
    assert!(limits.writes.is_empty());
    assert_eq!(limits.notes.len(), 3);
}

#[test]
fn default_shares_are_the_default_weight() {
    let pairs = [(0, 0), (1, 1), (2, 1), (1024, 100), (262_144, 10_000), (u64::MAX, 10_000)];
    for (shares, expected) in pairs {
        assert_eq!(cpu::weight(shares), expected, "{shares}");
    }
    let weights: Vec<u64> = (2..262_144).map(cpu::weight).collect();
    assert!(weights.is_sorted());
}

#[test]
fn cpu_on_v2() {
    assert_eq!(
        v2(
            r#"{"cpu": {"shares": 1024, "quota": 50000, "period": 100000, "burst": 0, "cpus": "0-1", "mems": "0"}}"#
        ),
        ["cpuset.cpus=0-1", "cpuset.mems=0", "cpu.weight=100", "cpu.max=50000 100000", "cpu.max.burst=0"]
    );
    assert_eq!(v2(r#"{"cpu": {"quota": 50000}}"#), ["cpu.max=50000"]);
    assert_eq!(v2(r#"{"cpu": {"quota": -1}}"#), ["cpu.max=max"]);
    assert_eq!(v2(r#"{"cpu": {"period": 20000}}"#), ["cpu.max=max 20000"]);
    assert_eq!(v2(r#"{"cpu": {"shares": 0, "quota": 0, "period": 0, "cpus": ""}}"#), [""; 0]);
    let now = Now { memory: None, quota: Some(7000) };
    assert_eq!(writes(r#"{"cpu": {"period": 20000}}"#, &offer(&V2, &[]), &now), ["cpu.max=7000 20000"]);
}

#[test]
fn weight_is_set_while_the_cgroup_is_not_idle() {
    assert_eq!(v2(r#"{"cpu": {"shares": 2, "idle": 1}}"#), ["cpu.weight=1", "cpu.idle=1"]);
    assert_eq!(v2(r#"{"cpu": {"shares": 2, "idle": 0}}"#), ["cpu.idle=0", "cpu.weight=1"]);
}

#[test]
fn realtime_is_refused_on_v2_and_written_on_v1() {
    let json = r#"{"cpu": {"realtimeRuntime": 5, "realtimePeriod": 10}}"#;
    assert!(refused(json, &offer(&V2, &[])).contains("realtime"));
    assert_eq!(v1(json), ["cpu.rt_period_us=10", "cpu.rt_runtime_us=5"]);
    assert!(refused(r#"{"cpu": {"shares": 1}}"#, &offer(&[], &V1)).contains("between 2 and 262144"));
}

#[test]
fn pids_zero_is_not_set_and_negative_is_no_limit() {
    assert_eq!(v2(r#"{"pids": {}}"#), [""; 0]);
    assert_eq!(v2(r#"{"pids": {"limit": 0}}"#), [""; 0]);
    assert_eq!(v2(r#"{"pids": {"limit": -1}}"#), ["pids.max=max"]);
    assert_eq!(v1(r#"{"pids": {"limit": 100}}"#), ["pids.max=100"]);
}

#[test]
fn block_io_on_both() {
    let json = r#"{"blockIO": {"weight": 500, "weightDevice": [{"major": 8, "minor": 0, "weight": 10}],
        "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 1024}],
        "throttleWriteIOPSDevice": [{"major": 8, "minor": 16, "rate": 0}]}}"#;
    assert_eq!(
        v2(json),
        ["io.bfq.weight=500", "io.bfq.weight=8:0 10", "io.max=8:0 rbps=1024", "io.max=8:16 wiops=max"]
    );
    assert_eq!(
        v1(json),
        [
            "blkio.weight=500",
            "blkio.weight_device=8:0 10",
            "blkio.throttle.read_bps_device=8:0 1024",
            "blkio.throttle.write_iops_device=8:16 0"
        ]
    );
    assert_eq!((io::stretched(10), io::stretched(500), io::stretched(1000)), (1, 4950, 10_000));
    assert!(refused(r#"{"blockIO": {"weight": 5}}"#, &offer(&V2, &[])).contains("10 and 1000"));
    assert!(refused(r#"{"blockIO": {"leafWeight": 50}}"#, &offer(&V2, &[])).contains("leaf"));
    assert_eq!(v2(r#"{"blockIO": {"weight": 0, "leafWeight": 0}}"#), [""; 0]);
}

#[test]
fn hugepages_limit_usage_and_reservation() {
    let json = r#"{"hugepageLimits": [{"pageSize": "2MB", "limit": 4194304}]}"#;
    assert_eq!(v2(json), ["hugetlb.2MB.max=4194304", "hugetlb.2MB.rsvd.max=4194304"]);
    assert_eq!(v1(json), ["hugetlb.2MB.limit_in_bytes=4194304", "hugetlb.2MB.rsvd.limit_in_bytes=4194304"]);
    for size in ["2M", "MB", "../2MB", "2mb", ""] {
        let json = format!(r#"{{"hugepageLimits": [{{"pageSize": "{size}", "limit": 1}}]}}"#);
        assert!(refused(&json, &offer(&V2, &[])).contains("/hugepageLimits/0/pageSize"), "{size}");
    }
}

#[test]
fn rdma_and_network() {
    let json = r#"{"rdma": {"mlx5_1": {"hcaHandles": 3, "hcaObjects": 4}, "mlx4_0": {"hcaObjects": 9}}}"#;
    assert_eq!(v2(json), ["rdma.max=mlx4_0 hca_object=9", "rdma.max=mlx5_1 hca_handle=3 hca_object=4"]);
    let json = r#"{"network": {"classID": 1048577, "priorities": [{"name": "eth0", "priority": 5}]}}"#;
    assert_eq!(v1(json), ["net_cls.classid=1048577", "net_prio.ifpriomap=eth0 5"]);
    assert!(refused(json, &offer(&V2, &[])).contains("no net_cls controller"));
    assert_eq!(v2(r#"{"network": {"classID": 0, "priorities": []}}"#), [""; 0]);
}

#[test]
fn unified_comes_last_line_by_line() {
    let json =
        r#"{"unified": {"memory.high": "10", "io.max": "8:0 rbps=1\n8:16 rbps=2"}, "pids": {"limit": 3}}"#;
    assert_eq!(v2(json), ["pids.max=3", "io.max=8:0 rbps=1", "io.max=8:16 rbps=2", "memory.high=10"]);
}

#[test]
fn unified_names_are_validated() {
    let refuse = |name: &str, offer: &Offer| refused(&format!(r#"{{"unified": {{"{name}": "1"}}}}"#), offer);
    let v2 = offer(&V2, &[]);
    for name in ["memory", "../memory.high", "memory./x", ".", "..", "", "a/b.c"] {
        assert!(refuse(name, &v2).contains("of the form"), "{name}");
    }
    assert!(refuse("cgroup.procs", &v2).contains("not a limit"));
    assert!(refuse("dmem.max", &v2).contains("the controller dmem"));
    assert!(refuse("memory.high", &offer(&[], &V1)).contains("needs cgroup v2"));
}

#[test]
fn a_hybrid_host_splits_the_list() {
    let hybrid = offer(&["hugetlb"], &["memory", "pids"]);
    let json = r#"{"hugepageLimits": [{"pageSize": "1GB", "limit": 0}], "memory": {"limit": 9}}"#;
    assert_eq!(
        writes(json, &hybrid, &Now::default()),
        ["memory.limit_in_bytes=9", "hugetlb.1GB.max=0", "hugetlb.1GB.rsvd.max=0"]
    );
    assert!(refused(r#"{"cpu": {"quota": 5}}"#, &hybrid).contains("no cpu controller"));
}
