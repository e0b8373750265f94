use proptest::prelude::*;

use super::*;

const SMALL: &str = "\
apiVersion: v1
kind: Pod
metadata:
  name: web
spec:
  containers:
  - name: app
    image: \"host:\"
    command: [sh, -c, 'exit 0']
";

fn accepted(text: &str) -> Pod {
    parse(text, "web.yaml").unwrap_or_else(|errors| panic!("{errors:#?}\n{text}"))
}

/// The messages, each as `line:column: path: message`.
fn refused(text: &str) -> Vec<String> {
    match parse(text, "web.yaml") {
        Ok(pod) => panic!("accepted as {pod:?}\n{text}"),
        Err(errors) => errors.problems().iter().map(ToString::to_string).collect(),
    }
}

/// `SMALL` with a line added to its container.
fn with(line: &str) -> String {
    format!("{SMALL}    {line}\n")
}

#[test]
fn what_surrounds_a_document_changes_nothing() {
    let pod = accepted(SMALL);
    for text in [
        format!("\u{feff}{SMALL}"),
        SMALL.replace('\n', "\r\n"),
        format!("---\n{SMALL}...\n"),
        format!("# before\n---\n# nothing\n---\n{SMALL}---\n---\nnull\n"),
        format!("%YAML 1.2\n---\n{SMALL}"),
        SMALL.trim_end().to_owned(),
    ] {
        assert_eq!(accepted(&text), pod, "{text}");
    }
    assert_eq!(parse_bytes(SMALL.as_bytes(), "-"), Ok(pod));
}

#[test]
fn json_is_read_like_yaml() {
    let json = "{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"metadata\":{\"name\":\"web\"},\n\t\"spec\":{\"containers\":[\
                {\"name\":\"app\",\"image\":\"host:\",\"command\":[\"sh\",\"-c\",\"exit 0\"]}]}}";
    assert_eq!(accepted(json), accepted(SMALL));
    let escapes = json.replace("exit 0", "\\u0041\\/\\ud83d\\ude00\\n");
    assert_eq!(accepted(&escapes).spec.containers[0].command[2], "A/\u{1f600}\n");
}

#[test]
fn null_is_as_good_as_absent() {
    let text = with("args: null\n    workingDir: ~\n    env:\n    securityContext:\n    resources: null");
    assert_eq!(accepted(&text), accepted(SMALL));
    let typo = with("agrs: null");
    assert_eq!(refused(&typo), ["10:5: spec.containers[0].agrs: unknown field; did you mean `args`?"]);
}

#[test]
fn aliases_and_merge_keys_are_followed() {
    let text = format!(
        "{SMALL}    env: &env\n    - &one {{name: A, value: x}}\n  - &base\n    name: b\n    image: 'host:'\n    env: *env\n"
    );
    let containers = accepted(&text).spec.containers;
    assert_eq!(containers[0].env, containers[1].env);

    let merged = format!("{text}  - <<: [*base, {{name: ignored, tty: true}}]\n    name: c\n");
    let merged = accepted(&merged).spec.containers.pop().map(|c| (c.name, c.tty, c.env.len()));
    assert_eq!(merged, Some(("c".to_owned(), true, 1)), "own entries win, then the first merged mapping");
}

#[test]
fn an_error_in_an_anchor_points_to_its_text_from_every_use() {
    let text = format!("{SMALL}    args: &args [1]\n  - name: b\n    image: 'host:'\n    args: *args\n");
    assert_eq!(
        refused(&text),
        [
            "10:18: spec.containers[0].args[0]: must be a string, not the number 1; it must be quoted: \"1\"",
            "10:18: spec.containers[1].args[0]: must be a string, not the number 1; it must be quoted: \"1\"",
        ]
    );
}

#[test]
fn columns_count_characters() {
    let text = SMALL.replace("metadata:\n  name: web", "metadata: {annotations: {a: \"größe\", typo: 1}, name: web}");
    let expected = "3:44: metadata.annotations.typo: must be a string, not the number 1; it must be quoted: \"1\"";
    assert_eq!(refused(&text), [expected]);
}

#[test]
fn numbers_have_yaml_1_1_spellings_as_in_kubectl() {
    for (spelling, seconds) in [("010", 8), ("0x10", 16), ("1_0", 10), ("0o17", 15), ("+3", 3)] {
        let text = SMALL.replace("spec:\n", &format!("spec:\n  terminationGracePeriodSeconds: {spelling}\n"));
        assert_eq!(accepted(&text).spec.termination_grace_period.as_secs(), seconds, "{spelling}");
    }
}

#[test]
fn only_sure_errors_are_reported_before_a_syntax_error() {
    // No "name is required", no "undeclared volume": both may stand below.
    let text =
        "apiVersion: v1\nkind: Pod\nspec:\n  containers:\n  - comand: [a]\n    volumeMounts:\n    - name: v\n  ]\n";
    let messages = refused(text);
    assert_eq!(messages.len(), 2, "{messages:#?}");
    assert!(messages[0].starts_with("5:5: spec.containers[0].comand: unknown field"), "{messages:#?}");
    assert!(messages[1].starts_with("8:3: not valid YAML or JSON"), "{messages:#?}");
}

#[test]
fn what_kubernetes_knows_is_told_from_typos_everywhere() {
    for schema in schema::ALL {
        let read = |name: &str| {
            let mut problems = Problems::default();
            let documents = syntax::load(&format!("{name}: -1\n"), &mut problems);
            object::Slot::at(&documents[0], String::new()).object(schema, &mut problems, |_, _| ());
            let errors = problems.into_errors("x");
            assert_eq!(errors.count(), 1, "{}.{name}", schema.place);
            errors.problems()[0].clone()
        };
        for name in schema.names() {
            let problem = read(name);
            assert_eq!(problem.class, ProblemClass::Unsupported, "{}.{name}: {}", schema.place, problem.message);
            // Names of one letter more are still near enough to be recognized.
            let typo = read(&format!("{name}x"));
            assert_eq!(typo.class, ProblemClass::Invalid);
            assert!(name.len() < 3 || typo.message.contains(&format!("did you mean `{name}`?")), "{}", typo.message);
        }
    }
}

#[test]
fn what_is_empty_asks_for_nothing_unless_its_presence_does() {
    for schema in schema::ALL {
        for field in schema.others {
            let takes = |value: &str| {
                let mut problems = Problems::default();
                let documents = syntax::load(&format!("{}: {value}\n", field.name), &mut problems);
                object::Slot::at(&documents[0], String::new()).object(schema, &mut problems, |_, _| ());
                problems.is_empty()
            };
            let is_union = matches!(field.accepted, schema::Accepted::Null);
            for value in ["\"\"", "[]", "{}"] {
                assert_eq!(takes(value), !is_union, "{}.{}: {value}", schema.place, field.name);
            }
            assert!(takes("null"), "{}.{}", schema.place, field.name);
            assert!(!takes("[x]") && !takes("{x: y}"), "{}.{}", schema.place, field.name);
        }
    }
}

#[test]
fn every_refusal_says_what_to_do_and_none_merely_to_remove_it() {
    for schema in schema::ALL {
        for field in schema.others {
            let advice = field.advice;
            assert!(advice.len() > 10 && !advice.contains("remove it"), "{}.{}: {advice}", schema.place, field.name);
        }
    }
}

#[test]
fn no_name_has_two_standings() {
    for schema in schema::ALL {
        let mut names: Vec<&str> = schema.names().collect();
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count, "{}", schema.place);
    }
}

proptest! {
    #[test]
    fn never_panics_on_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse_bytes(&bytes, "x");
    }

    #[test]
    fn never_panics_on_yaml_like_text(text in "([-:?,\\[\\]{}#&*!|>'\"%@` \n\ta0~.]|: |- |\n  |&a |\\*a |<<: |---\n){0,60}") {
        let _ = parse(&text, "x");
    }

    #[test]
    fn a_damaged_manifest_is_read_or_refused_within_its_text(
        at in 0..SMALL.len(), cut in 0..20_usize, insert in "[ -~\n\t\u{e4}]{0,5}",
    ) {
        let end = (at + cut).min(SMALL.len());
        let text = format!("{}{insert}{}", &SMALL[..at], &SMALL[end..]);
        if let Err(errors) = parse(&text, "x") {
            prop_assert!(errors.count() > 0);
            let lines = text.lines().count() + 1;
            for problem in errors.problems() {
                prop_assert!(problem.position.is_none_or(|position| position.line <= lines), "{problem} in {text}");
            }
        }
    }

    #[test]
    fn any_string_survives_quoting(value in "[^\0]{0,30}") {
        let text = format!("{SMALL}    args: [{}]\n", serde_json::to_string(&value).expect("a string is JSON"));
        // JSON may hold these raw, YAML may not.
        let forbidden = |c| c == '\u{7f}' || ('\u{80}'..='\u{9f}').contains(&c) || ('\u{fffe}'..='\u{ffff}').contains(&c);
        if !value.contains(forbidden) {
            prop_assert_eq!(&accepted(&text).spec.containers[0].args[0], &value);
        }
    }
}
