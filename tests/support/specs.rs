//! Parts of manifests.

use serde_json::{Value, json};

/// A `host:` container that runs a script.
pub(crate) fn sh(name: &str, script: &str) -> Value {
    json!({ "name": name, "image": "host:", "command": ["busybox", "sh", "-c", script] })
}

/// A `host:` container that stays, and ends at SIGTERM also as pid 1.
pub(crate) fn idle(name: &str) -> Value {
    sh(name, "trap 'exit 0' TERM; while :; do sleep 1000 & wait $!; done")
}

/// `base` with the fields of `more`.
pub(crate) fn and(mut base: Value, more: Value) -> Value {
    let (Some(fields), Value::Object(more)) = (base.as_object_mut(), more) else { panic!("two objects") };
    fields.extend(more);
    base
}

/// A spec of containers that run once.
pub(crate) fn once<const N: usize>(containers: [Value; N]) -> Value {
    json!({ "restartPolicy": "Never", "containers": containers.to_vec() })
}
