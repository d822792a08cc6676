//! `serve`: the event loop. One thread owns connections, queue and counters, and never
//! waits for anything but its descriptors; the work is done by the pipeline's threads.

use crate::answers::ConnectionId;
use crate::confine::Confinement;
use crate::connection::{Connection, Received};
use crate::pipeline::{Event, Pipeline};
use crate::process::{self, Wake};
use crate::service::{Service, overloaded};
use crate::settings::ServeOptions;
use crate::socket::Socket;
use crate::stdio;
use pgclip_wire::notice::Notice;
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// How long no connection is accepted after accepting one failed for want of resources.
const ACCEPT_PAUSE: Duration = Duration::from_millis(500);

/// How often the supervisor is told that the loop turns.
const BEAT: Duration = Duration::from_secs(1);

/// Serves until a signal says to end.
pub fn run(options: ServeOptions) -> anyhow::Result<()> {
    process::restrict(options.max_connections);
    let signals = process::end_signals()?;
    let socket = Socket::listen(&options.socket)?;
    let (sender, events) = channel();
    let wake = Arc::new(Wake::new()?);
    let waker = wake.clone();
    let own = options.socket.parent().unwrap_or(Path::new("."));
    let confinement = match &options.data_directory {
        Some(data) => Confinement::begin(data, own),
        None => Confinement::none(),
    };
    if options.data_directory.is_some() {
        tracing::info!("{}", confinement.description);
    }
    let pipeline = Pipeline::start(&options.engine, options.budget(), confinement, move |event| {
        // The receiver is gone only when the process ends.
        let _ = sender.send(event);
        waker.wake();
    })?;
    match pipeline.models.runtime.version() {
        Ok(version) => tracing::info!(
            "listening on \"{}\", ONNX Runtime {version}, device {}",
            options.socket.display(),
            options.engine.device
        ),
        // It goes on: each request is answered with the reason, and tries again.
        Err(failure) => tracing::error!("{failure}"),
    }
    let service = Service::new(&options, pipeline, Instant::now());
    let mut server = Server {
        service,
        socket,
        signals,
        wake,
        events,
        connections: BTreeMap::new(),
        max_connections: options.max_connections as usize,
        last_connection: 0,
        accept_again: None,
        next_beat: options.supervised.then(Instant::now),
        buffer: vec![0; 64 * 1024],
    };
    while server.turn()? {}
    tracing::info!("ending");
    // The workers may be in the midst of inference, which is not waited for: the socket is
    // removed, and the process ends without the destructors of anything they use.
    let Server { socket, .. } = server;
    drop(socket);
    process::end(0)
}

struct Server {
    service: Service,
    socket: Socket,
    signals: OwnedFd,
    wake: Arc<Wake>,
    events: Receiver<Event>,
    connections: BTreeMap<ConnectionId, Connection>,
    max_connections: usize,
    last_connection: ConnectionId,
    /// Until when no connection is accepted.
    accept_again: Option<Instant>,
    /// When the supervisor is told next, where there is one.
    next_beat: Option<Instant>,
    buffer: Vec<u8>,
}

impl Server {
    /// Waits for something to do and does it. False when it is time to end.
    fn turn(&mut self) -> anyhow::Result<bool> {
        let now = Instant::now();
        let due = self.service.dispatch(now);
        self.send_answers();
        self.accept_again = self.accept_again.filter(|again| *again > now);
        self.beat(now);
        let until = [due, self.accept_again, self.next_beat].into_iter().flatten().min();
        let listening = if self.accept_again.is_none() { libc::POLLIN } else { 0 };

        let entry = |fd: RawFd, events| libc::pollfd { fd, events, revents: 0 };
        let mut polled = vec![
            entry(self.signals.as_raw_fd(), libc::POLLIN),
            entry(self.wake.as_raw_fd(), libc::POLLIN),
            entry(self.socket.listener.as_raw_fd(), listening),
        ];
        let connections = self.connections.values();
        polled.extend(connections.map(|c| entry(c.stream.as_raw_fd(), c.interest())));
        let ids: Vec<ConnectionId> = self.connections.keys().copied().collect();
        let more = self.connections.values().any(Connection::has_more).then_some(now);
        let until = until.into_iter().chain(more).min();
        wait(&mut polled, until.map(|until| until.saturating_duration_since(now)))?;

        if polled[0].revents != 0 {
            return Ok(false);
        }
        if polled[1].revents != 0 {
            self.wake.clear();
        }
        let now = Instant::now();
        while let Ok(event) = self.events.try_recv() {
            self.service.event(event, now);
        }
        for (id, polled) in ids.into_iter().zip(&polled[3..]) {
            let more = self.connections.get(&id).is_some_and(Connection::has_more);
            if more || polled.revents != 0 {
                self.serve_connection(id, polled.revents, now);
            }
        }
        if polled[2].revents != 0 {
            self.accept(now);
        }
        Ok(true)
    }

    fn beat(&mut self, now: Instant) {
        if self.next_beat.is_some_and(|due| due <= now) {
            stdio::say(&Notice::Busy(self.service.busy(now)));
            self.next_beat = Some(now + BEAT);
        }
    }

    fn serve_connection(&mut self, id: ConnectionId, ready: libc::c_short, now: Instant) {
        let Self { connections, service, buffer, .. } = self;
        let Some(connection) = connections.get_mut(&id) else { return };
        let ended = ready & (libc::POLLERR | libc::POLLHUP | libc::POLLNVAL) != 0;
        let mut alive = !(ended && ready & libc::POLLIN == 0);
        if ready & libc::POLLIN != 0 {
            alive = connection.receive(buffer);
        }
        while let Some(received) = connection.next(|bytes| service.reserve(bytes)) {
            match received {
                Received::Request(request, charge) => service.request(id, request, charge, now),
                Received::Refused(refused) => connection.send(&overloaded().into_response(refused)),
            }
        }
        if !alive || !connection.flush() {
            self.drop_connection(id);
        }
    }

    fn drop_connection(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connections.remove(&id) {
            self.service.release(connection.reserved());
            self.service.disconnected(id);
            self.service.stats.counters.connections = self.connections.len() as u32;
        }
    }

    fn send_answers(&mut self) {
        for (id, response) in self.service.take_answers() {
            let Some(connection) = self.connections.get_mut(&id) else { continue };
            connection.send(&response);
            if !connection.flush() {
                self.drop_connection(id);
            }
        }
    }

    fn accept(&mut self, now: Instant) {
        loop {
            let accepted = self.socket.listener.accept().and_then(|(stream, _)| {
                self.last_connection += 1;
                Connection::new(self.last_connection, stream)
            });
            match accepted {
                Ok(mut connection) if self.connections.len() >= self.max_connections => {
                    connection.refuse(overloaded());
                    connection.flush();
                }
                Ok(connection) => {
                    self.connections.insert(connection.id, connection);
                    self.service.stats.counters.connections = self.connections.len() as u32;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    tracing::warn!("could not accept a connection: {error}");
                    self.accept_again = Some(now + ACCEPT_PAUSE);
                    return;
                }
            }
        }
    }
}

/// Waits for any of the descriptors, or until the time is over.
fn wait(polled: &mut [libc::pollfd], time: Option<Duration>) -> anyhow::Result<()> {
    let time = time.map(|time| libc::timespec {
        tv_sec: time.as_secs() as libc::time_t,
        tv_nsec: time.subsec_nanos().into(),
    });
    let time = time.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: the pointer and length are those of one slice, the time is null or outlives
    // the call, and a null mask leaves the mask alone.
    let ready = unsafe {
        libc::ppoll(polled.as_mut_ptr(), polled.len() as libc::nfds_t, time, std::ptr::null())
    };
    let error = std::io::Error::last_os_error();
    if ready < 0 && error.kind() != ErrorKind::Interrupted {
        return Err(error.into());
    }
    Ok(())
}
