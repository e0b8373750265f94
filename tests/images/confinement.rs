//! What the puller and the unpacker may do, read from the kernel while a registry keeps them waiting.

use std::fs;
use std::process::Stdio;

use super::made::{Image, file, layer, noise};
use super::server::{Fault, Server};
use crate::support::{Home, until};

/// CHOWN, DAC_OVERRIDE, FOWNER, FSETID, MKNOD, SETFCAP (linux/capability.h).
const UNPACKER: u64 = 1 | 1 << 1 | 1 << 3 | 1 << 4 | 1 << 27 | 1 << 31;

fn children(pid: u32) -> Vec<u32> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace().map(|pid| pid.parse().expect("a pid")).collect()
}

fn field(pid: u32, name: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_default().trim().to_owned()
}

fn capabilities(pid: u32, set: &str) -> u64 {
    u64::from_str_radix(&field(pid, set), 16).expect("a mask")
}

#[test]
fn the_two_processes_have_no_more_than_they_need() {
    let Some(home) = Home::new("image_confined") else { return };
    let server = Server::start();
    server.used_by(&home);
    let big = layer(&[file("big", &noise(400_000))]);
    server.add("a", &Image::new(std::slice::from_ref(&big)));
    server.fault("a", &big, Some(Fault::Stall(100_000)));
    let mut command = home.command(&["pull", &format!("{}/a:1", server.host())]);
    let mut pull =
        command.env("SECRET", "of the user").stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("start");
    let named = |name: &str| children(pull.id()).into_iter().find(|pid| field(*pid, "Name") == name);
    // Its name is the first thing that the unpacker gives up something by; no_new_privs and the bounding set come after it.
    let unpacker = until("an unpacker", || named("sandpod:unpack").filter(|pid| field(*pid, "NoNewPrivs") == "1"));
    until("the capabilities of the unpacker", || (capabilities(unpacker, "CapPrm") == UNPACKER).then_some(()));
    for set in ["CapPrm", "CapEff", "CapBnd"] {
        assert_eq!(capabilities(unpacker, set), UNPACKER, "{set}");
    }
    for set in ["CapInh", "CapAmb"] {
        assert_eq!(capabilities(unpacker, set), 0, "{set}");
    }
    assert_eq!(field(unpacker, "Uid").split_whitespace().next(), Some(home.user.subuid.to_string().as_str()));
    // The other child is the puller, which waits for the registry.
    let puller = children(pull.id()).into_iter().find(|pid| *pid != unpacker).expect("a puller");
    assert_eq!(fs::read_to_string(format!("/proc/{puller}/cmdline")).expect("read"), "sandpod:puller\0");
    assert_eq!((field(puller, "NoNewPrivs").as_str(), capabilities(puller, "CapPrm")), ("1", 0));
    // Neither can be traced or dumped: the passwords are in their memory.
    for pid in [puller, unpacker] {
        let open = home.program("/bin/cat", &[&format!("/proc/{pid}/environ")]).stderr(Stdio::null()).status();
        assert!(!open.expect("cat runs").success(), "the user's other processes can read the memory of {pid}");
    }
    server.go_on();
    assert!(pull.wait().expect("wait").success());
}
