//! A registry that serves what a test gives it, and remembers what it was asked.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};

use super::made::{Image, MANIFEST, digest};
use crate::support::{Home, LONG};

/// What is wrong with an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fault {
    /// So many bytes, and then nothing until [`Server::go_on`].
    Stall(usize),
    /// Other bytes than were asked for.
    Instead(Vec<u8>),
    /// So many bytes, and then the connection ends. Once.
    BreakOnce(usize),
}

#[derive(Default)]
struct State {
    /// By path; with the media type.
    content: HashMap<String, (String, Vec<u8>)>,
    faults: HashMap<String, Fault>,
    asked: Vec<String>,
    released: bool,
}

pub(crate) struct Server {
    port: u16,
    state: Arc<(Mutex<State>, Condvar)>,
}

impl Server {
    pub(crate) fn start() -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let port = listener.local_addr().expect("an address").port();
        let state = Arc::new((Mutex::new(State::default()), Condvar::new()));
        let shared = Arc::clone(&state);
        // Ends with the process of the tests.
        std::thread::spawn(move || {
            for connection in listener.incoming().map_while(Result::ok) {
                let shared = Arc::clone(&shared);
                std::thread::spawn(move || answer(&connection, &shared));
            }
        });
        Server { port, state }
    }

    /// `localhost:PORT`
    pub(crate) fn host(&self) -> String {
        format!("localhost:{}", self.port)
    }

    /// Lets sandpod of this home use it without TLS.
    pub(crate) fn used_by(&self, home: &Home) {
        home.directory(".config", 0o755);
        home.directory(".config/containers", 0o755);
        let text = format!("[[registry]]\nlocation = \"{}\"\ninsecure = true\n", self.host());
        home.file(".config/containers/registries.conf", text, 0o644);
    }

    pub(crate) fn add(&self, name: &str, image: &Image) {
        self.document(name, "1", MANIFEST, &image.manifest);
        self.document(name, &digest(&image.manifest), MANIFEST, &image.manifest);
        for blob in &image.blobs {
            self.put(format!("/v2/{name}/blobs/{}", digest(blob)), "application/octet-stream", blob);
        }
    }

    pub(crate) fn document(&self, name: &str, reference: &str, media_type: &str, bytes: &[u8]) {
        self.put(format!("/v2/{name}/manifests/{reference}"), media_type, bytes);
    }

    fn put(&self, path: String, media_type: &str, bytes: &[u8]) {
        self.state.0.lock().expect("a lock").content.insert(path, (media_type.to_owned(), bytes.to_vec()));
    }

    /// What comes when a blob is asked for; `None`: the blob.
    pub(crate) fn fault(&self, name: &str, blob: &[u8], fault: Option<Fault>) {
        let path = format!("/v2/{name}/blobs/{}", digest(blob));
        let mut state = self.state.0.lock().expect("a lock");
        match fault {
            Some(fault) => state.faults.insert(path, fault),
            None => state.faults.remove(&path),
        };
    }

    /// Ends all stalls, and those to come.
    pub(crate) fn go_on(&self) {
        self.state.0.lock().expect("a lock").released = true;
        self.state.1.notify_all();
    }

    /// How many there were.
    pub(crate) fn requests(&self) -> usize {
        self.state.0.lock().expect("a lock").asked.len()
    }

    /// Requests for a blob: the byte from which each wanted it.
    pub(crate) fn asked_for(&self, blob: &[u8]) -> Vec<usize> {
        let wanted = digest(blob);
        let state = self.state.0.lock().expect("a lock");
        let of_it = state.asked.iter().filter(|request| request.contains(&wanted));
        of_it.map(|request| from(request)).collect()
    }
}

fn from(request: &str) -> usize {
    let range = request.split("range: bytes=").nth(1).and_then(|rest| rest.split('-').next());
    range.map_or(0, |from| from.parse().expect("a number"))
}

fn answer(mut connection: &TcpStream, shared: &(Mutex<State>, Condvar)) {
    let mut request = String::new();
    let mut lines = BufReader::new(connection);
    // A client tries TLS first, whose handshake is no text: the read fails, and closing says that there is no TLS.
    while lines.read_line(&mut request).is_ok_and(|count| count > 2) {}
    if !request.starts_with("GET ") {
        return;
    }
    let request = request.to_lowercase();
    let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut state = shared.0.lock().expect("a lock");
    state.asked.push(request.clone());
    let Some((media_type, bytes)) = state.content.get(&path).cloned() else {
        let _ = connection.write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        return;
    };
    let fault = state.faults.get(&path).cloned();
    let bytes = match &fault {
        Some(Fault::Instead(other)) => other.clone(),
        _ => bytes,
    };
    if matches!(fault, Some(Fault::BreakOnce(_))) {
        state.faults.remove(&path);
    }
    let first = from(&request).min(bytes.len());
    let status = if first > 0 {
        format!("206 Partial Content\r\ncontent-range: bytes {first}-{}/{}", bytes.len() - 1, bytes.len())
    } else {
        "200 OK".to_owned()
    };
    let length = bytes.len() - first;
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: {media_type}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n"
    );
    drop(state);
    let rest = &bytes[first..];
    let at_once = match fault {
        Some(Fault::Stall(count) | Fault::BreakOnce(count)) => count.min(rest.len()),
        _ => rest.len(),
    };
    // A client that was killed has gone.
    if connection.write_all(head.as_bytes()).and_then(|()| connection.write_all(&rest[..at_once])).is_err() {
        return;
    }
    if matches!(fault, Some(Fault::Stall(_))) {
        let state = shared.0.lock().expect("a lock");
        let (state, _) = shared.1.wait_timeout_while(state, LONG, |state| !state.released).expect("a lock");
        drop(state);
        let _ = connection.write_all(&rest[at_once..]);
    }
}
