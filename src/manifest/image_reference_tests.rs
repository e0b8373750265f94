use proptest::prelude::*;

use super::*;

const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// What a short form means; the cases are those of distribution/reference's own tests and of Docker's documentation.
#[test]
fn short_forms_are_completed() {
    for (text, complete) in [
        ("nginx", "docker.io/library/nginx:latest"),
        ("nginx:1.25", "docker.io/library/nginx:1.25"),
        ("kennethreitz/httpbin", "docker.io/kennethreitz/httpbin:latest"),
        ("docker.io/nginx", "docker.io/library/nginx:latest"),
        ("index.docker.io/nginx", "docker.io/library/nginx:latest"),
        ("docker.io/library/nginx", "docker.io/library/nginx:latest"),
        ("localhost/app", "localhost/app:latest"),
        ("localhost:5000/app:v1", "localhost:5000/app:v1"),
        ("registry.k8s.io/pause:3.9", "registry.k8s.io/pause:3.9"),
        ("127.0.0.1:5000/a/b/c", "127.0.0.1:5000/a/b/c:latest"),
        ("[2001:db8::1]:5000/app", "[2001:db8::1]:5000/app:latest"),
        ("[::1]/app", "[::1]/app:latest"),
        ("UPPER.example/app", "UPPER.example/app:latest"),
        ("UPPER/app", "UPPER/app:latest"),
        ("a__b/c.d_e---f", "docker.io/a__b/c.d_e---f:latest"),
        ("xn--n3h.com/app", "xn--n3h.com/app:latest"),
        ("nginx:A_b.C-d", "docker.io/library/nginx:A_b.C-d"),
    ] {
        assert_eq!(parse(text).map(|reference| reference.to_string()).as_deref(), Ok(complete), "{text}");
    }
}

#[test]
fn a_name_without_a_registry_is_kept_as_it_was_written() {
    for (text, short) in [
        ("nginx", Some("nginx")),
        ("library/nginx:1", Some("library/nginx")),
        ("docker.io/nginx", None),
        ("index.docker.io/nginx", None),
        ("localhost/nginx", None),
    ] {
        assert_eq!(parse(text).expect("valid").short_name.as_deref(), short, "{text}");
    }
}

/// With a digest there is no default tag: `@` names one manifest.
#[test]
fn digests_are_kept() {
    for (text, tag) in [(format!("nginx@{DIGEST}"), None), (format!("nginx:1.25@{DIGEST}"), Some("1.25"))] {
        let reference = parse(&text).expect("valid");
        assert_eq!((reference.tag.as_deref(), reference.digest.as_deref()), (tag, Some(DIGEST)), "{text}");
    }
}

#[test]
fn what_breaks_the_grammar_is_named() {
    let long_name = "a/".repeat(128) + "a";
    let long_tag = format!("nginx:{}", "a".repeat(129));
    for (text, part) in [
        ("", "no image name"),
        (":tag", "no image name"),
        ("example.com/", "no image name"),
        ("Nginx", "uppercase"),
        ("example.com/App", "uppercase"),
        ("a//b", "repository name"),
        ("/a", "repository name"),
        ("-a", "repository name"),
        ("a-", "repository name"),
        ("a..b", "repository name"),
        ("a._b", "repository name"),
        ("a___b", "repository name"),
        ("ä", "repository name"),
        ("a b", "repository name"),
        ("../../etc", "repository name"),
        ("nginx:", "invalid tag"),
        ("nginx:.x", "invalid tag"),
        ("nginx:a:b", "invalid tag"),
        ("nginx:a b", "invalid tag"),
        (&long_tag, "invalid tag"),
        ("nginx@sha256:00", "invalid digest"),
        ("nginx@md5:d41d8cd98f00b204e9800998ecf8427e", "invalid digest"),
        ("nginx@", "invalid digest"),
        ("example.com:0/a", "invalid registry"),
        ("example.com:65536/a", "invalid registry"),
        ("example.com:x/a", "invalid registry"),
        ("-a.com/a", "invalid registry"),
        ("a..com/a", "invalid registry"),
        ("[::1/a", "invalid registry"),
        ("[::g]/a", "invalid registry"),
        ("[::1]5000/a", "invalid registry"),
        (&long_name, "at most 255"),
        (&DIGEST[7..], "image id"),
    ] {
        let error = parse(text).map(|reference| reference.to_string()).expect_err(text).to_string();
        assert!(error.contains(part), "{text}: {error}");
    }
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "\\PC{0,300}") {
        let _ = parse(&text);
    }

    /// What is written out is read back as the same reference.
    #[test]
    fn a_complete_reference_means_itself(text in "([a-zA-Z0-9.-]{1,20}(:[0-9]{1,5})?/)?[a-z0-9._/-]{1,30}(:[a-zA-Z0-9_.-]{1,20})?") {
        if let Ok(reference) = parse(&text) {
            // Complete, it is no short name any more.
            let complete = ImageReference { short_name: None, ..reference };
            prop_assert_eq!(parse(&complete.to_string()), Ok(complete));
        }
    }
}
