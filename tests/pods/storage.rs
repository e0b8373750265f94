//! Limits of what a pod has on disk: it is measured every ten seconds, and evicted beyond one.

use crate::support::{Home, Pod, and, busybox_root, once, sh, until};
use serde_json::{Value, json};

/// A container whose writable layer and logs are limited.
fn limited(script: &str, limit: &str) -> Value {
    and(sh("main", script), json!({ "resources": { "limits": { "ephemeral-storage": limit } } }))
}

/// Why it failed.
fn ended(pod: &Pod) -> String {
    until("it has ended", || {
        let inspected = pod.inspect();
        (inspected["status"] == "Failed").then(|| inspected["reason"].as_str().unwrap_or_default().to_owned())
    })
}

#[test]
fn who_has_more_on_disk_than_it_may_is_evicted() {
    let Some(home) = Home::new("evicted") else { return };
    // Of another id, closed to everybody, and in a directory of the image: what is the pod's is measured all the same.
    let hidden = "busybox mkdir /usr/hoard; busybox dd if=/dev/urandom of=/usr/hoard/x bs=1M count=4 2>/dev/null; \
                  busybox chmod 0 /usr/hoard; exec busybox sleep 1000";
    let layer = home.start_with(
        "layer",
        &json!({ "containers": [limited(hidden, "2Mi"), sh("other", "sleep 1000")] }),
        &["--userns", "isolated"],
    );
    let log =
        home.start_with("log", &json!({ "containers": [limited("yes | head -c 3000000; sleep 1000", "2Mi")] }), &[]);
    let message = "dd if=/dev/urandom of=/dev/termination-log bs=1M count=3 2>/dev/null; sleep 1000";
    let message = home.start_with("message", &json!({ "containers": [limited(message, "2Mi")] }), &[]);
    let fill = "dd if=/dev/urandom of=/cache/x bs=1M count=4 2>/dev/null; chmod 700 /cache; sleep 1000";
    let mounted = json!({ "volumeMounts": [{ "name": "cache", "mountPath": "/cache" }] });
    let volume = home.start_with(
        "volume",
        &json!({
            "containers": [and(sh("main", fill), mounted)],
            "volumes": [{ "name": "cache", "emptyDir": { "sizeLimit": "2Mi" } }],
        }),
        &["--userns", "isolated"],
    );
    // What the image has is not the container's.
    let image = format!("rootfs:{}", busybox_root(&home, "root-fs").display());
    let small = json!({
        "name": "main", "image": image, "command": ["/bin/busybox", "sleep", "1000"],
        "resources": { "limits": { "ephemeral-storage": "256Ki" } },
    });
    let modest = home.start_with("modest", &json!({ "containers": [small] }), &[]);

    let why = ended(&layer);
    assert_eq!(why, "Evicted: container `main` has 4Mi on disk, more than the ephemeral-storage limit of 2Mi");
    for pod in [&log, &message] {
        let why = ended(pod);
        assert!(why.starts_with("Evicted: container `main` has"), "{}: {why}", pod.name);
    }
    let why = ended(&volume);
    assert_eq!(why, "Evicted: emptyDir `cache` has 4Mi on disk, more than the sizeLimit of 2Mi");
    home.sandpod(&["ps", "-a"]).ends_with(0).says("   Evicted   ");
    assert_eq!(volume.recorded("main")["restarts"], 0, "{}", volume.inspect());
    assert_eq!(modest.inspect()["status"], "Running");
    for pod in [layer, log, message, volume] {
        pod.does(&["rm"]);
    }
}

#[test]
fn whoever_stays_hears_why() {
    let Some(home) = Home::new("evicted-here") else { return };
    let script =
        "dd if=/dev/urandom of=/tmp/x bs=1M count=3 2>/dev/null; trap 'exit 0' TERM; while :; do sleep 0.1; done";
    let said = home.run(&once([limited(script, "1Mi")])).ends_with(125);
    said.complains("Evicted: container `main` has 3Mi on disk, more than the ephemeral-storage limit of 1Mi");
}
