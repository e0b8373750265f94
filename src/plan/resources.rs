//! The kubelet's rules: what limits and requests come to as values of cgroups, QoS class, oom_score_adj and claim.
//!
//! Sources, all of Kubernetes: `pkg/kubelet/cm/helpers_linux.go` (quota, shares, the pod's cgroup),
//! `pkg/kubelet/kuberuntime/kuberuntime_container_linux.go` (a container's), `pkg/kubelet/qos/policy.go`,
//! `pkg/apis/core/v1/helper/qos`, `component-helpers/resource` (sums), KEP-2254 (cgroup v2), KEP-2837 (pod level).

use std::collections::BTreeSet;

use super::annotations::{self, Annotations, PIDS_LIMIT, SWAP, Swap};
use super::cgroup::{Claim, QosClass, Setting, Value};
use crate::host::Capacity;
use crate::manifest::{Container, PodSpec, Resource, Resources, Role};
use crate::report::{Report, exit_code};

mod oom_score;
#[cfg(test)]
mod tests;

pub(super) use oom_score::adjustment as oom_score_adj;

/// Processes and threads of one container, where nobody says otherwise. Kubernetes has no limit by default, which lets
/// one fork bomb take all process ids of the host (`pid_max` is 32768 on small ones); podman has 2048, which a thread
/// pool for each of many cpus can reach. An eighth of the smallest `pid_max` stops the former, not the latter.
pub const DEFAULT_PIDS: u64 = 4096;

/// Microseconds: the kubelet's period of CFS quotas, and its least quota, which is the kernel's.
const PERIOD: u64 = 100_000;
const LEAST_QUOTA: u64 = 1000;

/// What a pod asks for: the manifest's amounts, or those that an update has put in their place.
pub(super) struct Wanted<'a> {
    /// `spec.resources`.
    pub(super) pod: &'a Resources,
    pub(super) containers: Vec<&'a Resources>,
}

impl<'a> From<&'a PodSpec> for Wanted<'a> {
    fn from(spec: &'a PodSpec) -> Wanted<'a> {
        Wanted {
            pod: &spec.resources,
            containers: spec.containers.iter().map(|container| &container.resources).collect(),
        }
    }
}

/// Everything that the manifest's resources come to.
#[derive(Debug)]
pub(super) struct Decided {
    /// Of the pod's own cgroup.
    pub(super) pod: Vec<Setting>,
    /// In the order of the containers.
    pub(super) containers: Vec<OfContainer>,
    pub(super) qos: QosClass,
    pub(super) claim: Claim,
}

#[derive(Debug)]
pub(super) struct OfContainer {
    pub(super) settings: Vec<Setting>,
    pub(super) oom_score_adj: i32,
}

/// The options of `run --image`, and the fields of its one container that they stand for.
const OPTIONS: [(&str, &str); 3] = [
    ("spec.containers[0].resources.limits.memory", "--memory"),
    ("spec.containers[0].resources.limits.cpu", "--cpus"),
    ("metadata.annotations.sandpod.dev/pids-limit", "--pids-limit"),
];

impl Decided {
    /// Names what was typed instead of the fields of a manifest that nobody wrote.
    pub(super) fn name_options(&mut self) {
        let all = self.containers.iter_mut().flat_map(|of| &mut of.settings).chain(&mut self.pod);
        for asked in all.filter_map(|setting| setting.asked_by.as_mut()) {
            if let Some((_, option)) = OPTIONS.iter().find(|(field, _)| field == asked) {
                *asked = (*option).to_owned();
            }
        }
    }
}

pub(super) fn decide(spec: &PodSpec, known: &Annotations<'_>, host: &Capacity) -> Result<Decided, Report> {
    let wanted = Wanted::from(spec);
    let qos = qos(&wanted);
    let swap = SwapRule::new(known.swap, qos, host)?;
    let containers = spec.containers.iter().enumerate().map(|(index, container)| OfContainer {
        settings: of_container(index, &wanted, container, known, &swap),
        oom_score_adj: oom_score_adj(index, &wanted, qos, host.memory_total),
    });
    Ok(Decided { pod: of_pod(&wanted), containers: containers.collect(), qos, claim: claim_of(&wanted) })
}

/// What the pod claims of the host: its effective request.
#[must_use]
pub fn claim(spec: &PodSpec) -> Claim {
    claim_of(&Wanted::from(spec))
}

pub(super) fn claim_of(wanted: &Wanted<'_>) -> Claim {
    let requested = |resource| pod_request(wanted, resource).map_or(0, |asked| asked.amount);
    Claim { cpu_millis: requested(Resource::Cpu), memory: requested(Resource::Memory) }
}

/// How an init container ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InitKind {
    /// Before the next one starts.
    First,
    /// With the pod (`restartPolicy: Always`, KEP-753).
    Sidecar,
}

/// What a pod needs of one resource at its most demanding moment: all sidecars and containers together, or an init
/// container and the sidecars before it (KEP-753, "Resources calculation for scheduling and pod admission"). `None`:
/// nobody says.
pub fn effective(containers: impl IntoIterator<Item = Option<u64>>, init: &[(InitKind, Option<u64>)]) -> Option<u64> {
    let add = |sum: Option<u64>, next: Option<u64>| match (sum, next) {
        (Some(sum), Some(next)) => Some(sum.saturating_add(next)),
        (one, other) => one.or(other),
    };
    let mut sidecars = None;
    let mut most = None;
    for (kind, amount) in init {
        let now = add(sidecars, *amount);
        most = most.max(now);
        if *kind == InitKind::Sidecar {
            sidecars = now;
        }
    }
    most.max(containers.into_iter().fold(sidecars, add))
}

/// An amount and the field that says so.
struct Asked {
    amount: u64,
    field: String,
}

fn field(place: &str, role: Role, resource: Resource) -> String {
    let list = match role {
        Role::Limit => "limits",
        Role::Request => "requests",
    };
    format!("{place}.resources.{list}.{resource}")
}

fn limit(place: &str, of: &Resources, resource: Resource) -> Option<Asked> {
    of.limits.get(resource).map(|amount| Asked { amount, field: field(place, Role::Limit, resource) })
}

/// Where a container requests nothing, its limit is its request (Kubernetes' SetDefaults_Pod).
fn request(place: &str, of: &Resources, resource: Resource) -> Option<Asked> {
    match of.requests.get(resource) {
        Some(amount) => Some(Asked { amount, field: field(place, Role::Request, resource) }),
        None => limit(place, of, resource),
    }
}

/// `spec.containers[]` is all of them, `spec.containers[0]` the only one.
fn all_containers(wanted: &Wanted<'_>) -> &'static str {
    if wanted.containers.len() == 1 { "spec.containers[0]" } else { "spec.containers[]" }
}

/// The pod's own request, else its containers' together, else the pod's own limit (KEP-2837, SetDefaults_Pod).
fn pod_request(wanted: &Wanted<'_>, resource: Resource) -> Option<Asked> {
    let own = wanted.pod;
    if let Some(amount) = own.requests.get(resource) {
        return Some(Asked { amount, field: field("spec", Role::Request, resource) });
    }
    let asked = |container: &&Resources| container.request(resource);
    let Some(amount) = effective(wanted.containers.iter().map(asked), &[]) else {
        return limit("spec", own, resource);
    };
    let said = wanted.containers.iter().any(|container| container.requests.get(resource).is_some());
    let role = if said { Role::Request } else { Role::Limit };
    Some(Asked { amount, field: field(all_containers(wanted), role, resource) })
}

/// The pod's own limit; else the sum of its containers', if each has one (ResourceConfigForPod). Huge pages are the
/// exception: without a limit a container may have none of them.
fn pod_limit(wanted: &Wanted<'_>, resource: Resource) -> Option<Asked> {
    let own = limit("spec", wanted.pod, resource);
    let limits = || wanted.containers.iter().map(|container| container.limits.get(resource));
    let unlimited = !matches!(resource, Resource::HugePages(_)) && limits().any(|limit| limit.is_none());
    if own.is_some() || unlimited {
        return own;
    }
    let field = field(all_containers(wanted), Role::Limit, resource);
    effective(limits(), &[]).map(|amount| Asked { amount, field })
}

/// Of cpu and memory, which an update can change.
pub(super) fn amounts_of_pod(wanted: &Wanted<'_>) -> Vec<Setting> {
    let mut settings = Vec::new();
    settings.extend(pod_limit(wanted, Resource::Cpu).map(cpu_max));
    // Without a request the pod keeps the kernel's weight, 100: beside it are your own programs, and not other pods only.
    settings.extend(pod_request(wanted, Resource::Cpu).map(|asked| cpu_weight_setting(Some(asked))));
    settings.extend(pod_limit(wanted, Resource::Memory).map(memory_max));
    settings.extend(pod_request(wanted, Resource::Memory).and_then(memory_low));
    settings
}

fn of_pod(wanted: &Wanted<'_>) -> Vec<Setting> {
    let mut settings = amounts_of_pod(wanted);
    let everyone = wanted.containers.iter().copied().chain([wanted.pod]);
    let pages: BTreeSet<u64> = everyone.flat_map(|resources| resources.limits.hugepages.keys().copied()).collect();
    let huge = |page| pod_limit(wanted, Resource::HugePages(page)).map(|limit| hugetlb_max(page, limit));
    settings.extend(pages.into_iter().filter_map(huge));
    settings
}

fn place(index: usize) -> String {
    format!("spec.containers[{index}]")
}

/// Without a limit of its own a container has the pod's: runtimes such as Java's size themselves by what stands there.
fn limit_of_container(index: usize, wanted: &Wanted<'_>, resource: Resource) -> Option<Asked> {
    let own = wanted.containers.get(index).and_then(|own| limit(&place(index), own, resource));
    own.or_else(|| limit("spec", wanted.pod, resource))
}

/// Of cpu and memory, which an update can change.
pub(super) fn amounts_of_container(index: usize, wanted: &Wanted<'_>) -> Vec<Setting> {
    let limit_of = |resource| limit_of_container(index, wanted, resource);
    let request_of = |resource| request(&place(index), wanted.containers.get(index)?, resource);
    let mut settings = Vec::new();
    settings.extend(limit_of(Resource::Cpu).map(cpu_max));
    let cpu = request_of(Resource::Cpu).or_else(|| limit("spec", wanted.pod, Resource::Cpu));
    settings.push(cpu_weight_setting(cpu));
    settings.extend(limit_of(Resource::Memory).map(memory_max));
    settings.extend(request_of(Resource::Memory).and_then(memory_low));
    settings
}

fn of_container(
    index: usize,
    wanted: &Wanted<'_>,
    container: &Container,
    known: &Annotations<'_>,
    swap: &SwapRule,
) -> Vec<Setting> {
    let own = &container.resources;
    let mut settings = amounts_of_container(index, wanted);
    settings.extend(swap.setting(own, limit_of_container(index, wanted, Resource::Memory).is_some()));
    // All of a container or nothing: the kubelet's default on cgroup v2 since 1.28 (singleProcessOOMKill: false).
    settings.push(Setting { value: Value::MemoryOomGroup, asked_by: None });
    settings.push(match known.pids_limit {
        Some(limit) => Setting { value: Value::PidsMax(limit), asked_by: Some(annotations::path(PIDS_LIMIT)) },
        None => Setting { value: Value::PidsMax(Some(DEFAULT_PIDS)), asked_by: None },
    });
    let huge =
        |page: &u64| limit(&place(index), own, Resource::HugePages(*page)).map(|limit| hugetlb_max(*page, limit));
    settings.extend(own.limits.hugepages.keys().filter_map(huge));
    settings
}

/// The kubelet's MilliCPUToQuota: microseconds in each 100 ms.
#[must_use]
pub fn cpu_quota(millis: u64) -> u64 {
    (millis.saturating_mul(PERIOD) / 1000).max(LEAST_QUOTA)
}

/// The kubelet's MilliCPUToShares, then its CPUSharesToCPUWeight: 2–262144 shares become 1–10000 linearly (KEP-2254).
/// The newer, curved formula of runc and crun (1 cpu is 100) is theirs; the pod's cgroup is the kubelet's.
#[must_use]
pub fn cpu_weight(millis: u64) -> u64 {
    let shares = (millis.saturating_mul(1024) / 1000).clamp(2, 262_144);
    1 + (shares - 2) * 9999 / 262_142
}

fn cpu_max(limit: Asked) -> Setting {
    let value = Value::CpuMax { quota: Some(cpu_quota(limit.amount)), period: PERIOD };
    Setting { value, asked_by: Some(limit.field) }
}

/// Who requests nothing has the least weight (the kubelet's MinShares): it yields to whoever asked.
fn cpu_weight_setting(request: Option<Asked>) -> Setting {
    let value = Value::CpuWeight(cpu_weight(request.as_ref().map_or(0, |asked| asked.amount)));
    Setting { value, asked_by: request.map(|asked| asked.field) }
}

fn memory_max(limit: Asked) -> Setting {
    Setting { value: Value::MemoryMax(Some(limit.amount)), asked_by: Some(limit.field) }
}

/// Kubernetes' MemoryQoS (KEP-2570) writes `memory.min`, which the kernel keeps even if it must kill elsewhere for it:
/// a kubelet's to decide for its node, but not a user's for a machine that is shared. `memory.low` gives way then.
fn memory_low(request: Asked) -> Option<Setting> {
    (request.amount > 0).then_some(Setting { value: Value::MemoryLow(request.amount), asked_by: Some(request.field) })
}

fn hugetlb_max(page: u64, limit: Asked) -> Setting {
    let value = Value::HugetlbMax { page: kernel_page_name(page), bytes: limit.amount };
    Setting { value, asked_by: Some(limit.field) }
}

/// As the kernel names the files (`mem_fmt` in mm/hugetlb_cgroup.c): `2MB`, `1GB`.
fn kernel_page_name(bytes: u64) -> String {
    match bytes {
        gigabytes if gigabytes >= 1 << 30 => format!("{}GB", gigabytes >> 30),
        megabytes if megabytes >= 1 << 20 => format!("{}MB", megabytes >> 20),
        kilobytes => format!("{}KB", kilobytes >> 10),
    }
}

/// The class of the pod's own resources where it has some, else of all its containers'
/// (<https://kubernetes.io/docs/concepts/workloads/pods/pod-qos/>). An amount of 0 counts as none.
pub(super) fn qos(wanted: &Wanted<'_>) -> QosClass {
    const COUNTED: [Resource; 2] = [Resource::Cpu, Resource::Memory];
    let some = |amount: Option<u64>| amount.filter(|amount| *amount > 0);
    let classes: Vec<[(Option<u64>, Option<u64>); 2]> = if is_set(wanted.pod) {
        let request = |resource| pod_request(wanted, resource).map(|asked| asked.amount);
        vec![COUNTED.map(|resource| (some(request(resource)), some(wanted.pod.limits.get(resource))))]
    } else {
        let of = |resources: &Resources| {
            COUNTED.map(|resource| (some(resources.request(resource)), some(resources.limits.get(resource))))
        };
        wanted.containers.iter().map(|resources| of(resources)).collect()
    };
    let mut all = classes.iter().flatten();
    if classes.iter().flatten().all(|pair| *pair == (None, None)) {
        QosClass::BestEffort
    } else if all.all(|(request, limit)| limit.is_some() && request == limit) {
        QosClass::Guaranteed
    } else {
        QosClass::Burstable
    }
}

/// Whether there are resources of the pod's own (Kubernetes' IsPodLevelResourcesSet).
fn is_set(resources: &Resources) -> bool {
    *resources != Resources::default()
}

/// What is written to `memory.swap.max`.
enum SwapRule {
    /// The kubelet's NoSwap: where memory is limited, so that the limit is not passed by way of the disk.
    None,
    /// Its LimitedSwap: of the host's swap a container has the part that its request is of the host's memory.
    Limited { memory: u64, swap: u64, qos: QosClass },
}

impl SwapRule {
    fn new(asked: Swap, qos: QosClass, host: &Capacity) -> Result<SwapRule, Report> {
        match (asked, host.memory_total, host.swap_total) {
            (Swap::None, ..) => Ok(SwapRule::None),
            (Swap::Limited, Some(memory), Some(swap)) if memory > 0 => Ok(SwapRule::Limited { memory, swap, qos }),
            (Swap::Limited, ..) => {
                Err(Report::new(exit_code::FAILURE, format!("annotation {SWAP} cannot be followed"))
                    .because(
                        "`limited` is a part of the host's swap, and /proc/meminfo does not tell how much there is",
                    )
                    .hint("leave it out: without swap is the default"))
            }
        }
    }

    /// ConfigureLimitedSwap of the kubelet: only for containers of Burstable pods that request less than their limit.
    fn setting(&self, own: &Resources, limited: bool) -> Option<Setting> {
        let SwapRule::Limited { memory, swap, qos } = self else {
            return limited.then_some(Setting { value: Value::MemorySwapMax(Some(0)), asked_by: None });
        };
        let request = own.request(Resource::Memory).unwrap_or(0);
        let share = if *qos == QosClass::Burstable && own.limits.memory != Some(request) {
            let part = u128::from(request) * u128::from(*swap) / u128::from(*memory);
            u64::try_from(part).unwrap_or(u64::MAX).min(*swap)
        } else {
            0
        };
        Some(Setting { value: Value::MemorySwapMax(Some(share)), asked_by: Some(annotations::path(SWAP)) })
    }
}
