//! Logs of real pods: unfinished lines, and a file-size limit of the caller's.

use crate::support::{Home, is_live, once, sh, until};
use serde_json::json;

#[test]
fn a_prompt_is_in_the_log_while_the_container_waits_and_its_line_goes_on() {
    let Some(home) = Home::new("a_prompt_is_in_the_log") else { return };
    let asks = "printf 'name? '; until [ -e /tmp/answer ]; do sleep 0.1; done; echo bob; sleep 1000";
    let pod = home.start(&once([sh("main", asks)]));
    until("the prompt", || (pod.logs("main") == "name? ").then_some(()));
    pod.sh("main", "touch /tmp/answer");
    until("the rest", || (pod.logs("main") == "name? bob\n").then_some(()));
}

/// SIGXFSZ ends a process that writes beyond its limit (setrlimit(2)). The limit is the container's, too, and there the signal
/// does what it does by default.
#[test]
fn a_file_size_limit_of_the_caller_ends_neither_supervisor_nor_pod() {
    let Some(home) = Home::new("a_file_size_limit") else { return };
    let writes = "head -c 3000000 /dev/zero | tr '\\0' x | fold -w 99; echo; \
                  grep SigIgn /proc/self/status; dd if=/dev/zero of=/tmp/big bs=1M count=1; echo dd: $?; sleep 1000";
    let spec = json!({ "restartPolicy": "Never", "containers": [sh("main", writes)] });
    let manifest = home.manifest(&spec);
    let limited = format!(
        "ulimit -f 512; exec {} run -d -q --network none {}",
        env!("CARGO_BIN_EXE_sandpod"),
        manifest.display()
    );
    home.said(home.program("/bin/sh", &["-c", &limited]), &[]).ends_with(0);
    let pod = crate::support::Pod { home: &home, name: home.test.clone() };
    let supervisor = pod.inspect()["supervisor"].as_u64();
    until("all is written", || pod.logs("main").contains("dd: ").then_some(()));
    let logs = pod.logs("main");
    let (lines, rest) = logs.split_at(logs.find("SigIgn").expect("its signals"));
    // 512 blocks of 512 bytes for each file of the log.
    assert!(lines.lines().filter(|line| line.len() == 99).count() > 5000, "{} bytes", lines.len());
    assert!(!logs.contains("bytes of log lost"), "the next file takes what this one does not");
    let ignored = rest.split_whitespace().nth(1).expect("a mask");
    assert_eq!(u64::from_str_radix(ignored, 16).expect("hexadecimal"), 0, "{rest}");
    assert!(rest.contains("dd: 153"), "SIGXFSZ ends dd: {rest}");
    if let Some(supervisor) = supervisor {
        assert!(is_live(u32::try_from(supervisor).expect("a pid")));
    }
    assert_eq!(pod.inspect()["status"], "Running");
}
