//! `kill -9` of anything at any moment: no process, mount or file of the pod stays, and its name can be used again.
//!
//! Moments are random; a failure prints the seed, and `CRASH_SEED=N` rolls the same ones.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::crash_support::processes::{self, Process};
use crate::crash_support::{Dice, Ground, Running, Said};
use crate::rounds::rounds;

/// Several shapes of pod: each dies in its own way.
fn manifests(ground: &Ground) -> Vec<(&'static str, String)> {
    let mut shapes = vec![
        (
            "host",
            "containers:\n  - {name: a, image: \"host:\", command: [sh, -c, \"sleep 1000 & sleep 1000\"]}\n  \
             - {name: b, image: \"host:\", command: [sleep, \"1000\"]}\n"
                .to_owned(),
        ),
        (
            "shared",
            "shareProcessNamespace: true\n  containers:\n  - name: a\n    image: \"host:\"\n    \
             command: [sh, -c, \"setsid sh -c 'sleep 1000' & trap '' TERM; sleep 1000\"]\n  \
             - {name: b, image: \"host:\", command: [sleep, \"1000\"]}\n"
                .to_owned(),
        ),
        (
            "loops",
            "restartPolicy: Always\n  containers:\n  - {name: a, image: \"host:\", command: [\"true\"]}\n  \
             - {name: b, image: \"host:\", command: [sh, -c, \"exit 3\"]}\n"
                .to_owned(),
        ),
    ];
    if let Some(root) = ground.busybox() {
        shapes.push((
            "files",
            format!(
                "volumes: [{{name: v, emptyDir: {{}}}}, {{name: m, emptyDir: {{medium: Memory}}}}]\n  containers:\n  \
                 - name: a\n    image: rootfs:{root}\n    volumeMounts: [{{name: v, mountPath: /v}}, {{name: m, \
                 mountPath: /m}}]\n    command: [sh, -c, \"mkdir -p /x/y/z /v/d; touch /x/y/f /v/d/f /m/f; sleep 1000\"]\n  \
                 - name: b\n    image: rootfs:{root}\n    securityContext: {{runAsUser: 1000}}\n    \
                 volumeMounts: [{{name: v, mountPath: /v}}]\n    command: [sh, -c, \"touch /v/u; sleep 1000\"]\n",
                root = root.display()
            ),
        ));
    }
    let document = |name: &str, spec: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  terminationGracePeriodSeconds: 1\n  {spec}"
        )
    };
    shapes
        .into_iter()
        .map(|(name, spec)| (name, ground.write(&format!("{name}.yaml"), &document(name, &spec))))
        .collect()
}

/// What is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Victim {
    /// The command itself.
    Command,
    Supervisor,
    Pause,
    /// newuidmap or newgidmap.
    MapTool,
    /// Any child of the supervisor inside the pod: launcher, bridge, container init.
    Inside,
}

/// The process that plays this part now. The supervisor is the command's fork, then ours when the command has ended.
fn find(victim: Victim, command: i32) -> Option<Process> {
    let all = processes::descendants();
    let me = std::process::id().cast_signed();
    let is_supervisor = |process: &Process| {
        process.state != 'Z'
            && process.pid != command
            && (process.parent == command || process.parent == me)
            && process.name.starts_with("sandpod")
            && process.pids.len() == all[0].pids.len()
    };
    let supervisor = all.iter().find(|process| is_supervisor(process));
    let below = |wanted: &dyn Fn(&Process) -> bool| {
        let supervisor = supervisor?.pid;
        all.iter()
            .filter(|process| process.parent == supervisor && process.state != 'Z')
            .find(|process| wanted(process))
    };
    match victim {
        Victim::Command => all.iter().find(|process| process.pid == command),
        Victim::Supervisor => supervisor,
        // Before its exec it is pid 1 of the pod's pid namespace, and called as we are.
        Victim::Pause => below(&|process| {
            process.pids.len() == all[0].pids.len() + 1 && process.pids.last() == Some(&1) && !is_map_tool(process)
        }),
        Victim::MapTool => below(&is_map_tool),
        Victim::Inside => {
            below(&|process| process.pids.last() != Some(&1) || process.pids.len() > all[0].pids.len() + 1)
        }
    }
    .cloned()
}

fn is_map_tool(process: &Process) -> bool {
    ["newuidmap", "newgidmap"].contains(&process.name.as_str())
}

/// One pod, from `run` to an empty disk.
struct Round<'a> {
    ground: &'a Ground,
    name: &'a str,
    manifest: &'a str,
    userns: &'a str,
    /// How long a whole start takes here and now.
    start: Duration,
}

impl Round<'_> {
    fn command(&self, detach: bool) -> Running {
        let mut arguments = vec!["run", "--userns", self.userns, self.manifest];
        arguments.extend(detach.then_some("-d"));
        Running::start(self.ground.command(&arguments))
    }

    /// The issue says 1 s; a machine so slow that a start takes 100 ms gets more.
    fn patience(&self) -> Duration {
        (self.start * 10).max(Duration::from_secs(1))
    }

    /// After the kill: the processes go by themselves, `rm` leaves nothing.
    #[track_caller]
    fn nothing_stays(&self, why: &str) {
        self.ground.no_process_stays(self.patience(), why);
        self.rm(why);
    }

    #[track_caller]
    fn rm(&self, why: &str) {
        let listed = self.ground.run(&["ps", "-a"]);
        assert_eq!(listed.code, Some(0), "{why}: {}", listed.explain());
        let known = listed.stdout.lines().any(|line| line.split_whitespace().any(|word| word == self.name));
        let said = self.ground.run(&["rm", "-f", self.name]);
        if known {
            assert_eq!(said.code, Some(0), "{why}: {}{}", said.explain(), listed.explain());
        } else {
            assert!(said.stderr.contains("there is no pod"), "{why}: {}", said.explain());
            // Killed between its directories and its name.
            let said = self.ground.run(&["rm", "-f", "-a"]);
            assert_eq!(said.code, Some(0), "{why}: {}", said.explain());
        }
        self.ground.no_process_stays(self.patience(), why);
        self.ground.is_empty(why);
    }

    /// The name is free and everything works.
    #[track_caller]
    fn runs_again(&self, why: &str) {
        let said = Said::of(self.command(true), "run -d".to_owned());
        assert_eq!(said.code, Some(0), "{why}: {}", said.explain());
        self.rm(why);
    }
}

/// How long `run -d` takes, at its quickest of three.
fn time_of_start(ground: &Ground, name: &str, manifest: &str, userns: &str) -> Duration {
    (0..3)
        .map(|_| {
            let begin = Instant::now();
            ground.run(&["run", "-d", "--userns", userns, manifest]).ends_with(0);
            let took = begin.elapsed();
            ground.run(&["rm", "-f", name]).ends_with(0);
            ground.no_process_stays(Duration::from_secs(10), "a pod that was removed in peace");
            took
        })
        .min()
        .expect("three")
}

/// Kills `victims` at `count` random moments of `run -d`; how often each was there to be killed.
fn kill_at_random(ground: &Ground, victims: &[Victim], count: u32) -> BTreeMap<Victim, u32> {
    let mut dice = Dice::new();
    let manifests = manifests(ground);
    let modes = ["isolated", "root-is-you"];
    let starts: Vec<Duration> =
        manifests.iter().map(|(name, manifest)| time_of_start(ground, name, manifest, modes[0])).collect();
    let mut met = BTreeMap::new();
    for number in 0..count {
        let shape = dice.below(manifests.len() as u64) as usize;
        let (name, manifest) = &manifests[shape];
        let victim = victims[dice.below(victims.len() as u64) as usize];
        let userns = modes[dice.below(2) as usize];
        let moment = dice.moment(starts[shape] * 3 / 2);
        let round = Round { ground, name, manifest, userns, start: starts[shape] };
        let why = format!(
            "{victim:?} of `{name}` ({userns}) killed after {moment:?}, round {number}, CRASH_SEED={}",
            dice.seed
        );

        let begin = Instant::now();
        let command = round.command(true);
        std::thread::sleep(moment.saturating_sub(begin.elapsed()));
        // Not there yet or no longer: whoever is next in its place.
        let order = [victim, Victim::Supervisor, Victim::Command];
        let killed =
            order.into_iter().find(|victim| find(*victim, command.pid()).is_some_and(|it| processes::kill(&it)));
        if let Some(killed) = killed {
            *met.entry(killed).or_default() += 1;
        }
        let why = format!("{why} (in fact: {killed:?})");
        let said = Said::of(command, format!("run -d: {why}"));
        match killed {
            Some(Victim::Supervisor | Victim::Pause) => round.nothing_stays(&format!("{why}{}", said.explain())),
            _ => round.rm(&format!("{why}{}", said.explain())),
        }
        if number % 10 == 0 {
            round.runs_again(&why);
        }
    }
    met
}

#[test]
fn supervisor_or_pause_at_random_moments() {
    let Some(ground) = Ground::with_subids("supervisor_or_pause_at_random_moments") else { return };
    let count = rounds("supervisor_or_pause_at_random_moments", 60, 2000);
    let met = kill_at_random(&ground, &[Victim::Supervisor, Victim::Pause], count);
    let of = |victim: Victim| met.get(&victim).copied().unwrap_or(0);
    // Or the moments were not spread over the start: most find a supervisor, many a pause.
    assert!(of(Victim::Supervisor) + of(Victim::Pause) > count / 2, "{met:?}");
    assert!(of(Victim::Pause) > count / 10, "{met:?}");
}

#[test]
fn anything_else_at_random_moments() {
    let Some(ground) = Ground::with_subids("anything_else_at_random_moments") else { return };
    let count = rounds("anything_else_at_random_moments", 20, 600);
    kill_at_random(&ground, &[Victim::Command, Victim::MapTool, Victim::Inside], count);
}

/// `rm` and `stop` themselves die halfway, or the supervisor does while they wait for it.
#[test]
fn rm_and_stop_at_random_moments() {
    let Some(ground) = Ground::with_subids("rm_and_stop_at_random_moments") else { return };
    let mut dice = Dice::new();
    let manifests = manifests(&ground);
    for number in 0..rounds("rm_and_stop_at_random_moments", 15, 500) {
        let (name, manifest) = &manifests[dice.below(manifests.len() as u64) as usize];
        let round = Round { ground: &ground, name, manifest, userns: "isolated", start: Duration::from_millis(100) };
        let began = Instant::now();
        Said::of(round.command(true), "run -d".to_owned()).ends_with(0);
        // A removal takes about as long as a start.
        let moment = dice.moment(began.elapsed());
        let arguments: &[&str] = if dice.below(2) == 0 { &["rm", "-f", name] } else { &["stop", "-t", "1", name] };
        let victim = [Victim::Command, Victim::Supervisor, Victim::Pause][dice.below(3) as usize];
        let why = format!("{victim:?} killed {moment:?} into {arguments:?}, round {number}, CRASH_SEED={}", dice.seed);
        let command = Running::start(ground.command(arguments));
        std::thread::sleep(moment);
        if let Some(process) = find(victim, command.pid()) {
            processes::kill(&process);
        }
        let said = Said::of(command, why.clone());
        // Killed itself, or done, or told that it could not reach the supervisor.
        assert!(matches!(said.code, None | Some(0 | 125)), "{}", said.explain());
        round.rm(&format!("{why}{}", said.explain()));
        if number % 10 == 0 {
            round.runs_again(&why);
        }
    }
}

/// The command, the supervisor or pause is killed while the command shows the pod's output.
#[test]
fn an_attached_run() {
    let Some(ground) = Ground::with_subids("an_attached_run") else { return };
    let manifests = manifests(&ground);
    for (name, manifest) in &manifests {
        let round = Round { ground: &ground, name, manifest, userns: "isolated", start: Duration::from_millis(100) };
        for victim in [Victim::Command, Victim::Supervisor, Victim::Pause] {
            let why = format!("{victim:?} of an attached `{name}`");
            let command = round.command(false);
            let deadline = Instant::now() + Duration::from_secs(30);
            // `loops` is Running for a moment only: its containers end at once.
            let started = ["Running", "CrashLoopBackOff"];
            while !started.iter().any(|status| ground.run(&["ps"]).stdout.contains(status)) {
                assert!(Instant::now() < deadline, "{why}: it never ran");
            }
            let process = find(victim, command.pid()).unwrap_or_else(|| panic!("{why}: not found"));
            assert!(processes::kill(&process), "{why}");
            if victim == Victim::Command {
                ground.run(&["ps"]).ends_with(0).says(name);
            }
            let said = Said::of(command, why.clone());
            assert_ne!(said.code, Some(0), "{}", said.explain());
            round.rm(&format!("{why}{}", said.explain()));
        }
    }
}
