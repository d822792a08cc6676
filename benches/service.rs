//! The encoder as a service, on a private cluster: what SQL, socket and queue add to an inference,
//! what batching gains sixty-four sessions that search at once, and how soon a statement ends that
//! is told to while it waits for an inference. An example and no criterion bench, since it measures
//! medians and tails of many sessions.
//!
//! `make bench-service`

use std::process::Command;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use pgclip_cluster::Cluster;
use pgclip_tests::{start, trapdoor, value};
use postgres::Client;

/// Calls of one session, after as many tenths of warming up.
const CALLS: usize = 1000;
const SESSIONS: usize = 64;
/// Calls of each of many sessions.
const CALLS_OF_MANY: usize = 60;
/// Statements that are ended in each way.
const ENDINGS: usize = 50;
const WAITING: &str = "SELECT encode_text('hang', 'trap')";
/// A batch of the slow model takes a few milliseconds.
const ROUNDS: i64 = 10_000;

fn main() -> Result<()> {
    let builder = Cluster::builder("service")
        .preload(true)
        .setting("pgclip.device", "cpu")
        .setting("pgclip.encoder_timeout", 0);
    let (cluster, mut client) = start(&builder.setting("max_connections", SESSIONS + 20))?;
    let slow = cluster.data().with_file_name("slow");
    trapdoor::make_slow(&slow, "slow", ROUNDS)?;
    client.execute("SELECT clip_register_model('slow', $1)", &[&slow.to_str()])?;
    overhead(&cluster, &mut client)?;
    for model in ["slow", "pgclip-traffic-tiny"] {
        sessions(&cluster, model)?;
    }
    endings(&cluster, &mut client)
}

/// One session, built-in model.
fn overhead(cluster: &Cluster, client: &mut Client) -> Result<()> {
    let bare = bare(cluster, client)?;
    let nothing = client.prepare("SELECT $1::text")?;
    let encode = client.prepare("SELECT encode_text($1) IS NULL")?;
    let mut measure =
        |statement, what: &str, number: &dyn Fn(usize) -> usize| -> Result<Duration> {
            let mut times = Vec::new();
            for call in 0..CALLS * 11 / 10 {
                let text = format!("a red sedan with number {} on a wet road", number(call));
                let begun = Instant::now();
                client.query_one(statement, &[&text])?;
                times.push(begun.elapsed());
            }
            Ok(report(what, &mut times.split_off(CALLS / 10)).0)
        };
    measure(&nothing, "SELECT of a text", &|n| n)?;
    let uncached = measure(&encode, "encode_text, uncached", &|n| n)?;
    let cached = measure(&encode, "encode_text, cached", &|_| 0)?;
    println!("one text, inference alone     median {:7.0} us", micros(bare));
    println!("uncached, over the inference  {:7.0} us, goal 300", micros(uncached) - micros(bare));
    println!("cached                        {:7.0} us, goal 100", micros(cached));
    Ok(())
}

/// Median of tokenising and inference of one text, as the encoder's own bench has it.
fn bare(cluster: &Cluster, client: &mut Client) -> Result<Duration> {
    let share: String = value(client, "SELECT setting FROM pg_config() WHERE name = 'SHAREDIR'")?;
    let library: String =
        value(client, "SELECT setting FROM pg_config() WHERE name = 'PKGLIBDIR'")?;
    let output = Command::new(cluster.server().program("pgclip-encoder"))
        .args(["bench", "--device", "cpu", "--max-batch", "1", "--seconds", "3", "--onnxruntime"])
        .arg(format!("{library}/pgclip/libonnxruntime.so"))
        .arg(format!("{share}/pgclip/models/pgclip-traffic-tiny"))
        .output()?;
    let output = String::from_utf8(output.stdout)?;
    let line = output.lines().find(|line| line.starts_with("texts")).context("no texts")?;
    let rate: f64 = line.split_whitespace().nth(3).context("no rate")?.parse()?;
    Ok(Duration::from_secs_f64(1.0 / rate))
}

/// Searches of one session, and of many at once.
fn sessions(cluster: &Cluster, model: &str) -> Result<()> {
    println!("clip_query with model {model}");
    let mut rates = Vec::new();
    for sessions in [1, SESSIONS] {
        let calls = if sessions == 1 { CALLS / 5 } else { CALLS_OF_MANY };
        let ready = Barrier::new(sessions);
        let mut clients =
            (0..sessions).map(|_| cluster.connect()).collect::<Result<Vec<Client>>>()?;
        let begun = Instant::now();
        let times = std::thread::scope(|scope| {
            let workers: Vec<_> = clients
                .iter_mut()
                .enumerate()
                .map(|(session, client)| {
                    let ready = &ready;
                    scope.spawn(move || search(client, model, sessions, session, calls, ready))
                })
                .collect();
            workers.into_iter().map(|w| w.join().expect("a session")).collect::<Result<Vec<_>>>()
        })?;
        let rate = (sessions * calls) as f64 / begun.elapsed().as_secs_f64();
        let what = format!("  {sessions} sessions");
        let (median, last) = report(&what, &mut times.concat());
        println!(
            "  {rate:.0} a second; p99 is {:.1} medians, goal 10",
            micros(last) / micros(median)
        );
        rates.push(rate);
    }
    println!("  {SESSIONS} sessions get {:.1} times as much, goal 3", rates[1] / rates[0]);
    Ok(())
}

/// How long after they were told to statements end that wait for an inference without end.
fn endings(cluster: &Cluster, client: &mut Client) -> Result<()> {
    let trap = cluster.data().with_file_name("trap");
    trapdoor::make(&trap, "trap", "hang")?;
    client.execute("SELECT clip_register_model('trap', $1)", &[&trap.to_str()])?;
    let timeout = Duration::from_millis(50);
    let mut late = Vec::new();
    client.batch_execute(&format!("SET statement_timeout = {}", timeout.as_millis()))?;
    for _ in 0..ENDINGS {
        let begun = Instant::now();
        ensure!(client.query(WAITING, &[]).is_err(), "it came to an end");
        late.push(begun.elapsed().saturating_sub(timeout));
    }
    client.batch_execute("RESET statement_timeout")?;
    println!("statements that wait for an inference end after they are told to, goal 100000 us");
    report("  statement_timeout", &mut late);
    for function in ["pg_cancel_backend", "pg_terminate_backend"] {
        let end = client.prepare(&format!("SELECT {function}($1)"))?;
        let waits = client.prepare(
            "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $1 AND state = 'active'
             AND wait_event_type = 'Extension')",
        )?;
        let mut times = Vec::new();
        for _ in 0..ENDINGS {
            let mut session = cluster.connect()?;
            let pid: i32 = value(&mut session, "SELECT pg_backend_pid()")?;
            let waiting = std::thread::spawn(move || {
                let ended = session.query(WAITING, &[]).is_err();
                (ended, Instant::now())
            });
            while !client.query_one(&waits, &[&pid])?.get::<_, bool>(0) {
                ensure!(!waiting.is_finished(), "it does not wait");
            }
            let told = Instant::now();
            client.query_one(&end, &[&pid])?;
            let (ended, at) = waiting.join().expect("a session");
            ensure!(ended, "it came to an end");
            times.push(at.saturating_duration_since(told));
        }
        report(&format!("  {function}"), &mut times);
    }
    Ok(())
}

fn search(
    client: &mut Client,
    model: &str,
    sessions: usize,
    session: usize,
    calls: usize,
    ready: &Barrier,
) -> Result<Vec<Duration>> {
    let query = client.prepare("SELECT clip_query($1, $2)::text IS NULL")?;
    client.query_one(&query, &[&"a warm-up", &model])?;
    ready.wait();
    let mut times = Vec::new();
    for call in 0..calls {
        let text = format!("a bus of line {call} in street {session} of {sessions}");
        let begun = Instant::now();
        client.query_one(&query, &[&text, &model])?;
        times.push(begun.elapsed());
    }
    Ok(times)
}

/// Prints and returns the median and the 99th percentile.
fn report(what: &str, times: &mut [Duration]) -> (Duration, Duration) {
    times.sort();
    let (median, last) = (times[times.len() / 2], times[times.len() * 99 / 100]);
    println!("{what:<29} median {:7.0} us, p99 {:7.0} us", micros(median), micros(last));
    (median, last)
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}
