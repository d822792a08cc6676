//! Statements that wait for the encoder end when they are told to. The encoder is stopped by
//! SIGSTOP, or has an inference that does not end, so that they would wait for ever: nothing counts
//! as hung here. How long they take to end, `make bench-service` measures.

use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context, Result};
use pgclip_cluster::{Cluster, Process};
use pgclip_tests::{copy, make_photos, pictures, sqlstate, start, trapdoor, value};
use postgres::Client;

/// Far longer than any statement here takes, far shorter than for ever.
const PATIENCE: Duration = Duration::from_secs(20);

/// A stopped encoder; it goes on when this is dropped.
struct Stopped(Vec<Process>);

impl Stopped {
    fn new(cluster: &Cluster) -> Self {
        let encoders = cluster.encoders();
        encoders.iter().for_each(|encoder| encoder.signal(libc::SIGSTOP));
        Self(encoders)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        self.0.iter().for_each(|encoder| encoder.signal(libc::SIGCONT));
    }
}

/// Starts a cluster whose encoder runs, with the table of photos.
fn prepared(name: &str) -> Result<(Cluster, Client)> {
    let (cluster, mut client) =
        start(&Cluster::builder(name).setting("pgclip.encoder_timeout", 0))?;
    make_photos(&mut client)?;
    copy(&mut client, "photos", &pictures(4)).context("the first COPY")?;
    Ok((cluster, client))
}

type Statement = fn(&mut Client) -> Result<(), postgres::Error>;

/// Every kind of statement that waits for the encoder.
fn statements() -> [(&'static str, Statement); 6] {
    [
        ("encode_text", |client| client.batch_execute("SELECT encode_text('never seen before')")),
        ("encode_image", |client| {
            client.batch_execute("SELECT encode_image(image) FROM photos WHERE id = 1")
        }),
        ("text_search", |client| {
            client.batch_execute("SELECT * FROM text_search(NULL::photos, 'never heard before')")
        }),
        ("clip_evaluate", |client| {
            client.batch_execute(
                "CREATE OR REPLACE TEMP VIEW asked AS SELECT 1 AS id, 'never read before' AS sentence;
                 CREATE OR REPLACE TEMP VIEW answers AS SELECT 1 AS id, 1 AS photo;
                 SELECT * FROM clip_evaluate('asked', 'answers', 'photos')",
            )
        }),
        ("COPY", |client| {
            client.batch_execute("DELETE FROM photos WHERE id > 100")?;
            client
                .batch_execute("INSERT INTO photos (id, image) SELECT id + 100, image FROM photos")
        }),
        // Waits for its first batch while others are under way.
        ("many images", |client| {
            client.batch_execute("DELETE FROM photos WHERE id > 100")?;
            client.batch_execute(
                "INSERT INTO photos (id, image)
                 SELECT 100 + i, image FROM photos, generate_series(1, 200) AS i WHERE id = 1",
            )
        }),
    ]
}

/// Runs a statement in a session of its own, interrupts it while it waits, and returns how it
/// ended together with the session.
fn interrupted(
    cluster: &Cluster,
    statement: Statement,
    interrupt: &str,
) -> Result<(String, Client)> {
    let mut session = cluster.connect()?;
    let backend: i32 = value(&mut session, "SELECT pg_backend_pid()")?;
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let ended = sqlstate(statement(&mut session));
        // The test may have given up.
        let _ = sender.send((ended, session));
    });
    let mut observer = cluster.connect()?;
    cluster.wait_for("the statement to wait", || {
        let waits = "SELECT count(*) > 0 FROM pg_stat_activity
            WHERE pid = $1 AND state = 'active' AND wait_event_type IN ('Extension', 'Client', 'IPC')";
        Ok(observer.query_one(waits, &[&backend])?.get(0))
    })?;
    observer.execute(interrupt, &[&backend])?;
    receiver.recv_timeout(PATIENCE).with_context(|| format!("{interrupt}: it still waits"))
}

#[test]
fn statement_timeout_ends_a_waiting_statement() -> Result<()> {
    let (cluster, mut client) = prepared("timeout")?;
    let stopped = Stopped::new(&cluster);
    client.batch_execute("SET statement_timeout = '500ms'")?;
    for (name, statement) in statements() {
        assert_eq!(sqlstate(statement(&mut client)), "57014", "{name}");
    }
    drop(stopped);
    client.batch_execute("RESET statement_timeout")?;
    for (name, statement) in statements() {
        assert_eq!(sqlstate(statement(&mut client)), "no error", "{name}");
    }
    Ok(())
}

#[test]
fn cancelling_ends_a_waiting_statement() -> Result<()> {
    let (cluster, _client) = prepared("cancel")?;
    let stopped = Stopped::new(&cluster);
    let mut sessions = Vec::new();
    for (name, statement) in statements() {
        let (ended, session) = interrupted(&cluster, statement, "SELECT pg_cancel_backend($1)")
            .with_context(|| name)?;
        assert_eq!(ended, "57014", "{name}");
        sessions.push(session);
    }
    drop(stopped);
    for mut session in sessions {
        assert!(value::<bool>(&mut session, "SELECT dims(encode_text('again')) > 0")?);
    }
    Ok(())
}

#[test]
fn terminating_ends_a_waiting_session() -> Result<()> {
    let (cluster, mut client) = prepared("terminate")?;
    let stopped = Stopped::new(&cluster);
    for (name, statement) in statements() {
        let (ended, _) = interrupted(&cluster, statement, "SELECT pg_terminate_backend($1)")
            .with_context(|| name)?;
        // The client library may see the end of the connection before the error that tells why.
        assert!(["57P01", "connection closed"].contains(&&*ended), "{name}: {ended}");
    }
    drop(stopped);
    let told = cluster.log().matches("FATAL:  terminating connection").count();
    assert!(told >= statements().len(), "{told} sessions were told why they end");
    assert!(value::<bool>(&mut client, "SELECT dims(encode_text('again')) > 0")?);
    Ok(())
}

/// An inference cannot be stopped half-way: the statement ends, and leaves the encoder to it.
#[test]
fn a_statement_ends_in_the_midst_of_its_inference() -> Result<()> {
    let (cluster, mut client) = prepared("endless")?;
    let trap = cluster.data().with_file_name("trap");
    trapdoor::make(&trap, "trap", "hang")?;
    client.execute("SELECT clip_register_model('trap', $1)", &[&trap.to_str()])?;
    let encoder: i32 = value(&mut client, "SELECT pid FROM clip_status")?;
    const ENDLESS: Statement = |client| client.batch_execute("SELECT encode_text('hang', 'trap')");
    // Behind it in its lane.
    const BEHIND: Statement = |client| client.batch_execute("SELECT clip_query('safe', 'trap')");
    for (interrupt, states) in [
        ("SELECT pg_cancel_backend($1)", &["57014"][..]),
        ("SELECT pg_terminate_backend($1)", &["57P01", "connection closed"]),
    ] {
        for statement in [ENDLESS, BEHIND] {
            let (ended, _) = interrupted(&cluster, statement, interrupt)?;
            assert!(states.contains(&&*ended), "{interrupt}: {ended}");
        }
    }
    client.batch_execute("SET statement_timeout = '500ms'")?;
    for statement in [ENDLESS, BEHIND] {
        assert_eq!(sqlstate(statement(&mut client)), "57014");
    }
    client.batch_execute("RESET statement_timeout")?;
    // Images have a lane of their own, and the encoder is still the one that is caught.
    client.batch_execute("SELECT encode_image(image) FROM photos")?;
    assert_eq!(value::<i32>(&mut client, "SELECT pid FROM clip_status")?, encoder);
    cluster.stop(pgclip_cluster::Shutdown::Fast)?;
    cluster.wait_for("the encoder's end", || Ok(cluster.encoders().is_empty()))
}

#[test]
fn a_server_stops_while_statements_wait() -> Result<()> {
    let (cluster, _client) = prepared("stop")?;
    let stopped = Stopped::new(&cluster);
    let waiting: Vec<_> = statements()
        .into_iter()
        .map(|(_, statement)| {
            let mut session = cluster.connect()?;
            Ok(std::thread::spawn(move || sqlstate(statement(&mut session))))
        })
        .collect::<Result<_>>()?;
    std::thread::sleep(Duration::from_millis(300));
    // A stopped process cannot end by itself; the supervisor kills it.
    cluster.stop(pgclip_cluster::Shutdown::Fast)?;
    for session in waiting {
        assert!(session.join().is_ok_and(|state| state != "no error"));
    }
    drop(stopped);
    cluster.wait_for("the encoder's end", || Ok(cluster.encoders().is_empty()))
}
