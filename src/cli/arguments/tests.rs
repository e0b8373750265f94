use super::*;
use clap::CommandFactory;

#[test]
fn the_definitions_agree_with_each_other() {
    Arguments::command().debug_assert();
}

#[test]
fn what_follows_two_dashes_is_the_command() {
    let parse = |line: &str| Arguments::try_parse_from(line.split(' '));
    let run = parse("sandpod run --image host: -it -- ls -l --color").expect("parses");
    assert!(matches!(run.verb, Verb::Run(run) if run.source.single.command == ["ls", "-l", "--color"]));
    for line in ["sandpod exec -it web -- ls -l", "sandpod exec -it web ls -l"] {
        let exec = parse(line).expect("parses");
        assert!(matches!(exec.verb, Verb::Exec(exec) if exec.command == ["ls", "-l"] && exec.tty), "{line}");
    }
    for line in ["sandpod run", "sandpod run a.yaml --image host:", "sandpod run a.yaml -- ls", "sandpod rm"] {
        assert!(parse(line).is_err(), "{line}");
    }
}
