//! One connection: bytes in, requests out; answers in, bytes out. Its own file because it
//! is all that touches a client's socket, which never blocks.

use crate::answers::ConnectionId;
use crate::failure::Failure;
use pgclip_wire::protocol::{
    ErrorKind, FrameReader, ProtocolError, Request, Response, VERSION, encode_frame,
};
use std::io::{self, ErrorKind as Io, Read, Write};
use std::os::unix::net::UnixStream;

/// Frames up to this are read without asking for memory: Hello, Status and Cancel, which have to
/// get through when nothing else does.
const SMALL: usize = 64;
/// With more than this unsent, nothing more is read of the connection.
const MAX_UNSENT: usize = 1024 * 1024;
/// Read at most this in one turn, so that all connections get theirs.
const TURN_BYTES: usize = 1024 * 1024;
/// Take at most this many requests in one turn, for the same reason.
const TURN_REQUESTS: usize = 64;

#[derive(Debug)]
pub struct Connection {
    pub id: ConnectionId,
    pub stream: UnixStream,
    reader: FrameReader,
    /// Bytes reserved for the frame that is arriving, once it was admitted.
    admitted: Option<usize>,
    greeted: bool,
    unsent: Vec<u8>,
    sent: usize,
    /// Requests taken in this turn.
    taken: usize,
    /// Whether the reader may hold more whole requests.
    more: bool,
    /// Nothing is read any more, and once all is sent the connection is closed.
    closing: bool,
}

/// What a client sent.
#[derive(Debug)]
pub enum Received {
    /// A request, and the bytes that were reserved for it.
    Request(Request, usize),
    /// The id of a request that there was no memory for.
    Refused(u64),
}

impl Connection {
    pub fn new(id: ConnectionId, stream: UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self {
            id,
            stream,
            reader: FrameReader::new(),
            admitted: None,
            greeted: false,
            unsent: Vec::new(),
            sent: 0,
            taken: 0,
            more: false,
            closing: false,
        })
    }

    /// Whether requests are taken: not from a client that does not take its answers.
    fn is_open(&self) -> bool {
        !self.closing && self.unsent.len() <= MAX_UNSENT
    }

    /// Whether there are requests to take without anything arriving.
    pub fn has_more(&self) -> bool {
        self.more && self.is_open()
    }

    /// What to wait for.
    pub fn interest(&self) -> libc::c_short {
        let read = self.is_open() && !self.more;
        (if read { libc::POLLIN } else { 0 })
            | (if self.unsent.is_empty() { 0 } else { libc::POLLOUT })
    }

    /// Bytes that were reserved for a frame that has not arrived whole.
    pub fn reserved(&self) -> usize {
        self.admitted.unwrap_or(0)
    }

    /// Begins a turn: reads what has arrived, at most a turn's worth. False when the client
    /// is gone.
    pub fn receive(&mut self, buffer: &mut [u8]) -> bool {
        let mut turn = 0;
        while self.is_open() && turn < TURN_BYTES {
            match self.stream.read(buffer) {
                Ok(0) => return false,
                Ok(n) => {
                    self.reader.push(&buffer[..n]);
                    turn += n;
                    if n < buffer.len() {
                        break;
                    }
                }
                Err(error) if error.kind() == Io::WouldBlock => break,
                Err(error) if error.kind() == Io::Interrupted => {}
                Err(_) => return false,
            }
        }
        true
    }

    /// The next request that has arrived. `reserve` says whether there is memory for a
    /// larger one. Greetings and breaches of the protocol are dealt with here.
    pub fn next(&mut self, mut reserve: impl FnMut(usize) -> bool) -> Option<Received> {
        while self.is_open() && self.taken < TURN_REQUESTS {
            self.taken += 1;
            match self.try_next(&mut reserve) {
                Ok(Some(Received::Request(Request::Hello { version }, _))) => self.greet(version),
                Ok(Some(received)) if self.greeted => return Some(received),
                Ok(Some(_)) => self.refuse(Failure::new(
                    ErrorKind::BadRequest,
                    "a connection has to begin with Hello",
                )),
                Ok(None) => {
                    self.more = false;
                    self.taken = 0;
                    return None;
                }
                Err(error) => self.refuse(Failure::new(ErrorKind::BadRequest, error.to_string())),
            }
        }
        self.more = true;
        self.taken = 0;
        None
    }

    fn try_next(
        &mut self,
        reserve: &mut impl FnMut(usize) -> bool,
    ) -> Result<Option<Received>, ProtocolError> {
        if self.admitted.is_none() {
            let Some(incoming) = self.reader.incoming()? else { return Ok(None) };
            let charge = if incoming.length <= SMALL { 0 } else { incoming.length };
            if charge > 0 && !(self.greeted && reserve(charge)) {
                self.reader.skip_incoming()?;
                return Ok(Some(Received::Refused(incoming.id)));
            }
            self.admitted = Some(charge);
        }
        let request = self.reader.next_message()?;
        Ok(request
            .map(|request| Received::Request(request, self.admitted.take().unwrap_or_default())))
    }

    fn greet(&mut self, version: u32) {
        if version == VERSION {
            self.greeted = true;
            self.send(&Response::Hello { version: VERSION });
        } else {
            let message =
                format!("the encoder speaks protocol version {VERSION}, not version {version}");
            self.refuse(Failure::new(ErrorKind::VersionMismatch, message));
        }
    }

    /// Says why, and closes the connection.
    pub fn refuse(&mut self, failure: Failure) {
        self.send(&failure.into_response(0));
        self.closing = true;
    }

    /// Adds an answer to what is to be sent.
    pub fn send(&mut self, response: &Response) {
        let frame = encode_frame(response).or_else(|error| {
            let failure = Failure::new(ErrorKind::Internal, error.to_string());
            encode_frame(&failure.into_response(response.id()))
        });
        // A failure's frame is far below the bound.
        self.unsent.extend(frame.unwrap_or_default());
    }

    /// Sends as much as the socket takes. False when the connection is at its end.
    pub fn flush(&mut self) -> bool {
        while self.sent < self.unsent.len() {
            match self.stream.write(&self.unsent[self.sent..]) {
                Ok(0) => return false,
                Ok(n) => self.sent += n,
                Err(error) if error.kind() == Io::WouldBlock => return true,
                Err(error) if error.kind() == Io::Interrupted => {}
                Err(_) => return false,
            }
        }
        self.unsent = Vec::new();
        self.sent = 0;
        !self.closing
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pgclip_wire::protocol::ModelRef;

    /// Requests below 64 KiB were once free of charge, so that thousands of them took any amount
    /// of memory.
    #[test]
    fn every_request_with_content_is_charged() {
        let (mut client, server) = UnixStream::pair().unwrap();
        let mut connection = Connection::new(1, server).unwrap();
        let model = ModelRef { directory: "/m".into(), digest: [7; 32], language: None };
        let texts = Request::Texts { id: 5, model, texts: vec!["x".repeat(200)] };
        let frame = encode_frame(&texts).unwrap();
        let hello = encode_frame(&Request::Hello { version: VERSION }).unwrap();
        let status = encode_frame(&Request::Status { id: 6 }).unwrap();
        client.write_all(&[hello, frame.clone(), frame.clone(), status].concat()).unwrap();
        assert!(connection.receive(&mut [0; 4096]));
        let mut asked = Vec::new();
        let mut received = Vec::new();
        while let Some(next) = connection.next(|bytes| {
            asked.push(bytes);
            asked.len() > 1
        }) {
            received.push(match next {
                Received::Request(request, charge) => (request.id(), Some(charge)),
                Received::Refused(id) => (id, None),
            });
        }
        let body = frame.len() - 4;
        assert_eq!(asked, [body, body]);
        // The status is told also when there is no memory for more.
        assert_eq!(received, [(5, None), (5, Some(body)), (6, Some(0))]);
    }
}
