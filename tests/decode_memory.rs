//! `pgclip.max_decode_memory` as sessions see it: one session's bombs leave another's pictures alone,
//! and what it has no room for is refused.

use anyhow::{Context, Result};
use pgclip_cluster::Cluster;
use pgclip_tests::{sqlstate, start, value};

/// A lossless WebP of one colour, in which a pixel takes no bits: 30 bytes for any size.
fn bomb(side: u32) -> Vec<u8> {
    // Width and height less one, of 14 bits each; then codes of a single symbol each.
    let size = side - 1;
    let mut data = vec![0x2f];
    data.extend((size | size << 14).to_le_bytes());
    data.extend((0b0001_0001_0001_0001_0001_u32 << 3).to_le_bytes());
    data.push(0);
    let mut file = b"RIFF".to_vec();
    file.extend((12 + data.len() as u32).to_le_bytes());
    file.extend(b"WEBPVP8L");
    file.extend((data.len() as u32).to_le_bytes());
    file.extend(data);
    file
}

/// 34 bytes of lossless WebP once took 0.9 GB and 5 s of everybody's batch.
#[test]
fn bombs_of_one_session_leave_another_alone() -> Result<()> {
    let builder = Cluster::builder("bombs").preload(true);
    let builder =
        builder.setting("pgclip.encoder_threads", "2").setting("pgclip.max_decode_memory", "400MB");
    let (cluster, mut user) = start(&builder)?;
    let mut attacker = cluster.connect()?;
    let encode = "SELECT dims(encode_image($1)) > 0";
    assert!(user.query_one(encode, &[&bomb(64)])?.get::<_, bool>(0));
    let waiting = "SELECT queued_images > 2 FROM clip_status";
    std::thread::scope(|scope| -> Result<()> {
        let bombs = scope.spawn(move || {
            let many = "SELECT cardinality(encode_images(array_fill($1::bytea, ARRAY[12])))";
            attacker.query_one(many, &[&bomb(4000)]).map(|row| row.get::<_, i32>(0))
        });
        cluster.wait_for("the bombs", || value::<bool>(&mut user, waiting))?;
        assert!(user.query_one(encode, &[&bomb(65)])?.get::<_, bool>(0));
        assert!(value::<bool>(&mut user, waiting)?, "the picture waited for the bombs");
        let encoded = bombs.join().map_err(|_| anyhow::anyhow!("the thread panicked"))?;
        assert_eq!(encoded?, 12);
        Ok(())
    })?;

    user.batch_execute("ALTER SYSTEM SET pgclip.max_decode_memory = '64MB'")?;
    user.batch_execute("SELECT pg_reload_conf()")?;
    cluster.wait_for("the new setting", || {
        Ok(sqlstate(user.query_one(encode, &[&bomb(4000)])) == "54000")
    })?;
    let error = user.query_one(encode, &[&bomb(4000)]).err().context("it was encoded")?;
    let error = error.as_db_error().context("no error of the server's")?;
    assert!(error.message().contains("the limit is 48 MB"), "{}", error.message());
    assert!(error.hint().is_some_and(|hint| hint.contains("pgclip.max_decode_memory")));
    assert!(user.query_one(encode, &[&bomb(64)])?.get::<_, bool>(0));
    Ok(())
}
