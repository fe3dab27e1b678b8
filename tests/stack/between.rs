//! Stands between the program and the registry: passes everything on, but for the trouble and the GUIDs that a test wants.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use libtest_mimic::Failed;
use testudo::avro::SchemaId;

/// What a registry can do wrong.
#[derive(Clone, Copy)]
#[repr(u8)]
pub enum Trouble {
    None,
    Status429,
    Status500,
    Status503,
    Half,
    Slow,
}

/// Stands between the program and the registry.
pub struct Between {
    /// Its own address, in the registry's place.
    pub url: String,
    trouble: Arc<AtomicU8>,
    guids: Guids,
}

impl Between {
    pub fn start(registry: &str) -> Result<Self, Failed> {
        let (host, path) = registry.trim_start_matches("http://").split_once('/').ok_or("a path")?;
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let url = format!("http://{}/{path}", listener.local_addr()?);
        let trouble = Arc::new(AtomicU8::new(Trouble::None as u8));
        let guids = Guids::default();
        let (met, known, host) = (trouble.clone(), guids.clone(), host.to_owned());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (met, known, host) = (met.clone(), known.clone(), host.clone());
                std::thread::spawn(move || pass(stream, &host, met.load(Ordering::SeqCst), &known));
            }
        });
        Ok(Self { url, trouble, guids })
    }

    /// Has a GUID stand for an id, as registries do that know GUIDs; the one behind does not.
    pub fn knows(&self, guid: &str, id: SchemaId) {
        self.guids.lock().expect("not poisoned").insert(guid.to_owned(), id.0);
    }

    /// Has this trouble from now on.
    pub fn meet(&self, trouble: Trouble) {
        self.trouble.store(trouble as u8, Ordering::SeqCst);
    }
}

/// GUIDs and the ids that they stand for; while there are any, all others are not there.
type Guids = Arc<Mutex<BTreeMap<String, u32>>>;

/// One request; whatever goes wrong closes the connection, which is a trouble too.
fn pass(mut client: TcpStream, host: &str, trouble: u8, guids: &Guids) -> std::io::Result<()> {
    let request = read_request(&mut client)?;
    if let Some(answer) = id_of_guid(&request, guids) {
        return client.write_all(answer.as_bytes());
    }
    let answer = |status: &str| format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    match trouble {
        trouble if trouble == Trouble::Status429 as u8 => return client.write_all(answer("429 Too Many Requests").as_bytes()),
        trouble if trouble == Trouble::Status500 as u8 => return client.write_all(answer("500 Internal Server Error").as_bytes()),
        trouble if trouble == Trouble::Status503 as u8 => return client.write_all(answer("503 Service Unavailable").as_bytes()),
        trouble if trouble == Trouble::Half as u8 => {
            return client.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"schema\":");
        }
        trouble if trouble == Trouble::Slow as u8 => std::thread::sleep(Duration::from_secs(3)),
        _ => {}
    }
    let mut server = TcpStream::connect(host)?;
    let (line, rest) = request.split_once("\r\n").unwrap_or_default();
    server.write_all(format!("{line}\r\nconnection: close\r\n{rest}").as_bytes())?;
    std::io::copy(&mut server, &mut client).map(drop)
}

/// What Confluent's registry says of a GUID; none for another question, and where GUIDs are not known.
fn id_of_guid(request: &str, guids: &Guids) -> Option<String> {
    let guids = guids.lock().expect("not poisoned");
    let guid = request.split_once("/schemas/guids/")?.1.split('/').next().filter(|_| !guids.is_empty())?;
    let (status, body) = match guids.get(guid) {
        Some(id) => ("200 OK", format!(r#"[{{"context":".","id":{id}}}]"#)),
        None => ("404 Not Found", r#"{"error_code":40403,"message":"Schema not found"}"#.to_owned()),
    };
    Some(format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len()))
}

/// A whole request as text.
pub fn read_request(stream: &mut TcpStream) -> std::io::Result<String> {
    let (mut bytes, mut part) = (Vec::new(), [0; 4_096]);
    loop {
        let read = stream.read(&mut part)?;
        bytes.extend_from_slice(&part[..read]);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length =
                head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length:")?.trim().parse().ok()).unwrap_or(0);
            if body.len() >= length {
                return Ok(text);
            }
        }
        if read == 0 {
            return Ok(text);
        }
    }
}
