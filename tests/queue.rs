//! What tests of rows that are encoded after their commit ask.

use anyhow::Result;
use pgclip_cluster::Cluster;
use postgres::Client;

use crate::{PHOTOS, value};

pub const MISSING: &str =
    "SELECT count(*) FROM photos WHERE image IS NOT NULL AND embedding IS NULL";
pub const WRONG: &str =
    "SELECT count(*) FROM photos WHERE NOT embedding <=> encode_image(image) < 1e-3";
pub const QUEUED: &str = "SELECT count(*) FROM clip_queue";
pub const WORKERS: &str =
    "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'pgclip ingest worker'";

/// Makes the table `photos`, whose images are encoded after their commit.
pub fn attach(client: &mut Client) -> Result<()> {
    client.batch_execute(PHOTOS)?;
    Ok(client.batch_execute("SELECT clip_attach('photos', mode => 'async')")?)
}

pub fn until_empty(cluster: &Cluster, client: &mut Client) -> Result<()> {
    cluster.wait_for("an empty queue", || Ok(value::<i64>(client, QUEUED)? == 0))
}

/// Waits for the queue's end; then every row of `photos` must have its own embedding.
pub fn becomes_right(cluster: &Cluster, client: &mut Client) -> Result<()> {
    until_empty(cluster, client)?;
    assert_eq!(value::<i64>(client, MISSING)?, 0);
    assert_eq!(value::<i64>(client, WRONG)?, 0);
    Ok(())
}
