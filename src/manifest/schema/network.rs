//! Ports, names and settings of the network.

use super::Schema;

pub(in crate::manifest) static PORT: Schema = Schema {
    place: "spec.containers[].ports[]",
    supported: &["name", "containerPort", "protocol", "hostPort", "hostIP"],
    others: &[],
};

pub(in crate::manifest) static DNS_CONFIG: Schema =
    Schema { place: "spec.dnsConfig", supported: &["nameservers", "searches", "options"], others: &[] };

pub(in crate::manifest) static DNS_OPTION: Schema =
    Schema { place: "spec.dnsConfig.options[]", supported: &["name", "value"], others: &[] };

pub(in crate::manifest) static HOST_ALIAS: Schema =
    Schema { place: "spec.hostAliases[]", supported: &["ip", "hostnames"], others: &[] };

pub(in crate::manifest) static SYSCTL: Schema =
    Schema { place: "spec.securityContext.sysctls[]", supported: &["name", "value"], others: &[] };
