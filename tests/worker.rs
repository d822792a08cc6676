//! The worker that encodes rows after their commit serves everybody: no table, lock, trigger or flood
//! of one owner may keep it from the rows of another.

use anyhow::{Result, ensure};
use pgclip_cluster::Cluster;
use pgclip_tests::queue::{QUEUED, until_empty};
use pgclip_tests::{copy, pictures, sqlstate, start, value};
use postgres::Client;

const TABLE: &str = "(id bigint PRIMARY KEY, camera text, image bytea, embedding embedding)";
const STATE: &str = "SELECT state FROM clip_progress WHERE relation = 'hers'::regclass";

/// Two owners, each with a table of her or his own: `hers`, which gives trouble, and `his`.
fn owners(cluster: &Cluster, client: &mut Client) -> Result<(Client, Client)> {
    // So that no test waits for the encoder's start.
    client.batch_execute(
        "SELECT encode_text('begin');
         CREATE ROLE her LOGIN; CREATE ROLE him LOGIN;
         GRANT CREATE ON SCHEMA public TO her, him",
    )?;
    let mut her = cluster.connect_as("her", "postgres")?;
    let mut him = cluster.connect_as("him", "postgres")?;
    for (owner, table) in [(&mut her, "hers"), (&mut him, "his")] {
        owner.batch_execute(&format!(
            "CREATE TABLE {table} {TABLE}; SELECT clip_attach('{table}', mode => 'async')"
        ))?;
    }
    Ok((her, him))
}

/// Rows that are there before the worker is told of them.
fn fill_quietly(client: &mut Client, table: &str, files: &[Vec<u8>]) -> Result<()> {
    client.batch_execute(&format!("ALTER TABLE {table} DISABLE TRIGGER USER"))?;
    copy(client, table, files)?;
    Ok(client.batch_execute(&format!("ALTER TABLE {table} ENABLE TRIGGER USER"))?)
}

/// Queues rows 1, 2, … of a table, as the trigger would.
fn queue(client: &mut Client, table: &str, rows: u32) -> Result<()> {
    Ok(client.batch_execute(&format!(
        "INSERT INTO clip_queue (relation, embedding, key)
         SELECT '{table}', 'embedding', jsonb_build_object('id', id) FROM generate_series(1, {rows}) id"
    ))?)
}

fn encoded(client: &mut Client, table: &str) -> Result<i64> {
    value(client, &format!("SELECT count(embedding) FROM {table}"))
}

/// One more row of his, which must be encoded whatever she does.
fn he_is_served(cluster: &Cluster, client: &mut Client, him: &mut Client) -> Result<()> {
    let before = encoded(client, "his")?;
    him.execute(
        "INSERT INTO his (id, image) SELECT count(*) + 1, $1 FROM his",
        &[&pictures(1)[0]],
    )?;
    cluster.wait_for("his row", || Ok(encoded(client, "his")? == before + 1))
}

fn errors(client: &mut Client) -> Result<Vec<(i64, String)>> {
    let query = "SELECT (key->>'id')::bigint, sqlstate FROM clip_errors ORDER BY 1";
    Ok(client.query(query, &[])?.iter().map(|row| (row.get(0), row.get(1))).collect())
}

/// The worker opened each relation with a lock that it waited for: `BEGIN; LOCK TABLE mine` with one
/// row queued kept everybody else's rows in the database from being encoded until the transaction
/// ended.
#[test]
fn a_locked_table_holds_up_nobody_else() -> Result<()> {
    let (cluster, mut client) = start(&Cluster::builder("locked"))?;
    let (mut her, mut him) = owners(&cluster, &mut client)?;
    fill_quietly(&mut client, "hers", &pictures(3))?;
    let mut lock = her.transaction()?;
    lock.batch_execute("LOCK TABLE hers")?;
    queue(&mut client, "hers", 3)?;
    he_is_served(&cluster, &mut client, &mut him)?;
    let paused = "paused: table is locked";
    cluster.wait_for("the pause", || Ok(value::<String>(&mut client, STATE)? == paused))?;
    // Seen by who may read the table, and by nobody else.
    let whole = "SELECT task = 'queue' AND waiting = 3 AND waiting_since < clock_timestamp()
         AND next_try > waiting_since AND embedding = 'embedding' AND total IS NULL
         FROM clip_progress";
    assert!(value::<bool>(&mut lock, whole)?);
    assert_eq!(value::<i64>(&mut him, "SELECT count(*) FROM clip_progress")?, 0);
    // A lock is nobody's fault, however long it lasts, and the pauses grow.
    let pauses = "SELECT pauses FROM clip_queue_lane WHERE relation = 'hers'::regclass";
    cluster.wait_for("a third pause", || Ok(value::<i32>(&mut client, pauses)? >= 3))?;
    let tried = "SELECT max(attempts) FROM clip_queue";
    assert_eq!(value::<i32>(&mut client, tried)?, 0);
    he_is_served(&cluster, &mut client, &mut him)?;
    lock.commit()?;
    until_empty(&cluster, &mut client)?;
    assert_eq!(encoded(&mut client, "hers")?, 3);
    assert_eq!(errors(&mut client)?, []);
    assert_eq!(value::<i64>(&mut client, "SELECT count(*) FROM clip_queue_lane")?, 0);
    Ok(())
}

/// Whoever waits for a lock stands in its queue before the worker: taking the lock past him would make
/// him wait for ever, waiting behind him would make all others wait.
#[test]
fn a_waiting_alter_table_comes_first_and_holds_up_nobody_else() -> Result<()> {
    let (cluster, mut client) = start(&Cluster::builder("waiting"))?;
    let (mut her, mut him) = owners(&cluster, &mut client)?;
    fill_quietly(&mut client, "hers", &pictures(3))?;
    let mut reader = cluster.connect()?;
    let mut reads = reader.transaction()?;
    reads.batch_execute("SELECT FROM hers LIMIT 1")?;
    let alter = std::thread::spawn(move || her.batch_execute("ALTER TABLE hers ADD note text"));
    let waits = "SELECT count(*) FROM pg_locks WHERE NOT granted AND mode = 'AccessExclusiveLock'";
    cluster.wait_for("the ALTER TABLE", || Ok(value::<i64>(&mut client, waits)? == 1))?;
    queue(&mut client, "hers", 3)?;
    he_is_served(&cluster, &mut client, &mut him)?;
    assert_eq!(value::<i64>(&mut client, waits)?, 1);
    assert_eq!(encoded(&mut client, "his")?, 1);
    reads.commit()?;
    alter.join().expect("no panic")?;
    until_empty(&cluster, &mut client)?;
    assert_eq!(encoded(&mut client, "hers")?, 3);
    Ok(())
}

/// Writing a row can wait for locks that no look at the table foretells: a trigger's own, a key that
/// somebody has inserted and not committed, a row that a foreign key points to and somebody deletes,
/// the note of an earlier failure. None of them costs a row its embedding, and other rows go on.
#[test]
fn locks_inside_of_a_step_are_waited_for_by_the_row_alone() -> Result<()> {
    let (cluster, mut client) = start(&Cluster::builder("inside"))?;
    let (mut her, mut him) = owners(&cluster, &mut client)?;
    her.batch_execute(
        "CREATE TABLE log (id bigint PRIMARY KEY);
         CREATE TABLE places (id int PRIMARY KEY);
         INSERT INTO places VALUES (1);
         ALTER TABLE hers ADD place int REFERENCES places;
         CREATE FUNCTION disturb() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN
             CASE OLD.id
                 WHEN 2 THEN PERFORM pg_advisory_xact_lock(7);
                 WHEN 3 THEN INSERT INTO public.log VALUES (OLD.id);
                 WHEN 4 THEN NEW.place := 1;
                 WHEN 5 THEN PERFORM pg_advisory_lock(8);
                 ELSE NULL;
             END CASE;
             RETURN NEW;
         END $$;
         CREATE TRIGGER disturb BEFORE UPDATE ON hers FOR EACH ROW EXECUTE FUNCTION disturb()",
    )?;
    let mut files = pictures(8);
    files[5] = b"no image".to_vec();
    fill_quietly(&mut client, "hers", &files)?;
    let mut other = cluster.connect()?;
    let mut holds = other.transaction()?;
    holds.batch_execute(
        "SELECT pg_advisory_xact_lock(7);
         INSERT INTO log VALUES (3);
         DELETE FROM places;
         INSERT INTO clip_error VALUES ('hers', 'embedding', '{\"id\": 6}', 'earlier', '22P03', '')",
    )?;
    queue(&mut client, "hers", 8)?;
    he_is_served(&cluster, &mut client, &mut him)?;
    cluster.wait_for("her other rows", || Ok(encoded(&mut client, "hers")? == 4))?;
    cluster.wait_for("what waits", || Ok(value::<i64>(&mut client, QUEUED)? == 4))?;
    he_is_served(&cluster, &mut client, &mut him)?;
    // Nothing is held on to by the worker that a table's code took for the session.
    let kept = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 8";
    assert_eq!(value::<i64>(&mut client, kept)?, 0);
    let state = "SELECT state ~ '^(paused|retrying): a lock is held by others$' FROM clip_progress";
    cluster.wait_for("the reason", || value::<bool>(&mut client, state))?;
    assert_eq!(value::<i32>(&mut client, "SELECT max(attempts) FROM clip_queue")?, 0);
    // The deletion and the log's row are rolled back; the trigger may do what it wants.
    holds.rollback()?;
    until_empty(&cluster, &mut client)?;
    assert_eq!(encoded(&mut client, "hers")?, 7);
    assert_eq!(errors(&mut client)?, [(6, "22P03".into())]);
    Ok(())
}

/// A trigger that sleeps slept in the worker, for as long as its owner liked.
#[test]
fn a_trigger_that_sleeps_costs_its_own_row_only() -> Result<()> {
    let (cluster, mut client) = start(&Cluster::builder("sleeps"))?;
    let (mut her, mut him) = owners(&cluster, &mut client)?;
    her.batch_execute(
        "CREATE FUNCTION sleep() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN SET LOCAL lock_timeout = 0; SET LOCAL statement_timeout = 0;
         PERFORM pg_sleep(10000); RETURN NEW; END $$;
         CREATE TRIGGER sleep BEFORE UPDATE ON hers FOR EACH ROW WHEN (OLD.id = 2)
             EXECUTE FUNCTION sleep()",
    )?;
    copy(&mut her, "hers", &pictures(3))?;
    he_is_served(&cluster, &mut client, &mut him)?;
    let state = "SELECT state IN ('paused: step took too long', 'queued') FROM clip_progress
         WHERE relation = 'hers'::regclass";
    assert!(value::<bool>(&mut her, state)?);
    until_empty(&cluster, &mut client)?;
    assert_eq!(encoded(&mut client, "hers")?, 2);
    assert_eq!(errors(&mut client)?, [(2, "57014".into())]);
    he_is_served(&cluster, &mut client, &mut him)
}

/// Entries were taken in their order: whoever queued many rows at once was served until the last of
/// them before anybody else, and so was whoever spread them over many tables.
#[test]
fn a_flood_of_one_owner_delays_the_others_by_a_batch() -> Result<()> {
    let (cluster, mut client) = start(&Cluster::builder("flood"))?;
    let (mut her, mut him) = owners(&cluster, &mut client)?;
    let files = pictures(50);
    for part in 0..10 {
        her.batch_execute(&format!(
            "CREATE TABLE hers_{part} {TABLE}; SELECT clip_attach('hers_{part}', mode => 'async')"
        ))?;
        fill_quietly(&mut client, &format!("hers_{part}"), &files)?;
    }
    let many = files.iter().cycle().take(6000).cloned().collect::<Vec<_>>();
    fill_quietly(&mut client, "hers", &many)?;
    let mut flood = client.transaction()?;
    for table in (0..10).map(|part| format!("hers_{part}")).chain(["hers".into()]) {
        flood.batch_execute(&format!(
            "INSERT INTO clip_queue (relation, embedding, key)
             SELECT '{table}', 'embedding', jsonb_build_object('id', id) FROM {table}"
        ))?;
    }
    // Rows that are gone, for a queue that is long.
    flood.batch_execute(
        "INSERT INTO clip_queue (relation, embedding, key)
         SELECT 'hers', 'embedding', jsonb_build_object('id', id) FROM generate_series(10001, 110000) id",
    )?;
    flood.commit()?;
    for round in 0..3 {
        let before: i64 = value(&mut client, QUEUED)?;
        he_is_served(&cluster, &mut client, &mut him)?;
        let after: i64 = value(&mut client, QUEUED)?;
        ensure!(after > 10_000, "{before} entries, then {after}: he waited, round {round}");
    }
    Ok(())
}

/// Rows of a temporary table cannot be read by the worker: they were queued, and tried in vain.
#[test]
fn temporary_tables_are_not_attached_for_later() -> Result<()> {
    let (_cluster, mut client) = start(&Cluster::builder("temporary"))?;
    client.batch_execute(&format!("CREATE TEMP TABLE t {TABLE}"))?;
    let attach = "SELECT clip_attach('t', mode => 'async')";
    assert_eq!(sqlstate(client.batch_execute(attach)), "0A000");
    client.batch_execute(
        "CREATE TEMP TABLE p (id bigint PRIMARY KEY, image bytea, embedding embedding)
             PARTITION BY RANGE (id)",
    )?;
    let attach = "SELECT clip_attach('p', mode => 'async')";
    assert_eq!(sqlstate(client.batch_execute(attach)), "0A000");
    client.batch_execute("SELECT clip_attach('t')")?;
    client.execute("INSERT INTO t (id, image) VALUES (1, $1)", &[&pictures(1)[0]])?;
    assert_eq!(encoded(&mut client, "t")?, 1);
    Ok(())
}

/// What the owner of a database, or an administrator, sets for all its sessions concerns sessions: a
/// database that is read-only by default, or ends long transactions, keeps its rows being encoded.
#[test]
fn settings_of_the_database_do_not_stop_the_worker() -> Result<()> {
    let (cluster, mut client) = start(&Cluster::builder("settings"))?;
    let (_her, mut him) = owners(&cluster, &mut client)?;
    client.batch_execute(
        "ALTER DATABASE postgres SET default_transaction_read_only = on;
         ALTER DATABASE postgres SET default_transaction_isolation = 'serializable';
         ALTER DATABASE postgres SET statement_timeout = 1;
         ALTER DATABASE postgres SET search_path = 'pg_temp'",
    )?;
    he_is_served(&cluster, &mut client, &mut him)
}

/// What an error says may quote the row, which policies keep from a reader; everybody else is told why
/// a row is tried again.
#[test]
fn a_reason_is_kept_from_whom_policies_keep_rows_from() -> Result<()> {
    let (cluster, mut client) = start(&Cluster::builder("reasons"))?;
    let (mut her, mut him) = owners(&cluster, &mut client)?;
    her.batch_execute(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN RAISE 'camera % is secret', OLD.camera; END $$;
         CREATE TRIGGER refuse BEFORE UPDATE ON hers FOR EACH ROW EXECUTE FUNCTION refuse();
         ALTER TABLE hers ENABLE ROW LEVEL SECURITY;
         GRANT SELECT ON hers TO him",
    )?;
    copy(&mut her, "hers", &pictures(1))?;
    let state = "SELECT coalesce(max(state), '') FROM clip_progress WHERE task = 'queue'";
    let told = "retrying: camera north gate is secret";
    cluster.wait_for("the reason", || Ok(value::<String>(&mut her, state)? == told))?;
    assert_eq!(value::<String>(&mut him, state)?, "retrying");
    until_empty(&cluster, &mut client)?;
    assert_eq!(errors(&mut client)?, [(1, "P0001".into())]);
    assert_eq!(value::<String>(&mut her, state)?, "");
    Ok(())
}
