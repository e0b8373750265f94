use super::super::fixtures::*;
use super::super::{RootPlan, plan};
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
fn volumes_of_the_image_that_the_pod_does_not_mount_are_named() {
    let config = ImageConfig { volumes: vec!["/data".into(), "/cache/deep".into()], ..config() };
    let named = |pod: &crate::manifest::Pod| {
        let plan = plan(pod, &facts_for_tests(), &request_with(config.clone())).expect("valid");
        plan.degradations.into_iter().find(|lost| lost.name == "image-volumes").map(|lost| lost.meaning)
    };
    let mut pod = pod(vec![of_nginx()]);
    let meaning = named(&pod).expect("named");
    assert!(meaning.contains("/data of `web`, /cache/deep of `web`"), "{meaning}");
    pod.spec.volumes.push(volume("v", host_path("/srv")));
    pod.spec.containers[0].volume_mounts.push(mounted("v", "/data"));
    let meaning = named(&pod).expect("named");
    assert!(!meaning.contains("/data") && meaning.contains("/cache/deep"), "{meaning}");
    pod.spec.containers[0].volume_mounts.push(mounted("v", "/cache"));
    assert_eq!(named(&pod), None);
}
