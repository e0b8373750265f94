use super::super::fixtures::*;
use super::super::{MountKind, RootPlan, plan};
use super::*;

fn config() -> ImageConfig {
    ImageConfig {
        entrypoint: vec!["/entry".to_owned()],
        command: vec!["serve".to_owned()],
        exposed_ports: vec!["80/tcp".to_owned()],
        stop_signal: Some("SIGQUIT".to_owned()),
        ..ImageConfig::default()
    }
}

#[test]
fn an_image_that_is_not_here_is_refused_with_the_command_that_brings_it() {
    let report = refused(&pod(vec![of_nginx()]));
    assert_eq!(report.what, "container `web`: image docker.io/library/nginx:1.25 is not here");
    assert_eq!(report.hint.as_deref(), Some("sandpod pull docker.io/library/nginx:1.25"));
    assert_eq!(report.field.as_deref(), Some("spec.containers[0].image"));
}

#[test]
fn an_unknown_image_can_be_shown() {
    let request = Request { unknown_images: UnknownImages::Shown, ..request() };
    let plan = plan(&pod(vec![of_nginx()]), &facts_for_tests(), &request).expect("shown");
    assert_eq!(plan.containers[0].from_image, None);
    assert!(plan.containers[0].process.argv.is_empty());
    let text = super::super::render::Text(&plan).to_string();
    assert!(text.contains("entrypoint unknown"), "{text}");
}

#[test]
fn layers_are_below_each_other_as_the_image_has_them() {
    let plan = plan(&pod(vec![of_nginx()]), &facts_for_tests(), &request_with(config())).expect("valid");
    let tree = |layer: &[u8]| {
        PathBuf::from(format!(
            "/home/alice/.local/share/sandpod/images/trees/u100000+65536-g100000+65536/{}/tree",
            crate::image::Digest::of(layer).hex()
        ))
    };
    assert_eq!(plan.containers[0].root, RootPlan::Overlay { lowers: vec![tree(b"upper"), tree(b"lower")] });
    let shown = plan.containers[0].from_image.as_ref().expect("an image");
    assert_eq!((shown.platform.as_str(), shown.exposed_ports.as_slice()), ("linux/amd64", &["80/tcp".to_owned()][..]));
    assert_eq!(plan.containers[0].stop_signal, 3);
}

#[test]
fn a_stop_signal_that_linux_lacks_is_refused() {
    for (typed, number) in [("9", Some(9)), ("usr1", Some(10)), ("SIGRTMIN+3", Some(37)), ("SIGNOPE", None)] {
        let config = ImageConfig { stop_signal: Some(typed.to_owned()), ..config() };
        let plan = plan(&pod(vec![of_nginx()]), &facts_for_tests(), &request_with(config));
        match number {
            Some(number) => assert_eq!(plan.expect("valid").containers[0].stop_signal, number, "{typed}"),
            None => assert_eq!(plan.expect_err(typed).chain, ["StopSignal is `SIGNOPE`, and Linux has no such signal"]),
        }
    }
}

#[test]
fn volumes_of_the_image_are_mounted_where_the_pod_mounts_nothing() {
    let volumes = ["/data", "cache/../cache/deep/", "/etc/hosts", "/dev/shm", "/data/."];
    let config = ImageConfig { volumes: volumes.map(PathBuf::from).into(), ..config() };
    let made = |pod: &crate::manifest::Pod| {
        let plan = plan(pod, &facts_for_tests(), &request_with(config.clone())).expect("valid");
        assert!(plan.degradations.iter().all(|lost| lost.name != "image-volumes"), "{:?}", plan.degradations);
        let mounts = plan.containers[0].mounts.iter().filter(|mount| mount.kind == MountKind::ImageVolume);
        mounts.map(|mount| mount.destination.display().to_string()).collect::<Vec<_>>()
    };
    let mut pod = pod(vec![of_nginx()]);
    assert_eq!(made(&pod), ["/data", "/cache/deep"]);
    pod.spec.volumes.push(volume("v", host_path("/srv")));
    pod.spec.containers[0].volume_mounts.push(mounted("v", "/data/"));
    assert_eq!(made(&pod), ["/cache/deep"]);
    // A volume above it does not take its place.
    pod.spec.containers[0].volume_mounts[0].mount_path = "/cache".to_owned();
    assert_eq!(made(&pod), ["/data", "/cache/deep"]);
}

#[test]
fn volumes_of_the_image_that_cannot_be_are_named() {
    let volumes = ["/", "/proc/x", "/sys/firmware", "/dev", "/dev/x", "/data"];
    let config = ImageConfig { volumes: volumes.map(PathBuf::from).into(), ..config() };
    let plan = plan(&pod(vec![of_nginx()]), &facts_for_tests(), &request_with(config)).expect("valid");
    let named = plan.degradations.iter().find(|lost| lost.name == "image-volumes").expect("named");
    let list = "/ of `web`, /proc/x of `web`, /sys/firmware of `web`, /dev/x of `web`;";
    assert!(named.meaning.contains(list), "{}", named.meaning);
}

#[test]
fn layers_are_merged_where_the_store_cannot_hold_whiteouts_or_there_are_many() {
    let trees = |facts: &Facts, count: usize| {
        let mut request = request_with(config());
        let image = request.images.get_mut(IMAGE).expect("the image");
        image.layers = (0..count)
            .map(|number| crate::image::StoredLayer {
                diff_id: crate::image::Digest::of(&[number as u8]),
                ..image.layers[0]
            })
            .collect();
        let chain_id = image.chain_id();
        match &plan(&pod(vec![of_nginx()]), facts, &request).expect("valid").containers[0].root {
            RootPlan::Overlay { lowers } => {
                (lowers.len(), lowers[0].display().to_string().contains(&chain_id.expect("layers").hex()))
            }
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(trees(&facts_for_tests(), 40), (40, false));
    assert_eq!(trees(&facts_for_tests(), 41), (1, true));
    let mut facts = facts_for_tests();
    facts.layers.data = Some("it is on overlayfs".to_owned());
    assert_eq!(trees(&facts, 2), (1, true));
}
