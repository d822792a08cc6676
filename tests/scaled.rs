//! `pgclip.scaled_decode`: large photographs get nearly the embeddings that they have without it,
//! and their searches the same answers.

use anyhow::{Result, ensure};
use pgclip_cluster::Cluster;
use pgclip_scenes::{Scene, SceneOptions};
use pgclip_tests::{copy, make_photos, start, value};

#[test]
fn large_photographs_keep_their_embeddings_nearly() -> Result<()> {
    let (cluster, mut client) = start(&Cluster::builder("scaled").preload(true))?;
    make_photos(&mut client)?;
    // Decoded at a quarter or an eighth: the built-in model looks at 64 pixels a side.
    let options = SceneOptions { long_side: (1000, 2000), ..SceneOptions::default() };
    let photos: Vec<_> =
        (0..40).map(|seed| Scene::sample(8_100_000_000 + seed, &options).file(&options)).collect();
    copy(&mut client, "photos", &photos)?;
    let exact = "SELECT max(embedding <=> encode_image(image)) FROM photos";
    ensure!(value::<f64>(&mut client, exact)? < 1e-3);
    client.batch_execute("ALTER SYSTEM SET pgclip.scaled_decode = on")?;
    client.batch_execute("SELECT pg_reload_conf()")?;
    cluster.wait_for("another encoder", || {
        Ok(cluster.log().contains("settings have changed; restarting the encoder"))
    })?;
    client
        .batch_execute("CREATE TABLE scaled AS SELECT id, encode_image(image) AS e FROM photos")?;
    let apart =
        "SELECT avg(embedding <=> e), max(embedding <=> e) FROM photos JOIN scaled USING (id)";
    let row = client.query_one(apart, &[])?;
    let (mean, most): (f64, f64) = (row.get(0), row.get(1));
    let nearest = "SELECT count(*) FROM scaled WHERE id =
        (SELECT photos.id FROM photos ORDER BY photos.embedding <=> e LIMIT 1)";
    let right: i64 = value(&mut client, nearest)?;
    println!(
        "cosine distance {mean:.5} on average, {most:.5} at most; {right} of 40 nearest to themselves"
    );
    ensure!(mean > 0.0, "nothing was scaled");
    ensure!(most < 0.03 && right == 40, "{mean} {most} {right}");
    Ok(())
}
