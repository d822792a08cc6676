//! Encoders that hang, models that end every encoder, and a log that is flooded: the supervisor's
//! work. The database goes on, and says what is the matter.

use std::time::Duration;

use anyhow::{Context, Result};
use pgclip_cluster::{Cluster, Shutdown};
use pgclip_tests::{sqlstate, start, trapdoor, value};
use postgres::Client;

const ENCODE: &str = "SELECT dims(encode_text('a red bus')) > 0";

fn started(name: &str) -> Result<(Cluster, Client)> {
    start(&Cluster::builder(name).preload(true).setting("pgclip.encoder_timeout", "3s"))
}

/// Adds the server's log to what went wrong.
fn with_log(cluster: &Cluster, test: impl FnOnce() -> Result<()>) -> Result<()> {
    test().with_context(|| format!("the server's log:\n{}", cluster.log()))
}

fn pid(client: &mut Client) -> Result<i32> {
    value(client, "SELECT pid FROM clip_status")
}

/// A statement that waited for ever for an encoder that was stopped.
#[test]
fn an_encoder_that_no_longer_answers_is_replaced_unnoticed() -> Result<()> {
    let (cluster, mut client) = started("stopped")?;
    with_log(&cluster, || {
        let first = pid(&mut client)?;
        cluster.encoders().iter().for_each(|encoder| encoder.signal(libc::SIGSTOP));
        assert!(value::<bool>(&mut client, "SELECT dims(encode_text('never seen')) > 0")?);
        assert_ne!(pid(&mut client)?, first);
        assert_eq!(value::<i32>(&mut client, "SELECT restarts FROM clip_status")?, 1);
        assert!(cluster.log().contains("no longer answers; killing it"));
        Ok(())
    })
}

#[test]
fn an_inference_that_does_not_end_fails_its_own_statement() -> Result<()> {
    let (cluster, mut client) = started("stuck")?;
    with_log(&cluster, || {
        // A text of another model waits in the same lane while it hangs.
        let mut other = cluster.connect()?;
        let trap = cluster.data().with_file_name("trap");
        trapdoor::make(&trap, "trap", "hang")?;
        client.execute("SELECT clip_register_model('trap', $1)", &[&trap.to_str()])?;
        assert!(value::<bool>(&mut client, "SELECT dims(encode_text('safe', 'trap')) = 3")?);
        let waiting = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(500));
            sqlstate(other.query("SELECT encode_text('a bus that waits')", &[]))
        });
        let stuck = client.query("SELECT encode_text('hang', 'trap')", &[]);
        let error = stuck.err().context("it ended")?;
        assert_eq!(error.code().map(|code| code.code()), Some("58000"), "{error}");
        assert!(cluster.log().contains("does not come to the end of its work; killing it"));
        // It was in two encoders that died, through no fault of its own.
        let waited = waiting.join().map_err(|_| anyhow::anyhow!("the thread panicked"))?;
        assert!(["no error", "58000"].contains(&&*waited), "{waited}");
        assert!(value::<bool>(&mut client, ENCODE)?);
        assert!(value::<bool>(&mut client, "SELECT dims(encode_text('safe', 'trap')) = 3")?);
        let refused = "SELECT cardinality(refused) FROM clip_status";
        assert_eq!(value::<i32>(&mut client, refused)?, 0);
        Ok(())
    })
}

/// Registers a model whose text tower hangs while it is loaded, and ends the encoder by `signal`
/// each time in the midst of that. The error, and how many encoders were ended.
fn register_killed(
    cluster: &Cluster,
    client: &mut Client,
    observer: &mut Client,
    name: &str,
    directory: &std::path::Path,
    signal: libc::c_int,
) -> Result<(String, String, u32)> {
    let register =
        format!("SELECT clip_register_model('{name}', '{}')", directory.to_str().unwrap());
    let loading = format!(
        "SELECT pid FROM clip_status
          WHERE EXISTS (SELECT FROM unnest(models) AS m WHERE m LIKE '{name} %')"
    );
    let mut killed = Vec::new();
    let error = std::thread::scope(|scope| {
        let running = scope.spawn(|| client.batch_execute(&register).err());
        while !running.is_finished() {
            if let Ok(Some(row)) = observer.query_opt(&loading, &[]) {
                let pid: i32 = row.get(0);
                // Its other tower is sound, and comes first.
                let log = cluster.log();
                let own = log.rsplit_once(&format!("started with process id {pid}\n"));
                let loaded = format!("loaded image.onnx of {name} ");
                if own.is_some_and(|(_, own)| own.contains(&loaded)) && !killed.contains(&pid) {
                    std::thread::sleep(Duration::from_millis(300));
                    // SAFETY: kill takes any numbers.
                    unsafe { libc::kill(pid, signal) };
                    killed.push(pid);
                }
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        running.join().map_err(|_| anyhow::anyhow!("the thread panicked"))
    })?;
    let error = error.context("it was registered")?;
    let error = error.as_db_error().context("no error of the server's")?;
    Ok((error.code().code().into(), error.message().into(), killed.len() as u32))
}

/// Each statement that named such a model ended another encoder, for ever.
#[test]
fn a_model_that_ends_the_encoder_at_load_is_refused_after_three_deaths() -> Result<()> {
    let (cluster, mut client) = started("lethal")?;
    with_log(&cluster, || {
        let mut observer = cluster.connect()?;
        let lethal = cluster.data().with_file_name("lethal");
        trapdoor::make(&lethal, "lethal", "probe")?;
        let mut deaths = 0;
        let mut run = |client: &mut Client, signal| -> Result<(String, String)> {
            let (state, message, more) =
                register_killed(&cluster, client, &mut observer, "lethal", &lethal, signal)?;
            deaths += more;
            Ok((state, message))
        };
        // The first encoder was confined before the model was there, and ended by itself.
        let (mut state, mut message) = run(&mut client, libc::SIGABRT)?;
        assert_eq!(state, "58000", "{message}");
        while state == "58000" {
            (state, message) = run(&mut client, libc::SIGSEGV)?;
        }
        assert_eq!(state, "55000", "{message}");
        assert!(message.contains("lethal") && message.contains("tried again in"), "{message}");
        anyhow::ensure!(deaths == 3, "{deaths} deaths");
        let log = cluster.log();
        assert!(
            log.contains("was ended by signal 6 while it loaded text.onnx of model \"lethal\"")
        );
        let told = "WARNING:  pgclip: model \"lethal\" has ended the encoder time and again while \
                    it was loaded and is refused for 10 minutes";
        assert!(log.contains(told));

        let refused = "SELECT refused[1] ~ '^lethal \\(again in \\d+ s\\)$' FROM clip_status";
        assert!(value::<bool>(&mut client, refused)?);
        assert!(value::<bool>(&mut client, ENCODE)?);
        let before = pid(&mut client)?;
        let register =
            format!("SELECT clip_register_model('lethal', '{}')", lethal.to_str().unwrap());
        assert_eq!(sqlstate(client.batch_execute(&register)), "55000");
        assert_eq!(pid(&mut client)?, before);

        client.batch_execute("SELECT pg_reload_conf()")?;
        cluster.wait_for("another try", || {
            value::<bool>(&mut client, "SELECT coalesce(refused = '{}', false) FROM clip_status")
        })
    })
}

/// An operator's kills, or the kernel's, while a model happened to be loaded, once made the model
/// refused until a reload.
#[test]
fn kills_from_outside_are_not_held_against_a_model() -> Result<()> {
    let (cluster, mut client) = started("outside")?;
    with_log(&cluster, || {
        let mut observer = cluster.connect()?;
        let innocent = cluster.data().with_file_name("innocent");
        trapdoor::make(&innocent, "innocent", "probe")?;
        let mut deaths = 0;
        while deaths < 5 {
            let (state, message, more) = register_killed(
                &cluster,
                &mut client,
                &mut observer,
                "innocent",
                &innocent,
                libc::SIGKILL,
            )?;
            assert_eq!(state, "58000", "{message}");
            deaths += more;
        }
        let log = cluster.log();
        assert!(
            log.contains("was ended by signal 9 while it loaded text.onnx of model \"innocent\"")
        );
        assert!(!log.contains("is refused for") && !log.contains("memory ran out"));
        cluster.wait_for("the next encoder", || {
            value::<bool>(&mut client, "SELECT coalesce(refused = '{}', false) FROM clip_status")
        })
    })
}

/// A model that hangs while it is loaded is ended by the supervisor's own SIGKILL: that is the
/// model's doing.
#[test]
fn a_load_that_hangs_counts_as_a_crash() -> Result<()> {
    let (cluster, mut client) = started("hanging")?;
    with_log(&cluster, || {
        let hanging = cluster.data().with_file_name("hanging");
        trapdoor::make(&hanging, "hanging", "probe")?;
        let register =
            format!("SELECT clip_register_model('hanging', '{}')", hanging.to_str().unwrap());
        let mut state = String::from("58000");
        while state == "58000" {
            state = sqlstate(client.batch_execute(&register));
        }
        assert_eq!(state, "55000");
        assert_eq!(
            cluster.log().matches("does not come to the end of its work and was killed").count(),
            3
        );
        Ok(())
    })
}

#[test]
fn the_log_keeps_its_levels() -> Result<()> {
    let (cluster, mut client) = started("levels")?;
    with_log(&cluster, || {
        assert!(value::<bool>(&mut client, ENCODE)?);
        cluster.wait_for("the log", || {
            let log = cluster.log();
            Ok(log.contains("LOG:  pgclip encoder: listening on")
                && log.contains("WARNING:  pgclip encoder: no CUDA, using the CPU"))
        })?;
        assert!(!cluster.log().contains("DEBUG"));
        Ok(())
    })
}

/// A program that prints without end neither fills the log nor keeps the supervisor from stopping.
#[test]
fn a_flood_of_messages_is_dammed_up() -> Result<()> {
    let builder = Cluster::builder("flood").preload(true);
    let program = std::env::temp_dir().join(format!("pgclip-flood-{}", std::process::id()));
    std::fs::write(&program, "#!/bin/sh\nexec yes 'ERROR the flood' >&2\n")?;
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&program, mode)?;
    let (cluster, mut client) = start(&builder.setting("pgclip.encoder_path", program.display()))?;
    let result = with_log(&cluster, || {
        assert_eq!(sqlstate(client.query(ENCODE, &[])), "58000");
        let lines = cluster.log().matches("the flood").count();
        // 20 s of it.
        assert!((200..=600).contains(&lines), "{lines} lines");
        assert!(cluster.log().contains("more lines were left out"));
        cluster.stop(Shutdown::Fast)
    });
    std::fs::remove_file(&program)?;
    result
}
