//! One client's connection and the one to the broker that serves it: requests one way, answers the other, faults in between.

use std::collections::HashMap;
use std::io;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::Shared;
use super::frame::Frame;
use super::rule::{Fault, Rule, lock};

/// How long the broker may take to accept a connection, and to answer a released request.
const BROKER_WITHIN: Duration = Duration::from_secs(10);
/// Step in which a delay notices that the proxy ends.
const STEP: Duration = Duration::from_millis(10);
/// Answers of one connection that faults wait for, at most; a client has far fewer requests under way.
const FATES_MAX: usize = 10_000;
/// Clients count their requests up from 1: a correlation id with this bit is none of theirs.
const SECOND_COPY: i32 = 0x4000_0000;

/// What will happen to an answer.
enum Fate {
    Lost,
    Cut,
    Late(Duration),
}

/// The two connections.
pub struct Link {
    client: TcpStream,
    broker: TcpStream,
    fates: Mutex<HashMap<i32, Fate>>,
}

impl Link {
    pub fn new(client: TcpStream, broker: SocketAddr) -> io::Result<Self> {
        let broker = TcpStream::connect_timeout(&broker, BROKER_WITHIN)?;
        client.set_nodelay(true)?;
        broker.set_nodelay(true)?;
        Ok(Self { client, broker, fates: Mutex::default() })
    }

    /// Ends both connections at once.
    pub fn cut(&self) {
        for end in [&self.client, &self.broker] {
            // One that has ended already is as good.
            end.shutdown(Shutdown::Both).unwrap_or_default();
        }
    }

    /// Serves the client until one side ends or a fault cuts it off.
    pub fn serve(&self, shared: &Shared) {
        std::thread::scope(|scope| {
            scope.spawn(|| self.pass_answers(shared));
            self.pass_requests(shared);
        });
    }

    fn pass_requests(&self, shared: &Shared) {
        while let Some(request) = Frame::request(&self.client) {
            match self.pass_request(shared, request) {
                Ok(true) => {}
                Ok(false) | Err(_) => return self.cut(),
            }
        }
        // The broker ends its side when it has read everything, which ends the answers too.
        self.broker.shutdown(Shutdown::Write).unwrap_or_default();
    }

    /// Does to a request what the rules say. Whether the connection lives on.
    fn pass_request(&self, shared: &Shared, request: Frame) -> io::Result<bool> {
        let Some(rule) = shared.rule_for(&request) else {
            request.write(&self.broker)?;
            return Ok(true);
        };
        match rule.fault() {
            Fault::CutBefore => return Ok(false),
            Fault::Hold => {
                rule.hold(request);
                return Ok(false);
            }
            Fault::LoseRequest => return Ok(true),
            Fault::Nothing => {}
            Fault::LoseAnswer => self.decide(request.correlation(), Fate::Lost)?,
            Fault::CutAfter => self.decide(request.correlation(), Fate::Cut)?,
            Fault::DelayAnswer(time) => self.decide(request.correlation(), Fate::Late(*time))?,
            Fault::DelayRequest(time) => pause(shared, *time),
            Fault::Twice => {
                request.write(&self.broker)?;
                let second = request.correlation() | SECOND_COPY;
                self.decide(second, Fate::Lost)?;
                request.renumbered(second).write(&self.broker)?;
                return Ok(true);
            }
            Fault::Release(held) => release(held, shared.broker)?,
        }
        request.write(&self.broker)?;
        Ok(true)
    }

    fn decide(&self, correlation: i32, fate: Fate) -> io::Result<()> {
        let mut fates = lock(&self.fates);
        if fates.len() >= FATES_MAX {
            return Err(io::Error::other("too many answers to be spoilt on one connection"));
        }
        fates.insert(correlation, fate);
        Ok(())
    }

    fn pass_answers(&self, shared: &Shared) {
        while let Some(answer) = Frame::answer(&self.broker) {
            let fate = lock(&self.fates).remove(&answer.answers());
            match fate {
                Some(Fate::Lost) => continue,
                Some(Fate::Cut) => return self.cut(),
                Some(Fate::Late(time)) => pause(shared, time),
                None => {}
            }
            // A client that has gone leaves the rest of its answers to nobody, but what it asked for is still done.
            answer.write(&self.client).unwrap_or_default();
        }
        self.cut();
    }
}

/// Sends what a rule holds over a connection of its own, as a network does that delivers late, and waits for the answers.
pub fn release(held: &Rule, broker: SocketAddr) -> io::Result<()> {
    while let Some(request) = held.next_held() {
        let late = TcpStream::connect_timeout(&broker, BROKER_WITHIN)?;
        late.set_read_timeout(Some(BROKER_WITHIN))?;
        request.write(&late)?;
        let code = Frame::answer(&late).and_then(|answer| answer.error_code(&request));
        held.released(code.ok_or_else(|| io::Error::other("the broker did not answer a released request"))?);
    }
    Ok(())
}

fn pause(shared: &Shared, time: Duration) {
    let until = Instant::now() + time;
    while Instant::now() < until && !shared.is_stopping() {
        std::thread::sleep(STEP.min(time));
    }
}
