//! The backend's connection to the encoder: opened at first use, kept for the session. Requests
//! may be many at once; each is a [`Ticket`], and a ticket dropped before its answer is there (by
//! an error, a cancel request, the end of the transaction) makes the encoder drop the work.
//!
//! When the encoder dies, unanswered requests are sent once more to the next one, since it may
//! have died of something else; a request that sees a second death fails.
//!
//! No borrow of the client is held while it waits: a session that is terminated there ends without
//! unwinding, and the end of its transaction drops the tickets that are left.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::time::{Duration, Instant};

use pgclip_wire::protocol::{FrameReader, Request, Response, VERSION, encode_frame};
use pgrx::pg_sys::errcodes::PgSqlErrorCode as Code;

use super::refusal::refusal;
use super::{launch, socket};
use crate::error::Failure;
use crate::place;

/// How long a statement waits for the encoder to start.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long an encoder that runs may take to answer a question about itself.
const ANSWER: Duration = Duration::from_secs(2);
/// Pause between two attempts to connect.
const RETRY: Duration = Duration::from_millis(20);
/// Deaths of the encoder that a request survives.
const MAX_DEATHS: u8 = 1;
/// Bytes read at once.
const CHUNK: usize = 8 * 1024;

thread_local! {
    static CLIENT: RefCell<Client> = RefCell::default();
}

/// A request that was sent.
#[derive(Debug)]
pub struct Ticket(u64);

#[derive(Default)]
struct Client {
    link: Option<Link>,
    last_id: u64,
    pending: HashMap<u64, Pending>,
    /// Since when connections end before the encoder greets: it is about to be gone, and its
    /// socket still takes connections.
    refused_since: Option<Instant>,
}

/// A request, kept until its answer is here.
struct Pending {
    frame: Rc<Vec<u8>>,
    answer: Option<Response>,
    deaths: u8,
}

struct Link {
    stream: UnixStream,
    reader: FrameReader,
    /// Frames to be written; of the first, `written` bytes are.
    outgoing: VecDeque<(u64, Rc<Vec<u8>>)>,
    written: usize,
    /// The encoder has answered on it.
    greeted: bool,
}

/// Sends a request without waiting for more than a connection.
pub fn send(request: impl FnOnce(u64) -> Request) -> Result<Ticket, Failure> {
    let (ticket, is_linked) = enqueue(request)?;
    if !is_linked {
        connect()?;
    }
    CLIENT.with_borrow_mut(Client::exchange)?;
    Ok(ticket)
}

/// Takes a request in, and tells whether there is a connection that it will go out on.
fn enqueue(request: impl FnOnce(u64) -> Request) -> Result<(Ticket, bool), Failure> {
    let id = CLIENT.with_borrow_mut(|client| {
        client.last_id += 1;
        client.last_id
    });
    let frame = encode_frame(&request(id)).map_err(|error| {
        Failure::new(Code::ERRCODE_PROGRAM_LIMIT_EXCEEDED, "the request is too large")
            .detail(error.to_string())
    })?;
    // From here on the ticket takes the request back when an error is raised.
    let ticket = Ticket(id);
    let is_linked = CLIENT.with_borrow_mut(|client| {
        client.drop_dead_link();
        let frame = Rc::new(frame);
        client.pending.insert(id, Pending { frame: Rc::clone(&frame), answer: None, deaths: 0 });
        client.link.as_mut().map(|link| link.outgoing.push_back((id, frame))).is_some()
    });
    Ok((ticket, is_linked))
}

/// Asks an encoder that runs, and starts none: the answer, or that there is none to ask, or none that
/// answers.
pub fn ask_running(request: impl FnOnce(u64) -> Request) -> Result<Response, Failure> {
    CLIENT.with_borrow_mut(Client::drop_dead_link);
    if CLIENT.with_borrow(|client| client.link.is_none()) {
        let stream = socket::connect().map_err(|error| {
            let reason = std::fs::read_to_string(place::FAILURE);
            let reason = place::damage().or(reason.ok());
            unavailable(&reason.unwrap_or_else(|| error.to_string()))
        })?;
        CLIENT.with_borrow_mut(|client| client.resume(stream));
    }
    let ended = || unavailable("it has ended");
    let (ticket, is_linked) = enqueue(request)?;
    if !is_linked {
        return Err(ended());
    }
    let begun = Instant::now();
    loop {
        CLIENT.with_borrow_mut(Client::exchange)?;
        match CLIENT.with_borrow_mut(|client| client.next(ticket.0)) {
            Next::Take(answer) => return taken(answer),
            Next::Wait { .. } if begun.elapsed() > ANSWER => {
                return Err(unavailable("it does not answer"));
            }
            Next::Wait { socket, writable } => {
                socket::wait_at_most(socket, writable, Some(ANSWER));
            }
            Next::Connect => return Err(ended()),
        }
    }
}

/// An answer; the encoder's refusal of the whole request is an error.
fn taken(answer: Response) -> Result<Response, Failure> {
    match answer {
        Response::Failed { kind, message, hint, .. } => Err(refusal(kind, message, hint)),
        answer => Ok(answer),
    }
}

/// Opens a connection, starting the encoder where needed, and sends all that is unanswered.
fn connect() -> Result<(), Failure> {
    if CLIENT.with_borrow(|client| client.refused_since.is_some()) {
        socket::pause(RETRY);
    }
    let stream = open()?;
    CLIENT.with_borrow_mut(|client| client.resume(stream));
    Ok(())
}

/// What a ticket's owner does next.
enum Next {
    Take(Response),
    Wait { socket: RawFd, writable: bool },
    Connect,
}

impl Ticket {
    /// Waits for the answer. The encoder's refusal of the whole request is an error.
    pub fn wait(self) -> Result<Response, Failure> {
        loop {
            match CLIENT.with_borrow_mut(|client| client.next(self.0)) {
                Next::Take(answer) => return taken(answer),
                Next::Wait { socket, writable } => socket::wait(socket, writable),
                Next::Connect => connect()?,
            }
            CLIENT.with_borrow_mut(Client::exchange)?;
        }
    }
}

impl Drop for Ticket {
    // Called at the end of transactions too, where nothing may panic.
    fn drop(&mut self) {
        let _ = CLIENT.try_with(|client| {
            if let Ok(mut client) = client.try_borrow_mut() {
                client.forget(self.0);
            }
        });
    }
}

impl Client {
    /// The answer to a request, or what it waits for.
    fn next(&mut self, id: u64) -> Next {
        let pending = self.pending.get_mut(&id).expect("a ticket's request is kept");
        match (pending.answer.take(), &self.link) {
            (Some(answer), _) => {
                self.pending.remove(&id);
                Next::Take(answer)
            }
            (None, Some(link)) => {
                Next::Wait { socket: link.stream.as_raw_fd(), writable: !link.outgoing.is_empty() }
            }
            (None, None) => Next::Connect,
        }
    }

    /// Takes an unanswered request back.
    fn forget(&mut self, id: u64) {
        let Some(pending) = self.pending.remove(&id) else { return };
        if pending.answer.is_some() {
            return;
        }
        let Some(link) = &mut self.link else { return };
        match link.outgoing.iter().position(|(other, _)| *other == id) {
            // Half a frame cannot be taken back, so the connection is closed.
            Some(0) if link.written > 0 => self.link = None,
            Some(at) => {
                link.outgoing.remove(at);
            }
            None => {
                if let Ok(frame) = encode_frame(&Request::Cancel { id }) {
                    link.outgoing.push_back((0, Rc::new(frame)));
                }
                if link.write().is_err() {
                    self.link = None;
                }
            }
        }
    }

    /// Notices the end of an encoder that died while nothing was asked of it.
    fn drop_dead_link(&mut self) {
        if self.pending.is_empty() && self.link.as_mut().is_some_and(|link| link.read().is_err()) {
            self.link = None;
        }
    }

    /// Goes on over a new connection: all that is unanswered is sent again.
    fn resume(&mut self, stream: UnixStream) {
        let hello =
            encode_frame(&Request::Hello { version: VERSION }).expect("a Hello is of a few bytes");
        let mut outgoing = VecDeque::from([(0, Rc::new(hello))]);
        let mut unanswered: Vec<_> =
            self.pending.iter().filter(|(_, pending)| pending.answer.is_none()).collect();
        unanswered.sort_by_key(|(id, _)| **id);
        outgoing.extend(unanswered.iter().map(|(id, pending)| (**id, Rc::clone(&pending.frame))));
        let reader = FrameReader::new();
        self.link = Some(Link { stream, reader, outgoing, written: 0, greeted: false });
    }

    /// Writes and reads what goes without waiting. A lost connection is no error as long as the
    /// requests on it may be sent again.
    fn exchange(&mut self) -> Result<(), Failure> {
        let Some(link) = &mut self.link else { return Ok(()) };
        let moved = link.write().and_then(|()| link.read());
        loop {
            match link.reader.next_message() {
                Ok(Some(Response::Hello { version: VERSION })) => {
                    link.greeted = true;
                    self.refused_since = None;
                }
                Ok(Some(Response::Hello { version })) => {
                    self.link = None;
                    return Err(Failure::new(
                        Code::ERRCODE_SYSTEM_ERROR,
                        format!("the encoder speaks version {version}, not {VERSION}"),
                    )
                    .hint("Restart the server after an update of pgclip."));
                }
                Ok(Some(Response::Failed { id: 0, kind, message, hint })) => {
                    self.link = None;
                    return Err(refusal(kind, message, hint));
                }
                Ok(Some(answer)) => {
                    // An answer to a request that was cancelled meanwhile is of no use.
                    if let Some(pending) = self.pending.get_mut(&answer.id()) {
                        pending.answer = Some(answer);
                        pending.frame = Rc::default();
                    }
                }
                Ok(None) => break,
                Err(error) => {
                    self.link = None;
                    return Err(Failure::new(
                        Code::ERRCODE_PROTOCOL_VIOLATION,
                        "the encoder's answer cannot be read",
                    )
                    .detail(error.to_string()));
                }
            }
        }
        if let Err(error) = moved {
            self.lost(&error)?;
        }
        Ok(())
    }

    /// Counts a death of the encoder against every unanswered request, if it got that far: one
    /// that did not greet worked on none.
    fn lost(&mut self, error: &io::Error) -> Result<(), Failure> {
        if self.link.take().is_some_and(|link| !link.greeted) {
            let since = self.refused_since.get_or_insert_with(Instant::now);
            if since.elapsed() < PATIENCE {
                return Ok(());
            }
        }
        let mut spent = false;
        for pending in self.pending.values_mut().filter(|pending| pending.answer.is_none()) {
            pending.deaths += 1;
            spent |= pending.deaths > MAX_DEATHS;
        }
        if spent {
            self.refused_since = None;
            return Err(Failure::new(
                Code::ERRCODE_SYSTEM_ERROR,
                "the encoder process ended twice while it worked on this statement",
            )
            .detail(error.to_string())
            .hint("The server's log tells how it ended."));
        }
        Ok(())
    }
}

impl Link {
    fn write(&mut self) -> io::Result<()> {
        while let Some((_, frame)) = self.outgoing.front() {
            match socket::write(&self.stream, &frame[self.written..])? {
                0 => break,
                count => self.written += count,
            }
            if self.written == frame.len() {
                self.outgoing.pop_front();
                self.written = 0;
            }
        }
        Ok(())
    }

    fn read(&mut self) -> io::Result<()> {
        let mut chunk = [0; CHUNK];
        loop {
            let count = socket::read(&self.stream, &mut chunk)?;
            self.reader.push(&chunk[..count]);
            if count < CHUNK {
                return Ok(());
            }
        }
    }
}

/// Connects, and has the encoder started where there is none.
fn open() -> Result<UnixStream, Failure> {
    let begun = Instant::now();
    let mut asked = false;
    loop {
        let error = match socket::connect() {
            Ok(stream) => return Ok(stream),
            Err(error) => error,
        };
        if let Some(damage) = place::damage() {
            return Err(unavailable(&damage).hint(place::REMEDY));
        }
        let running = launch::is_running();
        if running && let Ok(reason) = std::fs::read_to_string(place::FAILURE) {
            return Err(unavailable(&reason));
        }
        if !running && !asked && !launch::is_preloaded() {
            asked = true;
            if !launch::start() {
                return Err(unavailable("there is no free slot for a background worker")
                    .hint("Raise \"max_worker_processes\", or preload pgclip."));
            }
        }
        if begun.elapsed() > PATIENCE {
            return Err(unavailable(&error.to_string()));
        }
        socket::pause(RETRY);
    }
}

fn unavailable(reason: &str) -> Failure {
    Failure::new(Code::ERRCODE_SYSTEM_ERROR, "the encoder process is not available")
        .detail(format!("{}.", reason.trim_end_matches('.')))
        .hint("See the server's log, \"pgclip.encoder_path\" and \"pgclip.onnxruntime_path\".")
}
