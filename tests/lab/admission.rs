//! Two pods of which only one fits, at the same moment.

use std::path::PathBuf;
use std::process::{Child, Stdio};

use serde_json::json;

use crate::lab_support::Lab;
use crate::lab_support::support::{and, idle};

#[test]
fn of_two_at_once_one_is_admitted() {
    let Some(lab) = Lab::enter("of_two_at_once_one_is_admitted") else { return };
    let meminfo = std::fs::read_to_string("/proc/meminfo").expect("/proc");
    let total = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB"));
    let total: u64 = total.and_then(|kb| kb.parse().ok()).expect("a number");
    let wanted = json!({ "resources": { "requests": { "memory": format!("{}Ki", total * 55 / 100) } } });
    let manifest = |name: &str| {
        let path = lab.manifest(name, &json!({}), &json!({ "containers": [and(idle("main"), wanted.clone())] }));
        path.to_str().expect("UTF-8").to_owned()
    };
    let names = ["one", "two"];
    let manifests = names.map(manifest);
    let run = |manifest: &String| -> Child {
        let mut command = lab.home.command(&["run", "-d", "-q", manifest]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts")
    };
    let mut won = [0, 0];
    for round in 0..lab.rounds("of_two_at_once_one_is_admitted", 10, 100) {
        // Who is started first takes turns.
        let order = if round % 2 == 0 { [0, 1] } else { [1, 0] };
        let started = order.map(|which| (which, run(&manifests[which])));
        let ended = started.map(|(which, child)| (which, child.wait_with_output().expect("waitpid")));
        let shown = || ended.iter().map(|(which, said)| format!("{}: {said:?}", names[*which])).collect::<Vec<_>>();
        let codes = ended.each_ref().map(|(_, said)| said.status.code());
        assert!(codes == [Some(0), Some(125)] || codes == [Some(125), Some(0)], "round {round}: {:#?}", shown());
        let [(winner, _), (loser, refusal)] =
            if codes[0] == Some(0) { [&ended[0], &ended[1]] } else { [&ended[1], &ended[0]] };
        let refusal = String::from_utf8_lossy(&refusal.stderr);
        for word in ["requests more than there is", &format!("`{}`", names[*winner])] {
            assert!(refusal.contains(word), "round {round}: {} is refused without {word}: {refusal}", names[*loser]);
        }
        won[*winner] += 1;
        let listed = lab.home.sandpod(&["ps"]).ends_with(0).stdout;
        assert!(listed.contains(names[*winner]) && !listed.contains(names[*loser]), "round {round}: {listed}");
        lab.home.sandpod(&["rm", "-f", names[*winner]]).ends_with(0);
        assert_eq!((lab.home.remains(), lab.trees()), (Vec::<PathBuf>::new(), Vec::new()), "round {round}");
    }
    eprintln!("won: {won:?}");
}
