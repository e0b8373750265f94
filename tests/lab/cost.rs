//! What limits cost: from the start of `run --rm` to its end.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::lab_support::support::{and, once, sh};
use crate::lab_support::{Lab, Lane, limits};

#[test]
fn limits_cost_little() {
    let Some(lab) = Lab::enter("limits_cost_little") else { return };
    let plain = sh("main", ":");
    // All the processors: what limits cost is measured, not what they take away. A start on an emulated processor takes so
    // much of it that the limit of half a processor, which is the pod's from the beginning, would hold it up.
    let processors = std::thread::available_parallelism().expect("sysconf").to_string();
    let limited = and(plain.clone(), limits(&[("memory", "64Mi"), ("cpu", &processors)]));
    let (plain, limited) =
        (lab.manifest("plain", &json!({}), &once([plain])), lab.manifest("limited", &json!({}), &once([limited])));
    let time = |manifest: &Path, options: &[&str]| {
        let manifest = manifest.to_str().expect("UTF-8");
        let start = Instant::now();
        lab.home.sandpod(&[&["run", "--rm", "-q"], options, &[manifest]].concat()).ends_with(0);
        start.elapsed()
    };
    // One after the other, so that whatever else the machine does concerns both.
    let round = |_| (time(&plain, &["--cgroups=disabled"]), time(&limited, &[]));
    round(0);
    // What else the machine does can last as long as one measurement: what limits cost, they cost in each of three.
    let measure = || {
        let mut rounds: Vec<(Duration, Duration)> = (0..15).map(round).collect();
        rounds.sort_by(|a, b| ratio(*a).total_cmp(&ratio(*b)));
        let (without, with) = rounds[rounds.len() / 2];
        eprintln!("start to exit: {with:.1?} with limits, {without:.1?} without: {:.2} x", ratio((without, with)));
        ratio((without, with))
    };
    // Asking systemd for a scope costs a round trip through D-Bus and a job of systemd's: measured, not bounded.
    if lab.lane == Lane::Session {
        measure();
    } else {
        assert!((0..3).any(|_| measure() <= 1.3), "limits cost too much");
    }
}

fn ratio((without, with): (Duration, Duration)) -> f64 {
    with.as_secs_f64() / without.as_secs_f64()
}
