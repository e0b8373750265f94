//! A registry made of canned answers, which behaves as badly as each test wants.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use super::*;
use crate::image::registries::{Credentials, Endpoint, Proxies, Trust};

const MANIFEST: &str = r#"{"schemaVersion":2}"#;
const OCI: &str = "content-type: application/vnd.oci.image.manifest.v1+json\r\n";

/// Answers one connection after another, and keeps what it was asked.
struct Server {
    address: String,
    asked: Arc<Mutex<Vec<String>>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// `answers` are whole HTTP answers; `@` in them becomes the server's own address.
    fn start(answers: &[&str]) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let mut answers: VecDeque<String> = answers.iter().map(|answer| answer.replace('@', &address)).collect();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let heard = asked.clone();
        let thread = std::thread::spawn(move || {
            while !answers.is_empty() {
                let (mut connection, _) = listener.accept().expect("a client");
                let mut request = String::new();
                let mut lines = BufReader::new(connection.try_clone().expect("dup"));
                while lines.read_line(&mut request).is_ok_and(|count| count > 2) {}
                // A client tries TLS first: the first byte of a handshake is no letter.
                if ["POST ", "PUT ", "PATCH "].iter().any(|method| request.starts_with(method)) {
                    let length = request.to_lowercase().split("content-length: ").nth(1).map(str::to_owned);
                    let length = length.and_then(|it| it.lines().next()?.parse().ok()).expect("a length");
                    lines.take(length).read_to_string(&mut request).expect("a body");
                }
                if ["GET ", "POST ", "HEAD ", "PUT ", "PATCH "].iter().any(|method| request.starts_with(method)) {
                    heard.lock().expect("a lock").push(request.to_lowercase());
                    let answer = answers.pop_front().expect("an answer");
                    // A client that has heard enough closes.
                    let _ = connection.write_all(answer.as_bytes());
                }
            }
        });
        Server { address, asked, thread: Some(thread) }
    }

    fn client(&self) -> Client {
        self.client_with(None)
    }

    fn client_with(&self, credentials: Option<Credentials>) -> Client {
        let endpoint = Endpoint {
            host: self.address.clone(),
            repository: String::new(),
            reference: String::new(),
            trust: Trust::Insecure,
            client_certificate: None,
            proxies: Proxies::default(),
            credentials,
        };
        let mut client = Client::new(&endpoint, &[]).expect("a client");
        client.use_http();
        client
    }

    /// What was asked, when all answers are given.
    fn asked(mut self) -> Vec<String> {
        self.thread.take().expect("a thread").join().expect("the server ends");
        self.asked.lock().expect("a lock").clone()
    }
}

fn answer(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\n{headers}content-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
}

fn user() -> Option<Credentials> {
    Some(Credentials::Password { user: "me".to_owned(), password: "secret".to_owned() })
}

const SECRET: &str = "authorization: basic bwu6c2vjcmv0";

#[test]
fn a_manifest_comes_with_its_type_and_digest() {
    let server = Server::start(&[&answer("200 OK", OCI, MANIFEST)]);
    let fetched = server.client().manifest("library/nginx", "1.25").expect("a manifest");
    assert_eq!((fetched.bytes.as_slice(), fetched.digest), (MANIFEST.as_bytes(), Digest::of(MANIFEST.as_bytes())));
    assert_eq!(fetched.media_type, "application/vnd.oci.image.manifest.v1+json");
    let asked = server.asked();
    assert!(asked[0].starts_with("get /v2/library/nginx/manifests/1.25 http/1.1"), "{asked:?}");
    assert!(asked[0].contains("vnd.docker.distribution.manifest.list.v2+json"), "{asked:?}");
}

#[test]
fn a_manifest_that_is_not_its_digest_is_refused() {
    let server = Server::start(&[&answer("200 OK", OCI, MANIFEST)]);
    let digest = Digest::of(b"other").to_string();
    let error = server.client().manifest("a", &digest).expect_err("refused");
    assert!(matches!(error, RegistryError::Digest { .. }), "{error}");
}

#[test]
fn a_token_is_fetched_and_used_for_its_repository() {
    let challenge = "www-authenticate: Bearer realm=\"http://@/token\",service=\"s\"\r\n";
    let server = Server::start(&[
        &answer("401 Unauthorized", challenge, ""),
        &answer("200 OK", "", r#"{"token":"abc"}"#),
        &answer("200 OK", OCI, MANIFEST),
        &answer("200 OK", OCI, MANIFEST),
    ]);
    let mut client = server.client_with(user());
    client.manifest("a", "1").expect("a manifest");
    client.manifest("b", "1").expect("a manifest");
    let asked = server.asked();
    assert!(asked[1].contains("scope=repository:a:pull") && asked[1].contains(SECRET), "{asked:?}");
    assert!(asked[2].contains("authorization: bearer abc"), "{asked:?}");
    assert!(!asked[0].contains("authorization") && !asked[3].contains("authorization"), "{asked:?}");
}

/// A registry with TLS names a realm without: the password would cross the network in the clear.
#[test]
fn credentials_stay_where_they_belong() {
    let other = Server::start(&[&answer("200 OK", "", "blob")]);
    let redirect = format!("location: http://{}/signed\r\n", other.address);
    let server = Server::start(&[
        &answer("401 Unauthorized", "www-authenticate: Basic realm=\"r\"\r\n", ""),
        &answer("307 Temporary Redirect", &redirect, ""),
    ]);
    let mut client = server.client_with(user());
    let mut bytes = String::new();
    client.blob("a", Digest::of(b"blob"), 4, 0).expect("a blob").read_to_string(&mut bytes).expect("read");
    assert_eq!(bytes, "blob");
    assert!(server.asked()[1].contains(SECRET), "the registry itself gets them");
    let asked = other.asked();
    assert!(asked[0].starts_with("get /signed") && !asked[0].contains("authorization"), "{asked:?}");
    let denied = Server::start(&[&answer("401 Unauthorized", "www-authenticate: Basic\r\n", "")]);
    let error = denied.client().manifest("a", "1").expect_err("denied");
    assert!(matches!(error, RegistryError::Denied { had_credentials: false, .. }), "{error}");
}

#[test]
fn a_redirect_leads_to_no_other_protocol_and_ends() {
    for location in ["file:///etc/passwd", "//elsewhere/x", "ftp://x/"] {
        let server = Server::start(&[&answer("302 Found", &format!("location: {location}\r\n"), "")]);
        let error = server.client().manifest("a", "1").expect_err("refused");
        assert!(error.to_string().contains("not https"), "{location}: {error}");
    }
    let again = answer("302 Found", "location: /again\r\n", "");
    let server = Server::start(&[again.as_str(); 11]);
    let error = server.client().manifest("a", "1").expect_err("refused");
    assert!(error.to_string().contains("more than 10 redirects"), "{error}");
}

#[test]
fn a_broken_blob_goes_on_where_it_broke() {
    let broken = "HTTP/1.1 200 OK\r\ncontent-length: 10\r\nconnection: close\r\n\r\n01234";
    let rest = answer("206 Partial Content", "content-range: bytes 5-9/10\r\n", "56789");
    let whole = answer("200 OK", "", "0123456789");
    let wrong = answer("206 Partial Content", "content-range: bytes 0-4/10\r\n", "01234");
    for (second, expected) in [(&rest, Some("0123456789")), (&whole, Some("0123456789")), (&wrong, None)] {
        let server = Server::start(&[broken, second]);
        let mut client = server.client();
        let mut text = String::new();
        let read = client.blob("a", Digest::of(b""), 10, 0).expect("a blob").read_to_string(&mut text);
        assert_eq!(read.is_ok().then_some(text.as_str()), expected, "{read:?}");
        assert!(server.asked()[1].contains("range: bytes=5-"));
    }
}

#[test]
fn a_busy_registry_is_asked_again_when_it_says() {
    let busy = answer("429 Too Many Requests", "retry-after: 0\r\n", "");
    let server = Server::start(&[
        &busy,
        &answer("503 Service Unavailable", "retry-after: 0\r\n", ""),
        &answer("200 OK", OCI, MANIFEST),
    ]);
    server.client().manifest("a", "1").expect("a manifest");
    let server = Server::start(&[&answer("429 Too Many Requests", "retry-after: 3600\r\n", "")]);
    let error = server.client().manifest("a", "1").expect_err("too long");
    assert!(matches!(error, RegistryError::RateLimited { seconds: 3600, .. }), "{error}");
}

#[test]
fn errors_are_told_apart_and_bodies_are_bounded() {
    let server = Server::start(&[&answer("404 Not Found", "", "{}")]);
    assert!(matches!(server.client().manifest("a", "1"), Err(RegistryError::NotFound { .. })));
    let long = "x".repeat(1000);
    let server = Server::start(&[&answer("418 I'm a teapot", "", &long)]);
    let Err(RegistryError::Status { status: 418, said, .. }) = server.client().manifest("a", "1") else {
        panic!("a status")
    };
    assert_eq!(said.len(), 300);
    let huge = answer("200 OK", OCI, &" ".repeat(MAX_DOCUMENT as usize + 1));
    let server = Server::start(&[&huge]);
    assert!(matches!(server.client().manifest("a", "1"), Err(RegistryError::TooLarge { .. })));
}

/// distribution's OAuth2: an identity token goes to the realm alone, in the body.
#[test]
fn an_identity_token_is_exchanged_for_an_access_token() {
    let challenge = "www-authenticate: Bearer realm=\"http://@/token\",service=\"it\"\r\n";
    let server = Server::start(&[
        &answer("401 Unauthorized", challenge, ""),
        &answer("200 OK", "", r#"{"access_token":"abc"}"#),
        &answer("200 OK", OCI, MANIFEST),
    ]);
    let identity = Credentials::IdentityToken("id/1".to_owned());
    server.client_with(Some(identity)).manifest("a", "1").expect("a manifest");
    let asked = server.asked();
    assert!(asked[1].starts_with("post /token http/1.1"), "{asked:?}");
    assert!(asked[1].contains("grant_type=refresh_token") && asked[1].contains("refresh_token=id%2f1"), "{asked:?}");
    assert!(asked[1].contains("scope=repository%3aa%3apull"), "{asked:?}");
    assert!(asked[2].contains("authorization: bearer abc") && !asked[2].contains("id/1"), "{asked:?}");
}

fn blob_file(text: &str) -> std::fs::File {
    let mut file = tempfile::tempfile().expect("a file");
    file.write_all(text.as_bytes()).expect("write");
    file
}

/// A token for a push has both rights; the blob goes where the registry says, in one piece.
#[test]
fn a_blob_is_pushed_where_the_registry_says() {
    let challenge = "www-authenticate: Bearer realm=\"http://@/token\",service=\"it\"\r\n";
    let server = Server::start(&[
        &answer("401 Unauthorized", challenge, ""),
        &answer("200 OK", "", r#"{"token":"abc"}"#),
        "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
        &answer("202 Accepted", "location: /v2/a/blobs/uploads/1?state=x\r\n", ""),
        &answer("201 Created", "", ""),
    ]);
    let digest = Digest::of(b"layer");
    let pushed = server.client_with(user()).push_blob("a", digest, 5, &blob_file("layer"), None, &mut |_| {});
    assert_eq!(pushed.expect("pushed"), Pushed::Sent);
    let asked = server.asked();
    assert!(asked[1].contains("scope=repository:a:pull%2cpush"), "{asked:?}");
    assert!(asked[3].starts_with("post /v2/a/blobs/uploads/ ") && asked[3].contains("bearer abc"), "{asked:?}");
    let target = format!("put /v2/a/blobs/uploads/1?state=x&digest={digest} ");
    assert!(asked[4].starts_with(&target) && asked[4].ends_with("\r\n\r\nlayer"), "{asked:?}");
    assert!(asked[4].contains("content-length: 5\r\n"), "{asked:?}");
}

/// As a proxy with a limit answers: the blob goes in chunks, each where the answer to the last one says.
#[test]
fn a_blob_that_is_too_long_for_one_request_is_pushed_in_chunks() {
    let text = "x".repeat(2_300_000);
    let accepted = |place: u32, more: &str| {
        answer("202 Accepted", &format!("location: /v2/a/blobs/uploads/{place}\r\n{more}"), "")
    };
    for (header, chunks) in [
        ("", &["0-999999", "1000000-1999999", "2000000-2299999"][..]),
        ("oci-chunk-min-length: 1500000\r\n", &["0-1499999", "1500000-2299999"]),
    ] {
        let mut answers = vec![
            "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".to_owned(),
            accepted(0, ""),
            answer("413 Payload Too Large", "", ""),
            accepted(1, header),
        ];
        answers.extend((0..chunks.len()).map(|number| accepted(2 + u32::try_from(number).expect("few"), "")));
        answers.push(answer("201 Created", "", ""));
        let answers: Vec<&str> = answers.iter().map(String::as_str).collect();
        let server = Server::start(&answers);
        let digest = Digest::of(text.as_bytes());
        let mut counts = Vec::new();
        let pushed = server.client().push_blob("a", digest, 2_300_000, &blob_file(&text), None, &mut |count| {
            counts.push(count);
        });
        assert_eq!(pushed.expect("pushed"), Pushed::Sent);
        assert_eq!(counts.last(), Some(&2_300_000));
        let asked = server.asked();
        let patches = asked.iter().filter(|request| request.starts_with("patch "));
        for (number, (request, range)) in patches.zip(chunks).enumerate() {
            assert!(request.starts_with(&format!("patch /v2/a/blobs/uploads/{} ", number + 1)), "{number}");
            assert!(request.contains(&format!("content-range: {range}\r\n")), "{number}: {range}");
        }
        let last = asked.last().expect("requests");
        assert!(last.starts_with(&format!("put /v2/a/blobs/uploads/{}?digest={digest} ", chunks.len() + 1)));
        assert_eq!(asked.len(), 4 + chunks.len() + 1);
    }
}

#[test]
fn a_blob_goes_to_no_other_host_in_the_clear() {
    for location in ["http://other.example/upload", "//other.example/upload", "ftp://x/", "upload"] {
        let server = Server::start(&[
            "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
            &answer("202 Accepted", &format!("location: {location}\r\n"), ""),
        ]);
        let error = server
            .client()
            .push_blob("a", Digest::of(b"x"), 1, &blob_file("x"), None, &mut |_| {})
            .expect_err(location);
        assert!(matches!(error, RegistryError::Protocol { .. }), "{location}: {error}");
        server.asked();
    }
}
