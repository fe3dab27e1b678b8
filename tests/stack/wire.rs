//! A wire between the program and a server: it carries bytes, holds them as a network does that has stopped delivering, or is cut.
//!
//! Whoever is behind it lives and notices nothing but silence. One thread for each direction of a connection; everything ends when the
//! wire is dropped.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use libtest_mimic::Failed;
use testudo::stack::FaultPorts;

use crate::Test;

pub const TESTS: &[Test] = &[("the_wire_carries_holds_and_cuts", |_| carries_holds_and_cuts())];

/// Connections at a time; more are refused.
const CONNECTIONS_MAX: usize = 256;
const BYTES: usize = 64 << 10;
/// Step in which a held wire notices that it carries again.
const STEP: Duration = Duration::from_millis(10);
const SERVER_WITHIN: Duration = Duration::from_secs(5);

/// A wire that exists.
pub struct Wire {
    shared: Arc<Shared>,
    address: SocketAddr,
    acceptor: Option<JoinHandle<()>>,
}

struct Shared {
    server: SocketAddr,
    is_held: AtomicBool,
    is_ending: AtomicBool,
    ends: Mutex<Vec<TcpStream>>,
}

impl Wire {
    /// To the server on this port of this machine, from a port of its own.
    pub fn to(server: u16) -> io::Result<Self> {
        Self::between(0, server)
    }

    /// To the broker's second listener, whose clients stay on the wire.
    pub fn to_broker(ports: FaultPorts) -> io::Result<Self> {
        Self::between(ports.advertised, ports.real)
    }

    fn between(own: u16, server: u16) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, own))?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            server: SocketAddr::from((Ipv4Addr::LOCALHOST, server)),
            is_held: AtomicBool::new(false),
            is_ending: AtomicBool::new(false),
            ends: Mutex::default(),
        });
        let accepting = shared.clone();
        let acceptor = std::thread::Builder::new().name("wire".into()).spawn(move || accept(&accepting, &listener))?;
        Ok(Self { shared, address, acceptor: Some(acceptor) })
    }

    /// `host:port` of the program's end.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// An address of the server as one of this wire.
    pub fn instead_of(&self, url: &str) -> String {
        url.replace(&self.shared.server.to_string(), &self.address())
    }

    /// From now on nothing arrives, and no connection ends.
    pub fn hold(&self) {
        self.shared.is_held.store(true, Ordering::Relaxed);
    }

    /// What was held arrives, and what comes after it.
    pub fn carry_on(&self) {
        self.shared.is_held.store(false, Ordering::Relaxed);
    }

    /// Ends all connections.
    pub fn cut(&self) {
        for end in lock(&self.shared.ends).drain(..) {
            // One that has ended already is as good.
            end.shutdown(Shutdown::Both).unwrap_or_default();
        }
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.shared.is_ending.store(true, Ordering::Relaxed);
        self.cut();
        // Wakes the acceptor, which joins the connections' threads. Unless it is woken it must not be waited for.
        if TcpStream::connect(self.address).is_ok()
            && let Some(acceptor) = self.acceptor.take()
        {
            acceptor.join().unwrap_or_else(|_| eprintln!("wire: a thread panicked"));
        }
    }
}

impl Shared {
    fn is_ending(&self) -> bool {
        self.is_ending.load(Ordering::Relaxed)
    }
}

fn accept(shared: &Arc<Shared>, listener: &TcpListener) {
    let mut threads: Vec<JoinHandle<()>> = Vec::new();
    for client in listener.incoming() {
        if shared.is_ending() {
            break;
        }
        threads.retain(|thread| !thread.is_finished());
        match client {
            Ok(client) if threads.len() < CONNECTIONS_MAX => {
                let shared = shared.clone();
                threads.push(std::thread::spawn(move || serve(&shared, &client)));
            }
            // Refused by being dropped.
            Ok(_) => {}
            Err(_) => std::thread::sleep(STEP),
        }
    }
    for thread in threads {
        thread.join().unwrap_or_else(|_| eprintln!("wire: a thread panicked"));
    }
}

fn serve(shared: &Shared, client: &TcpStream) {
    // A server that is away is to its clients a connection that ends.
    let Ok(server) = TcpStream::connect_timeout(&shared.server, SERVER_WITHIN) else { return };
    if let (Ok(one), Ok(other)) = (client.try_clone(), server.try_clone()) {
        let mut ends = lock(&shared.ends);
        // Of connections that have ended only the handles are left.
        ends.retain(|end| end.peer_addr().is_ok());
        ends.extend([one, other]);
    }
    std::thread::scope(|scope| {
        scope.spawn(|| carry(shared, client, &server));
        carry(shared, &server, client);
    });
}

/// One direction, until one side ends.
fn carry(shared: &Shared, from: &TcpStream, to: &TcpStream) {
    if to.set_nodelay(true).and_then(|()| from.set_read_timeout(Some(STEP * 10))).is_ok() {
        let mut bytes = vec![0; BYTES];
        while let Some(count) = next(shared, from, &mut bytes) {
            while shared.is_held.load(Ordering::Relaxed) && !shared.is_ending() {
                std::thread::sleep(STEP);
            }
            let mut writer = to;
            if writer.write_all(&bytes[..count]).is_err() {
                break;
            }
        }
    }
    for end in [from, to] {
        end.shutdown(Shutdown::Both).unwrap_or_default();
    }
}

/// The number of bytes that have come; nothing when no more will.
fn next(shared: &Shared, mut from: &TcpStream, bytes: &mut [u8]) -> Option<usize> {
    while !shared.is_ending() {
        match from.read(bytes) {
            Ok(0) => return None,
            Ok(count) => return Some(count),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted) => {}
            Err(_) => return None,
        }
    }
    None
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The wire itself: an echo comes back, not while it is held, then late, and not at all once it was cut.
fn carries_holds_and_cuts() -> Result<(), Failed> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let wire = Wire::to(listener.local_addr()?.port())?;
    let echo = std::thread::spawn(move || -> io::Result<()> {
        let (mut server, _) = listener.accept()?;
        let mut byte = [0];
        while server.read(&mut byte)? == 1 {
            server.write_all(&byte)?;
        }
        Ok(())
    });
    let mut client = TcpStream::connect(wire.address())?;
    client.set_read_timeout(Some(STEP * 30))?;
    let mut byte = [0];
    client.write_all(b"a")?;
    client.read_exact(&mut byte)?;

    wire.hold();
    client.write_all(b"b")?;
    let while_held = client.read(&mut byte);
    wire.carry_on();
    client.read_exact(&mut byte)?;
    wire.cut();
    let after_cut = client.read(&mut byte);

    assert!(while_held.is_err_and(|error| matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)));
    assert_eq!(byte, *b"b");
    assert!(after_cut.map_or(true, |count| count == 0));
    // Cut off in the middle of a read is as good an end as any.
    echo.join().map_err(|_| "the echo panicked")?.unwrap_or_default();
    Ok(())
}
