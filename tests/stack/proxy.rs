//! A proxy in front of the broker that understands Kafka's frames, so that a test can lose, delay, hold or repeat *one* request or
//! its answer: EndTxn applied and its answer lost, EndTxn arriving in the middle of the next transaction (KAFKA-17754).
//!
//! It listens where the broker's second listener says that the broker is, so a client that is led to it stays with it.
//! One thread for each direction of a connection; everything ends when the proxy is dropped.

mod frame;
mod link;
mod rule;

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use frame::Frame;
use link::Link;
use rule::lock;
pub use rule::{Api, Fault, Rule};
use testudo::stack::FaultPorts;

/// Connections at a time; more are refused.
const CONNECTIONS_MAX: usize = 256;

/// A running proxy.
pub struct Proxy {
    shared: Arc<Shared>,
    address: SocketAddr,
    acceptor: Option<JoinHandle<()>>,
}

/// What all connections look at.
struct Shared {
    broker: SocketAddr,
    rules: Mutex<Vec<Arc<Rule>>>,
    links: Mutex<Vec<Weak<Link>>>,
    stopping: AtomicBool,
}

impl Proxy {
    /// Stands before the broker's second listener.
    pub fn start(ports: FaultPorts) -> io::Result<Self> {
        let local = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let address = local(ports.advertised);
        let listener = TcpListener::bind(address)?;
        let shared = Arc::new(Shared {
            broker: local(ports.real),
            rules: Mutex::default(),
            links: Mutex::default(),
            stopping: AtomicBool::new(false),
        });
        let accepting = shared.clone();
        let acceptor = std::thread::Builder::new().name("proxy".into()).spawn(move || accept(&accepting, &listener))?;
        Ok(Self { shared, address, acceptor: Some(acceptor) })
    }

    /// Where clients begin, for `bootstrap.servers`.
    pub fn bootstrap(&self) -> String {
        self.address.to_string()
    }

    /// From now on the rule counts and strikes. Of several for the same requests the first that was set is asked first.
    pub fn set(&self, rule: Rule) -> Arc<Rule> {
        let rule = Arc::new(rule);
        lock(&self.shared.rules).push(rule.clone());
        rule
    }

    /// Sends what a rule holds to the broker, though its client has long gone, and waits for the answers.
    pub fn release(&self, held: &Rule) -> io::Result<()> {
        link::release(held, self.shared.broker)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::Relaxed);
        for link in lock(&self.shared.links).drain(..).filter_map(|link| link.upgrade()) {
            link.cut();
        }
        // Wakes the acceptor, which joins the connections' threads. Unless it is woken it must not be waited for.
        if TcpStream::connect(self.address).is_ok()
            && let Some(acceptor) = self.acceptor.take()
        {
            acceptor.join().unwrap_or_else(|_| eprintln!("proxy: a thread panicked"));
        }
    }
}

impl Shared {
    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// The rule that strikes a request. Rules are asked in the order they were set, up to the first that does.
    fn rule_for(&self, request: &Frame) -> Option<Arc<Rule>> {
        lock(&self.rules).iter().find(|rule| rule.strikes(request)).cloned()
    }

    /// Keeps a link where the end of the proxy finds it. Whether it may begin.
    fn admit(&self, link: &Arc<Link>) -> bool {
        let mut links = lock(&self.links);
        links.retain(|link| link.strong_count() > 0);
        links.push(Arc::downgrade(link));
        !self.is_stopping()
    }
}

fn accept(shared: &Arc<Shared>, listener: &TcpListener) {
    let mut threads: Vec<JoinHandle<()>> = Vec::new();
    for client in listener.incoming() {
        if shared.is_stopping() {
            break;
        }
        threads.retain(|thread| !thread.is_finished());
        match client {
            Ok(client) if threads.len() < CONNECTIONS_MAX => {
                let shared = shared.clone();
                threads.push(std::thread::spawn(move || connect(&shared, client)));
            }
            // Refused by being dropped.
            Ok(_) => {}
            Err(_) => std::thread::sleep(Duration::from_millis(10)),
        }
    }
    for thread in threads {
        thread.join().unwrap_or_else(|_| eprintln!("proxy: a thread panicked"));
    }
}

fn connect(shared: &Shared, client: TcpStream) {
    // A broker that is away is to its clients a connection that ends.
    let Ok(link) = Link::new(client, shared.broker) else { return };
    let link = Arc::new(link);
    if shared.admit(&link) {
        link.serve(shared);
    }
}
