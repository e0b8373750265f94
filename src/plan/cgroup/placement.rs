//! Where the pod's cgroups are made, and whether what is delegated there can hold all that the manifest asks.

use std::collections::BTreeSet;
use std::path::Path;

use super::{CgroupParent, CgroupPlan, CgroupTree, Nesting, SUPERVISOR, Setting, Value};
use crate::host::{CgroupFacts, Delegation, Membership, NoDelegation};
use crate::plan::resources::Decided;
use crate::plan::{CgroupsChoice, Degradation, degradation};
use crate::report::{Report, exit_code};

#[cfg(test)]
mod tests;

/// Enabled where they are delegated, for `stats`, also when no value needs them.
const MEASURED: [&str; 4] = ["cpu", "memory", "pids", "io"];
/// Pause never forks. Whoever makes it do otherwise (by ptrace, in a shared pid namespace) gets no process out of it.
const PAUSE: Setting = Setting { value: Value::PidsMax(Some(1)), asked_by: None };
/// What systemd can delegate at most: Delegate= of systemd.resource-control(5) knows no `hugetlb`.
const SYSTEMD_DELEGATES: [&str; 5] = ["cpu", "cpuset", "io", "memory", "pids"];
/// Bytes of a file name (NAME_MAX), and of a unit's name with its suffix (systemd.unit(5)).
const NAME_MAX: usize = 255;
const SCOPE: &str = ".scope";

/// Chooses the parent, and takes out of `resources` the defaults of ours that cannot be held there. `pod`: name and id.
pub(in crate::plan) fn place(
    pod: (&str, &str),
    resources: &mut Decided,
    facts: &CgroupFacts,
    choice: CgroupsChoice,
) -> Result<(CgroupPlan, Option<Degradation>), Report> {
    let name = tree_name(pod.0, pod.1);
    let (parent, controllers) = match (choice, &facts.delegation) {
        (CgroupsChoice::Disabled, _) => {
            let waived: BTreeSet<&str> = asked(resources, |_| true).iter().map(|asked| asked.controller).collect();
            return Ok(inherited(resources, (!waived.is_empty()).then(|| degradation::no_limits(&waived))));
        }
        (CgroupsChoice::Auto, Delegation::None(why)) => {
            return without_delegation(resources, why, facts.asked.as_deref());
        }
        (CgroupsChoice::Auto, Delegation::Directory { path, controllers, ours }) => {
            (CgroupParent::Directory { path: path.clone(), leave: *ours == Membership::Inside }, controllers)
        }
        (CgroupsChoice::Auto, Delegation::SystemdScope { controllers }) => {
            (CgroupParent::SystemdScope { unit: format!("{name}{SCOPE}") }, controllers)
        }
    };
    let lacking = asked(resources, |setting| !controllers.contains(setting.value.controller()));
    if !lacking.is_empty() {
        return Err(lacks_controllers(&lacking, &parent, controllers));
    }
    let everywhere = resources.containers.iter_mut().map(|of| &mut of.settings).chain([&mut resources.pod]);
    everywhere.for_each(|settings| settings.retain(|setting| controllers.contains(setting.value.controller())));
    let settings = std::mem::take(&mut resources.pod);
    let pause = Vec::from_iter(Some(PAUSE).filter(|setting| controllers.contains(setting.value.controller())));
    let needed = settings.iter().chain(resources.containers.iter().flat_map(|of| &of.settings));
    let measured = MEASURED.into_iter().filter(|name| controllers.contains(*name));
    let enabled: BTreeSet<&str> = needed.map(|setting| setting.value.controller()).chain(measured).collect();
    let controllers = enabled.into_iter().map(str::to_owned).collect();
    Ok((CgroupPlan::Tree(CgroupTree { parent, name, controllers, settings, pause, nesting: Nesting::default() }), None))
}

fn inherited(resources: &mut Decided, degradation: Option<Degradation>) -> (CgroupPlan, Option<Degradation>) {
    resources.pod.clear();
    resources.containers.iter_mut().for_each(|of| of.settings.clear());
    (CgroupPlan::Inherited, degradation)
}

/// `sandpod-<pod>-<id>`; a pod's name is cut where the whole would be too long for a directory or a scope. The id keeps
/// it unique.
fn tree_name(pod: &str, id: &str) -> String {
    let room = NAME_MAX - SUPERVISOR.len() - "sandpod--".len() - id.len();
    let end = pod.char_indices().map(|(start, c)| start + c.len_utf8()).take_while(|end| *end <= room).last();
    format!("sandpod-{}-{id}", &pod[..end.unwrap_or(0)])
}

/// A field of the manifest, and what it needs.
struct AskedField {
    field: String,
    files: Vec<String>,
    controller: &'static str,
}

/// `needed by spec.containers[0,1].resources.limits.memory (memory.max, memory.low)`: a line for each kind of field,
/// however many containers have it.
fn needed_by(report: Report, asked: &[AskedField]) -> Report {
    let mut kinds: Vec<(String, Vec<&str>, &[String])> = Vec::new();
    for AskedField { field, files, .. } in asked {
        let split = field.split_once('[').and_then(|(head, rest)| Some((head, rest.split_once(']')?)));
        let (kind, index) = match split {
            Some((head, (index, rest))) => (format!("{head}[]{rest}"), Some(index)),
            None => (field.clone(), None),
        };
        match kinds.iter_mut().find(|(known, _, with)| *known == kind && with == files) {
            Some((_, indices, _)) => indices.extend(index),
            None => kinds.push((kind, index.into_iter().collect(), files)),
        }
    }
    let line = |(kind, indices, files): (String, Vec<&str>, &[String])| {
        let field = kind.replacen("[]", &format!("[{}]", indices.join(",")), 1);
        format!("needed by {field} ({})", files.join(", "))
    };
    kinds.into_iter().map(line).fold(report, Report::because)
}

/// Each field once. The pod's sums are left out: they ask for nothing that their parts have not asked for.
fn asked(resources: &Decided, counts: impl Fn(&Setting) -> bool) -> Vec<AskedField> {
    let all = resources.containers.iter().flat_map(|of| &of.settings).chain(&resources.pod);
    let mut found: Vec<AskedField> = Vec::new();
    for setting in all.filter(|setting| counts(setting)) {
        let Some(field) = setting.asked_by.as_ref().filter(|field| !field.contains("[]")) else { continue };
        let (file, controller) = (setting.value.file(), setting.value.controller());
        match found.iter_mut().find(|known| known.field == *field) {
            Some(known) if known.files.contains(&file) => {}
            Some(known) => known.files.push(file),
            None => found.push(AskedField { field: field.clone(), files: vec![file], controller }),
        }
    }
    found
}

/// `parent`: `--cgroup-parent`. Whatever keeps it from being used, a pod that was to be below it does not run without.
fn without_delegation(
    resources: &mut Decided,
    why: &NoDelegation,
    parent: Option<&Path>,
) -> Result<(CgroupPlan, Option<Degradation>), Report> {
    let needed = asked(resources, |_| true);
    if needed.is_empty() && parent.is_none() && !matches!(why, NoDelegation::Asked { .. }) {
        return Ok(inherited(resources, Some(degradation::no_cgroup(why))));
    }
    let what = if needed.is_empty() {
        "the cgroup of --cgroup-parent cannot be used".to_owned()
    } else {
        "the pod has limits or requests, and there is no cgroup that could hold it to them".to_owned()
    };
    let mut report = Report::new(exit_code::FAILURE, what);
    if let (Some(parent), false) = (parent, matches!(why, NoDelegation::Asked { .. })) {
        report = report.because(format!("asked for by --cgroup-parent {}", parent.display()));
    }
    let report = needed_by(report.because(why.reason()), &needed);
    let hint = match parent {
        // `--cgroups=disabled` beside it would be a contradiction.
        Some(_) if needed.is_empty() && !matches!(why, NoDelegation::Asked { .. }) => {
            format!("leave --cgroup-parent out: the pod then has no cgroup of its own\nto have one: {}", why.fix())
        }
        _ => join_fixes(&why.fix()),
    };
    Err(report.hint(hint))
}

fn lacks_controllers(lacking: &[AskedField], parent: &CgroupParent, there: &BTreeSet<String>) -> Report {
    let names: BTreeSet<&str> = lacking.iter().map(|asked| asked.controller).collect();
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    let (noun, verb) = if names.len() == 1 { ("controller", "is") } else { ("controllers", "are") };
    let what = format!("the cgroup {noun} {} {verb} not delegated, and the pod needs {}", quoted.join(", "), {
        if names.len() == 1 { "it" } else { "them" }
    });
    let there = if there.is_empty() {
        "nothing".to_owned()
    } else {
        Vec::from_iter(there.iter().map(String::as_str)).join(" ")
    };
    let place = match parent {
        CgroupParent::Directory { path, .. } => format!("{}/cgroup.controllers says: {there}", path.display()),
        CgroupParent::SystemdScope { .. } => {
            format!("cgroup.controllers of your systemd (user@.service) says: {there}")
        }
    };
    let report = needed_by(Report::new(exit_code::FAILURE, what), lacking);
    report.because(place).hint(join_fixes(&controllers_fix(&names, parent)))
}

/// The way out that needs nobody's help comes first, and says its price.
fn join_fixes(fix: &str) -> String {
    format!("--cgroups=disabled runs it here and now, without any limits\nto have them: {fix}")
}

fn controllers_fix(names: &BTreeSet<&str>, parent: &CgroupParent) -> String {
    let by_systemd = match parent {
        CgroupParent::SystemdScope { .. } => true,
        CgroupParent::Directory { path, .. } => is_of_user_service(path),
    };
    if by_systemd && names.iter().all(|name| SYSTEMD_DELEGATES.contains(name)) {
        return format!(
            "sudo mkdir -p /etc/systemd/system/user@.service.d && printf '[Service]\\nDelegate={}\\n' | \
             sudo tee /etc/systemd/system/user@.service.d/delegate.conf && sudo systemctl daemon-reload, then end all \
             your sessions and log in again (an account that lingers by `loginctl enable-linger` needs a reboot, or \
             `sudo systemctl restart user@UID.service`)",
            SYSTEMD_DELEGATES.join(" ")
        );
    }
    let enable: Vec<String> = names.iter().map(|name| format!("+{name}")).collect();
    let enable = enable.join(" ");
    match parent {
        CgroupParent::Directory { path, .. } if !by_systemd => format!(
            "enable it from the outermost cgroup down to the one above: echo '{enable}' | sudo tee {}; in a container \
             that is for whoever starts it (`docker run --cgroup-parent=`, or a pod's node)",
            path.parent().unwrap_or(path).join("cgroup.subtree_control").display()
        ),
        _ => format!(
            "systemd cannot delegate it: make a cgroup outside of systemd's, enable '{enable}' in \
             cgroup.subtree_control of all above it, give it to your user (chown it, its cgroup.procs and \
             cgroup.subtree_control), and name it by --cgroup-parent"
        ),
    }
}

/// Below `user@1000.service`, whose controllers a drop-in decides.
fn is_of_user_service(path: &Path) -> bool {
    path.iter().filter_map(|part| part.to_str()).any(|part| part.starts_with("user@") && part.ends_with(".service"))
}
