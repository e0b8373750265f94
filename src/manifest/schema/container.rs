//! A container and what is mounted into it.

use super::{Accepted, Field, Schema};

const RESIZE_POLICY: Accepted = Accepted::Fields(&[
    ("resourceName", Accepted::Words(&["cpu", "memory"])),
    ("restartPolicy", Accepted::Words(&["NotRequired"])),
]);

const POD_RESTART_POLICY: &str = "spec.restartPolicy is for all containers of the pod";

pub(in crate::manifest) static CONTAINER: Schema = Schema {
    place: "spec.containers[]",
    supported: &[
        "name",
        "image",
        "imagePullPolicy",
        "command",
        "args",
        "workingDir",
        "env",
        "stdin",
        "stdinOnce",
        "tty",
        "volumeMounts",
        "ports",
        "securityContext",
        "resources",
        "terminationMessagePath",
        "terminationMessagePolicy",
    ],
    others: &[
        Field::not_yet("envFrom", "without it these variables are not set; write them in `env`"),
        Field::not_yet(
            "lifecycle",
            "without it the hook does not run; what comes first can go into `command`, and a handler of SIGTERM replaces \
             preStop",
        ),
        Field::not_yet("livenessProbe", "without it a container that hangs is not restarted"),
        Field::not_yet("readinessProbe", "without it the container counts as ready as soon as it runs"),
        Field::not_yet("resizePolicy", "`sandpod update` changes limits without a restart")
            .accepts(Accepted::Each(&RESIZE_POLICY)),
        Field::not_yet("restartPolicy", POD_RESTART_POLICY),
        Field::not_yet("restartPolicyRules", POD_RESTART_POLICY),
        Field::not_yet("startupProbe", "without it the container counts as started as soon as it runs"),
        Field::not_yet("volumeDevices", "write a hostPath with `type: BlockDevice` and a mount of it"),
    ],
};

pub(in crate::manifest) static VOLUME_MOUNT: Schema = Schema {
    place: "spec.containers[].volumeMounts[]",
    supported: &["name", "mountPath", "readOnly", "recursiveReadOnly"],
    others: &[
        Field::not_yet("bindMountOptions", "without it the mount has none of these restrictions"),
        Field::not_yet("mountPropagation", "a mount made later on one side is not seen on the other")
            .accepts(Accepted::Words(&["None"])),
        Field::not_yet(
            "subPath",
            "without it the whole volume is mounted here; to mount one directory of a hostPath, write that directory's path",
        ),
        Field::not_yet(
            "subPathExpr",
            "without it the whole volume is mounted here; to mount one directory of a hostPath, write that directory's path",
        ),
    ],
};
