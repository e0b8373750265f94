//! The order of a run, declared once. Errors, the architecture page and its test all read this list.

use serde::{Deserialize, Serialize};

macro_rules! steps {
    ($($(#[$doc:meta])* $name:ident => $doing:literal,)*) => {
        /// One thing that is done on the way from the manifest's text to the exec of the user's command.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case")]
        pub enum Step { $($(#[$doc])* $name,)* }

        impl Step {
            /// All of them, in the order in which a run passes through them.
            pub const ALL: &'static [Step] = &[$(Step::$name,)*];

            /// What an error says was being done: "reading the manifest".
            #[must_use]
            pub fn doing(self) -> &'static str {
                match self { $(Step::$name => $doing,)* }
            }
        }
    };
}

steps! {
    ReadManifest => "reading the manifest",
    ParseManifest => "checking the manifest",
    ProbeHost => "looking at this host",
    PlanPod => "planning the pod",
    /// Before anything of the pod exists: all of them, or no pod.
    BindPorts => "binding the published ports",
    CreateRecord => "reserving the pod's name and directories",
    /// Before the supervisor, which is born in its leaf; by the supervisor, where systemd gives a scope.
    MakeCgroups => "making the pod's cgroups",
    StartSupervisor => "starting the supervisor",
    /// clone3 with all of the pod's namespaces; the user namespace is made first and owns the rest.
    CreateNamespaces => "creating the pod's namespaces",
    WriteIdMaps => "writing the id maps",
    /// Beside the maps, which other processes write.
    PrepareVolumes => "preparing volumes",
    BecomeRoot => "taking on the pod's root id",
    SetUpSandbox => "setting up the sandbox",
    StartPause => "starting pause",
    /// Only where ports are published; also how `port-forward` gets into a pod.
    StartPortProxy => "starting the port proxy",
    /// Beside the containers' preparation; their commands wait for it.
    AttachNetwork => "connecting the pod to the network",
    /// The launcher, one per container start.
    EnterPod => "entering the pod's namespaces",
    OpenSources => "opening the root file system and volumes",
    BuildRoot => "building the root file system",
    CreateContainer => "creating the container's namespaces",
    MountFilesystems => "mounting the container's file systems",
    EnterRoot => "entering the root file system",
    OpenStdio => "opening stdin, stdout and stderr",
    DropPrivileges => "dropping privileges",
    ExecuteCommand => "executing the command",
}
