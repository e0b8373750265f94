use super::super::fixtures::*;
use super::{Another, another};
use crate::image::ImageConfig;
use crate::manifest::{Container, Image};
use crate::plan::ProcessPlan;
use crate::report::exit_code;

fn process(change: impl Fn(&mut Container)) -> ProcessPlan {
    let mut only = container("only");
    change(&mut only);
    planned(&pod(vec![only])).containers.remove(0).process
}

fn get<'a>(env: &'a [(String, String)], wanted: &str) -> Option<&'a str> {
    env.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str())
}

fn strings(list: &[&str]) -> Vec<String> {
    list.iter().map(|word| (*word).to_owned()).collect()
}

#[test]
fn argv_is_command_then_args() {
    let argv =
        |command: &[&str], args: &[&str]| process(|c| (c.command, c.args) = (strings(command), strings(args))).argv;
    assert_eq!(argv(&[], &[]), ["/bin/sh"]);
    assert_eq!(argv(&["/bin/echo"], &[]), ["/bin/echo"]);
    assert_eq!(argv(&["/bin/echo", "a"], &["b"]), ["/bin/echo", "a", "b"]);
}

#[test]
fn args_without_a_program_are_refused() {
    let mut only = container("only");
    (only.command, only.args, only.image) = (vec![], strings(&["-v"]), Image::Host);
    let report = refused(&pod(vec![only]));
    assert_eq!(report.exit_code, exit_code::USAGE);
    assert_eq!(report.chain, ["image `host:` has no entrypoint that could take them"]);
}

#[test]
fn env_refers_upwards_and_argv_to_the_last_word() {
    let process = process(|c| {
        c.env = vec![env("A", "1"), env("B", "$(A)-$(LATER)"), env("LATER", "2"), env("A", "$(A)$(A)")];
        c.command = strings(&["/bin/echo", "$(A)", "$$(A)"]);
        c.args = strings(&["$(B)", "$(PATH)", "$(NONE)"]);
    });
    assert_eq!(process.argv, ["/bin/echo", "11", "$(A)", "1-$(LATER)", "$(PATH)", "$(NONE)"]);
    let names: Vec<_> = process.env.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["PATH", "HOSTNAME", "A", "B", "LATER"]);
    assert_eq!(process.env[2].1, "11");
}

#[test]
fn the_manifest_overrides_defaults() {
    let process = process(|c| {
        c.tty = true;
        c.env = vec![env("PATH", "/mine"), env("TERM", "vt100")];
        c.working_dir = Some("/srv".into());
    });
    let expected = [("PATH", "/mine"), ("HOSTNAME", "web"), ("TERM", "vt100")];
    assert_eq!(process.env, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    assert_eq!(process.cwd.to_str(), Some("/srv"));
}

#[test]
fn term_is_for_terminals() {
    assert!(process(|_| {}).env.iter().all(|(name, _)| name != "TERM"));
    assert_eq!(process(|_| {}).cwd.to_str(), Some("/"));
}

#[test]
fn another_process_is_as_the_first_one_but_for_what_is_asked() {
    let first = process(|c| c.env = vec![env("A", "1")]);
    let argv = strings(&["sh"]);
    let asked = Another { argv: &argv, env: &[], cwd: None, tty: false };
    let plain = another(&first, &asked);
    assert_eq!(plain, ProcessPlan { argv: argv.clone(), ..first.clone() });
    let more = [("A".to_owned(), "2".to_owned()), ("B".to_owned(), "3".to_owned()), ("A".to_owned(), "4".to_owned())];
    let changed = another(&first, &Another { env: &more, cwd: Some("/tmp"), ..asked });
    assert_eq!(get(&changed.env, "A"), Some("4"));
    assert_eq!(get(&changed.env, "B"), Some("3"));
    assert_eq!(changed.env.len(), first.env.len() + 1);
    assert_eq!(changed.cwd, std::path::Path::new("/tmp"));
}

#[test]
fn a_process_with_a_terminal_has_term() {
    let first = process(|_| {});
    let argv = strings(&["sh"]);
    let asked = Another { argv: &argv, env: &[], cwd: None, tty: true };
    assert_eq!(get(&first.env, "TERM"), None);
    assert_eq!(get(&another(&first, &asked).env, "TERM"), Some("xterm"));
    let given = [("TERM".to_owned(), "dumb".to_owned())];
    assert_eq!(get(&another(&first, &Another { env: &given, ..asked }).env, "TERM"), Some("dumb"));
    let with_its_own = process(|c| c.env = vec![env("TERM", "vt220")]);
    assert_eq!(get(&another(&with_its_own, &asked).env, "TERM"), Some("vt220"));
}

/// MAX_ARG_STRLEN and `bprm_stack_limits` of the kernel.
#[test]
fn what_execve_would_not_take_is_refused_at_its_field() {
    let refusal = |change: &dyn Fn(&mut Container)| {
        let mut only = container("only");
        change(&mut only);
        let report = refused(&pod(vec![container("first"), only]));
        assert_eq!(report.exit_code, exit_code::USAGE);
        report.field
    };
    let long = "x".repeat(131_071);
    let argv = |words: &[&str]| process(|c| c.command = strings(words)).argv.len();
    assert_eq!(argv(&["/bin/echo", &long]), 2, "as long as the kernel allows");
    let longer = format!("{long}x");
    assert_eq!(
        refusal(&|c| c.args = vec![longer.clone()]).as_deref(),
        Some("spec.containers[1].args[0]"),
        "one byte more"
    );
    // The kernel counts the name and the `=`, too.
    assert_eq!(refusal(&|c| c.env = vec![env("A", &long)]).as_deref(), Some("spec.containers[1].env[0].value"));
    process(|c| c.env = vec![env("A", &long[2..])]);
    // A quarter of 8 MiB.
    let many = |count: usize| move |c: &mut Container| c.args = vec!["y".repeat(100_000); count];
    process(many(20));
    assert_eq!(refusal(&many(21)).as_deref(), Some("spec.containers[1].args[20]"));
    // What is replaced does not count.
    process(|c| c.env = vec![env("A", &"z".repeat(100_000)); 100]);
}

#[test]
fn the_stack_limit_decides_within_what_the_kernel_grants_always_and_at_most() {
    let takes = |stack_limit: Option<u64>, bytes: usize| {
        let mut only = container("only");
        only.args = vec!["y".repeat(1000); bytes / 1000];
        let facts = crate::host::Facts { stack_limit, ..facts_for_tests() };
        plan_on(&pod(vec![only]), &facts).is_ok()
    };
    assert!(takes(Some(64 << 10), 110_000) && !takes(Some(64 << 10), 140_000));
    assert!(takes(Some(16 << 20), 4_000_000) && !takes(Some(16 << 20), 4_200_000));
    assert!(takes(None, 6_000_000) && !takes(None, 6_300_000));
}

/// Kubernetes' table of Entrypoint and Cmd against command and args.
#[test]
fn command_and_args_take_the_place_of_the_images() {
    let argv = |image: (&[&str], &[&str]), asked: (&[&str], &[&str])| {
        let config = ImageConfig { entrypoint: strings(image.0), command: strings(image.1), ..ImageConfig::default() };
        let web = Container { command: strings(asked.0), args: strings(asked.1), ..of_nginx() };
        let planned = crate::plan::plan(&pod(vec![web]), &facts_for_tests(), &request_with(config));
        planned.map(|mut plan| plan.containers.remove(0).process.argv.join(" ")).map_err(|report| report.what)
    };
    let image: (&[&str], &[&str]) = (&["/ep-1", "$(HOME)"], &["foo", "bar"]);
    assert_eq!(argv(image, (&[], &[])).as_deref(), Ok("/ep-1 $(HOME) foo bar"), "what the image says is not expanded");
    assert_eq!(argv(image, (&["/ep-2"], &[])).as_deref(), Ok("/ep-2"));
    assert_eq!(argv(image, (&[], &["zoo", "boo"])).as_deref(), Ok("/ep-1 $(HOME) zoo boo"));
    assert_eq!(argv(image, (&["/ep-2"], &["zoo", "boo"])).as_deref(), Ok("/ep-2 zoo boo"));
    let no_entrypoint: (&[&str], &[&str]) = (&[], &["sh"]);
    assert_eq!(
        argv(no_entrypoint, (&[], &["ls", "-l"])).as_deref(),
        Ok("ls -l"),
        "as with containerd: busybox has no entrypoint"
    );
    assert_eq!(argv((&[], &[]), (&[], &[])), Err("container `web` has no command".to_owned()));
}

/// containerd's order: its own, the image's, the manifest's; and the kubelet expands with the manifest's alone.
#[test]
fn the_images_variables_are_below_the_manifests() {
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let config = ImageConfig {
        entrypoint: strings(&["/run"]),
        environment: vec![pair("PATH", "/image"), pair("A", "image"), pair("B", "image"), pair("B", "later")],
        working_directory: "srv".into(),
        ..ImageConfig::default()
    };
    let web = Container { env: vec![env("A", "mine"), env("C", "$(B)-$(A)")], ..of_nginx() };
    let process = |web: Container| {
        let plan = crate::plan::plan(&pod(vec![web]), &facts_for_tests(), &request_with(config.clone()));
        plan.expect("valid").containers.remove(0).process
    };
    let planned = process(web.clone());
    let expected = [("PATH", "/image"), ("HOSTNAME", "web"), ("A", "mine"), ("B", "later"), ("C", "$(B)-mine")]
        .map(|(n, v)| pair(n, v));
    assert_eq!(planned.env, expected);
    assert_eq!(planned.cwd.to_str(), Some("/srv"));
    assert_eq!(process(Container { working_dir: Some("/tmp".into()), ..web }).cwd.to_str(), Some("/tmp"));
}

#[test]
fn an_images_texts_are_counted() {
    let config = ImageConfig { entrypoint: vec!["x".repeat(200_000)], ..ImageConfig::default() };
    let report =
        crate::plan::plan(&pod(vec![of_nginx()]), &facts_for_tests(), &request_with(config)).expect_err("long");
    assert!(report.what.contains("the image's command is too long"), "{}", report.what);
}
