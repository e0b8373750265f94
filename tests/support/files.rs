//! Trees of files for pods, and whether a tree has changed.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::Home;

/// A root file system of nothing but busybox, for `rootfs:`; below `home`, the user's.
pub(crate) fn busybox_root(home: &Home, name: &str) -> PathBuf {
    let root = home.directory(name, 0o755);
    for dir in ["bin", "etc", "root"] {
        home.directory(&format!("{name}/{dir}"), 0o755);
    }
    let busybox = fs::read("/usr/bin/busybox").or_else(|_| fs::read("/bin/busybox")).expect("busybox");
    home.file(&format!("{name}/bin/busybox"), busybox, 0o755);
    std::os::unix::fs::symlink("busybox", root.join("bin/sh")).expect("symlink");
    // Mount points: with an isolated map nobody in the pod may make them in a directory of the user's.
    for file in ["hostname", "hosts", "resolv.conf"] {
        home.file(&format!("{name}/etc/{file}"), "", 0o644);
    }
    home.file(
        &format!("{name}/etc/passwd"),
        "root:x:0:0::/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\n",
        0o644,
    );
    home.file(
        &format!("{name}/etc/group"),
        "root:x:0:\nuser:x:1000:\nextra:x:2000:user\nmore:x:3000:root,user\n",
        0o644,
    );
    root
}

/// Every path below a directory with its type, mode, owner, size, link target and content: what must not change.
pub(crate) fn fingerprint(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut ahead = vec![dir.to_owned()];
    while let Some(path) = ahead.pop() {
        let is = fs::symlink_metadata(&path).expect("stat");
        let content = if is.is_symlink() {
            format!("{:?}", fs::read_link(&path).expect("readlink"))
        } else if is.is_file() {
            format!("{:x?}", digest(&fs::read(&path).expect("read")))
        } else if !is.is_dir() {
            "neither a file nor a directory".to_owned()
        } else {
            let below = fs::read_dir(&path).expect("readdir").map(|entry| entry.expect("entry").path());
            ahead.extend(below);
            String::new()
        };
        found.push(format!("{} {:o} {}:{} {} {content}", path.display(), is.mode(), is.uid(), is.gid(), is.mtime()));
    }
    found.sort();
    found
}

/// FNV-1a: enough to see a change.
fn digest(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}
