//! A volume and its sources.

use super::{Accepted, Field, Schema};

/// Without its source a volume is an empty directory: that it is there says something, even `{}`.
const fn source(name: &'static str, advice: &'static str) -> Field {
    Field::not_yet(name, advice).accepts(Accepted::Null)
}

const FILES: &str = "put the files into a directory and write `hostPath: {path: /DIR}` (a volume without a source is an \
                     empty directory)";
const KEPT: &str = "write `hostPath: {path: /DIR, type: DirectoryOrCreate}` for a directory that is kept (a volume without \
                    a source is an empty directory)";
const MOUNTED: &str = "mount it on this machine and write `hostPath: {path: /MOUNTPOINT}` (a volume without a source is \
                       an empty directory)";

pub(in crate::manifest) static VOLUME: Schema = Schema {
    place: "spec.volumes[]",
    supported: &["name", "emptyDir", "hostPath", "image"],
    others: &[
        source("awsElasticBlockStore", MOUNTED),
        source("azureDisk", MOUNTED),
        source("azureFile", MOUNTED),
        source("cephfs", MOUNTED),
        source("cinder", MOUNTED),
        source("configMap", FILES),
        source("csi", MOUNTED),
        source("downwardAPI", "variables can have most of it: env[].valueFrom.fieldRef"),
        source("ephemeral", "write `emptyDir: {}` for a volume that ends with the pod"),
        source("fc", MOUNTED),
        source("flexVolume", MOUNTED),
        source("flocker", MOUNTED),
        source("gcePersistentDisk", MOUNTED),
        source("gitRepo", "clone it into a directory and write `hostPath: {path: /DIR}`"),
        source("glusterfs", MOUNTED),
        source("iscsi", MOUNTED),
        source("nfs", MOUNTED),
        source("persistentVolumeClaim", KEPT),
        source("photonPersistentDisk", MOUNTED),
        source("portworxVolume", MOUNTED),
        source("projected", FILES),
        source("quobyte", MOUNTED),
        source("rbd", MOUNTED),
        source("scaleIO", MOUNTED),
        source("secret", FILES),
        source("storageos", MOUNTED),
        source("vsphereVolume", MOUNTED),
    ],
};

pub(in crate::manifest) static EMPTY_DIR: Schema = Schema {
    place: "spec.volumes[].emptyDir",
    supported: &["medium", "sizeLimit"],
    // 0777, Kubernetes' default.
    others: &[Field::not_yet("mode", "the directory has the mode 0777").accepts(Accepted::Number(0o777))],
};

pub(in crate::manifest) static HOST_PATH: Schema =
    Schema { place: "spec.volumes[].hostPath", supported: &["path", "type"], others: &[] };

pub(in crate::manifest) static IMAGE_VOLUME: Schema =
    Schema { place: "spec.volumes[].image", supported: &["reference", "pullPolicy"], others: &[] };
