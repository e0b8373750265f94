//! A pod that serves, and its client on the host.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::{Value, json};

use super::specs::sh;

/// Serves its /etc on port 8000 of the pod.
pub(crate) fn web() -> Value {
    json!({ "terminationGracePeriodSeconds": 0, "containers": [sh("web", "exec busybox httpd -f -p 8000 -h /etc")] })
}

/// The pod's own hostname, through a port of the host; `None` when nobody answers.
pub(crate) fn fetch(address: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("SO_RCVTIMEO");
    stream.write_all(b"GET /hostname HTTP/1.0\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer.rsplit_once("\r\n\r\n")?.1.trim().to_owned())
}
