//! `scripts/quickstart --image`: from an image that is made here to a pod, and nothing stays.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::support::{Home, skip};

/// Directories of the script that belong to this user.
fn left(uid: u32) -> Vec<PathBuf> {
    let entries = std::fs::read_dir("/var/tmp").expect("readdir").flatten();
    let of_the_script = entries.filter(|entry| {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        (name.starts_with("sandpod-images.") || name.starts_with("sandpod-quickstart."))
            && entry.metadata().is_ok_and(|found| found.uid() == uid)
    });
    of_the_script.map(|entry| entry.path()).collect()
}

#[test]
fn the_quickstart_with_an_image() {
    let test = "the_quickstart_with_an_image";
    let Some(home) = Home::new("image_quickstart") else { return };
    for program in ["/usr/sbin/nginx", "/usr/bin/busybox", "/usr/bin/docker-registry"] {
        if !Path::new(program).exists() {
            skip(test, &format!("{program} is missing"));
            return;
        }
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/quickstart");
    let mut command = home.program(script, &["--image"]);
    command.env("SANDPOD", env!("CARGO_BIN_EXE_sandpod"));
    let said = home.said(command, b"").ends_with(0).says("<h1>Hello from a pod without root</h1>");
    let said = said.says("untagged localhost/quickstart:1").says("run -d --name quickstart");
    assert!(said.stdout.contains("www-data nginx: worker process"), "{}", said.explain());
    assert_eq!(left(home.user.uid), Vec::<PathBuf>::new());
    assert_eq!(home.remains(), Vec::<PathBuf>::new());
}
