//! `sandpod completions`: clap's script for the shell, which knows the words, and names of pods added to it.
//!
//! Names are asked of sandpod itself at the moment of the completion. Which verbs take them, and which of their options
//! have values that are not to be counted as pods, comes from the definitions, so it cannot lag behind them.

use std::io::Write;

use clap::{ArgAction, CommandFactory};
use clap_complete::Shell;

use super::Outcome;
use super::arguments::{Arguments, CompletionsArguments};

const LIST: &str = "ps --all --output name 2>/dev/null";

/// Prints the script in one write, so that a reader who leaves early is no panic.
pub(crate) fn completions(asked: &CompletionsArguments) -> Outcome {
    std::io::stdout().write_all(script(asked.shell).as_bytes())?;
    Ok(0)
}

fn script(shell: Shell) -> String {
    let mut words = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "sandpod", &mut words);
    let words = String::from_utf8_lossy(&words).into_owned();
    match shell {
        Shell::Bash => bash(&words),
        Shell::Zsh => zsh(&words),
        Shell::Fish => fish(&words),
        // The others complete words alone.
        _ => words,
    }
}

/// More than anybody types.
const MANY: usize = 10_000;

/// A verb whose first operand is a pod.
struct Verb {
    name: String,
    /// How many pods it takes: one, or [`MANY`].
    most: usize,
    /// Options that are followed by a value.
    valued: String,
}

fn verbs_with_pods() -> Vec<Verb> {
    let mut command = Arguments::command();
    // What verbs take is defined late (`Deferred`).
    command.build();
    let verbs = command.get_subcommands().filter_map(|verb| {
        let pod = verb.get_positionals().next().filter(|arg| ["pod", "pods"].contains(&arg.get_id().as_str()))?;
        let valued = verb.get_opts().filter(|option| option.get_action().takes_values()).flat_map(|option| {
            let shorts = option.get_short_and_visible_aliases().unwrap_or_default();
            let longs = option.get_long_and_visible_aliases().unwrap_or_default();
            let shorts = shorts.into_iter().map(|short| format!("-{short}"));
            shorts.chain(longs.into_iter().map(|long| format!("--{long}"))).collect::<Vec<String>>()
        });
        let most = if matches!(pod.get_action(), ArgAction::Append) { MANY } else { 1 };
        Some(Verb { name: verb.get_name().to_owned(), most, valued: valued.collect::<Vec<_>>().join(" ") })
    });
    verbs.collect()
}

/// Around clap's function, which offers no operands. `COMP_WORDS` has a `=` as a word of its own.
fn bash(words: &str) -> String {
    let case = |verb: &Verb| format!("        {}) most={} valued=\"{}\" ;;\n", verb.name, verb.most, verb.valued);
    let cases: String = verbs_with_pods().iter().map(case).collect();
    let wrapper = format!(
        r#"
_sandpod_with_pods() {{
    local most valued word seen=0 skip=0 current="${{COMP_WORDS[COMP_CWORD]}}"
    case "${{COMP_WORDS[1]}}" in
{cases}        *) _sandpod "$@"; return ;;
    esac
    for word in "${{COMP_WORDS[@]:2:COMP_CWORD-2}}"; do
        if [[ $word == "=" ]]; then
            skip=1
        elif [[ $skip == 1 ]]; then
            skip=0
        elif [[ " $valued " == *" $word "* ]]; then
            skip=1
        elif [[ $word != -* ]]; then
            seen=$((seen + 1))
        fi
    done
    if [[ $COMP_CWORD -lt 2 || $skip == 1 || $seen -ge $most || $current == -* ]]; then
        _sandpod "$@"
    else
        COMPREPLY=($(compgen -W "$("${{COMP_WORDS[0]}}" {LIST})" -- "$current"))
    fi
}}
"#
    );
    match words.rfind("\nif [[ \"${BASH_VERSINFO") {
        Some(end) => {
            let (functions, registration) = words.split_at(end);
            format!("{functions}{wrapper}{}", registration.replace("-F _sandpod ", "-F _sandpod_with_pods "))
        }
        None => words.to_owned(),
    }
}

/// In place of the files that clap's `_arguments` offer for an operand.
fn zsh(words: &str) -> String {
    const FUNCTION: &str = r#"(( $+functions[_sandpod_pods] )) ||
_sandpod_pods() {
    local -a names
    names=(${(f)"$(command sandpod LIST)"})
    compadd -a names
}

"#;
    let line = |line: &str| match line.strip_suffix(":_default' \\") {
        Some(operand)
            if [":pod -- ", "::pod -- ", "*::pods -- "].iter().any(|id| operand.starts_with(&format!("'{id}"))) =>
        {
            format!("{operand}:_sandpod_pods' \\\n")
        }
        _ => format!("{line}\n"),
    };
    let words: String = words.lines().map(line).collect();
    let registration = "if [ \"$funcstack[1]\" = \"_sandpod\" ]";
    words.replacen(registration, &format!("{}{registration}", FUNCTION.replace("LIST", LIST)), 1)
}

/// Beside clap's lines, each under a condition that counts the operands so far.
fn fish(words: &str) -> String {
    const FUNCTION: &str = r"
function __fish_sandpod_wants_pod --argument-names verb most
    __fish_sandpod_using_subcommand $verb
    or return 1
    set -e argv[1..2]
    set -l words (commandline -opc)
    set -e words[1..2]
    set -l seen 0
    set -l skip 0
    for word in $words
        if test $skip = 1
            set skip 0
        else if contains -- $word $argv
            set skip 1
        else if not string match -q -- '-*' $word
            set seen (math $seen + 1)
        end
    end
    test $skip = 0; and test $seen -lt $most
end

";
    let line = |Verb { name, most, valued }: &Verb| {
        let condition = format!("__fish_sandpod_wants_pod {name} {most} {valued}");
        format!("complete -c sandpod -n \"{}\" -f -a '(command sandpod {LIST})'\n", condition.trim_end())
    };
    let lines: String = verbs_with_pods().iter().map(line).collect();
    format!("{words}{FUNCTION}{lines}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_verb_that_takes_a_pod_is_known_with_its_options() {
        let verbs = verbs_with_pods();
        let names: Vec<&str> = verbs.iter().map(|verb| verb.name.as_str()).collect();
        let expected = "inspect stats tree logs exec attach port port-forward wait stop update pause unpause kill rm";
        assert_eq!(names, expected.split(' ').collect::<Vec<_>>());
        let of = |name: &str| verbs.iter().find(|verb| verb.name == name).expect(name);
        assert_eq!((of("kill").most, of("logs").most), (MANY, 1));
        assert_eq!(of("kill").valued, "-s --signal -c --container");
        // Not those that stand alone.
        assert_eq!(of("exec").valued, "-c --container -u --user -w --workdir -e --env");
    }

    #[test]
    fn each_shells_script_asks_for_names_where_a_pod_is_named() {
        let count = |shell: Shell, words: &str| script(shell).matches(words).count();
        let verbs = verbs_with_pods().len();
        assert_eq!(count(Shell::Bash, "-F _sandpod_with_pods "), 2);
        assert_eq!(count(Shell::Bash, "-F _sandpod "), 0);
        assert_eq!(count(Shell::Zsh, ":_sandpod_pods' \\\n"), verbs);
        assert_eq!(count(Shell::Zsh, "command sandpod ps --all --output name"), 1);
        assert_eq!(count(Shell::Fish, "complete -c sandpod -n \"__fish_sandpod_wants_pod "), verbs);
        // They are clap's otherwise.
        assert_eq!(count(Shell::Elvish, "--output name"), 0);
    }
}
