use super::read::*;
use super::*;

#[test]
fn io_stat_is_told_in_the_words_of_v1() {
    let mut stats = Stats::default();
    io_stat("259:70000 rbytes=4096 wbytes=1 rios=2 wios=0 dbytes=0 dios=0\n8:0 \nbad\n", &mut stats);
    let text = serde_json::to_string(&stats.blkio).unwrap();
    assert_eq!(
        text,
        r#"{"ioServiceBytesRecursive":[{"major":259,"minor":70000,"op":"Read","value":4096},{"major":259,"minor":70000,"op":"Write","value":1}],"ioServicedRecursive":[{"major":259,"minor":70000,"op":"Read","value":2},{"major":259,"minor":70000,"op":"Write"}]}"#
    );
}

#[test]
fn blkio_totals_without_a_device_are_left_out() {
    let table = blkio_table("8:0 Read 5\n8:0 Total 5\nTotal 5\n");
    assert_eq!(table.len(), 2);
    assert_eq!((table[1].op.as_str(), table[1].value), ("Total", 5));
}

#[test]
fn pressure_is_parsed() {
    let text =
        "some avg10=1.50 avg60=0.25 avg300=0.00 total=42\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=7\n";
    let pressure = parse_pressure(text);
    assert_eq!((pressure.some.avg10, pressure.some.avg60, pressure.some.total), (1.5, 0.25, 42));
    assert_eq!(pressure.full.total, 7);
}

#[test]
fn ranges_are_spread_out() {
    assert_eq!(ranges("0-2,7\n"), [0, 1, 2, 7]);
    assert_eq!(ranges("\n"), [0u16; 0]);
}

#[test]
fn empty_statistics_have_the_shape_that_runc_prints() {
    let json = serde_json::to_value(Stats::default()).unwrap();
    assert_eq!(json["cpu"], serde_json::json!({}));
    assert_eq!(json["network_interfaces"], serde_json::json!([]));
    assert_eq!(json["cpuset"]["sched_relax_domain_level"], 0);
}
