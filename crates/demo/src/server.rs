//! The demo's server: a private cluster that is kept, the extension in a database made anew, and
//! the table filled with COPY.

use std::fs;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};
use pgclip_cluster::{Builder, Cluster, SUPERUSER};
use postgres::Client;
use postgres::binary_copy::BinaryCopyInWriter;
use postgres::types::Type;

use crate::findings::Copied;
use crate::pictures::{CAMERAS, Picture, describe};
use crate::step::step;

/// The database that the demo fills.
pub const DATABASE: &str = "pgclip_demo";

/// The pictures' table; the label is what a picture truly shows, and no search reads it.
const TABLE: &str = "\
CREATE TABLE photos (
    id        bigint PRIMARY KEY,
    camera    text,
    taken_at  timestamptz,
    label     text,
    image     bytea,
    embedding embedding
)";
const ATTACH: &str = "SELECT clip_attach('photos', image => 'image', embedding => 'embedding')";

const INDEX: &str = "\
CREATE INDEX photos_by_embedding ON photos
 USING clip_hnsw (embedding embedding_cosine_ops, camera, taken_at)";

/// The cluster kept in `folder`.
pub fn builder(folder: &Path) -> Builder {
    Cluster::builder("demo").preload(true).setting("shared_buffers", "128MB").kept_in(folder)
}

/// Starts the server and makes the table, with images attached to their embeddings.
pub fn open(folder: &Path, model: Option<&Path>) -> Result<(Cluster, Client)> {
    let cluster = step("Start a private PostgreSQL", || {
        let cluster = builder(folder).start()?;
        println!("    data in {}", cluster.data().display());
        if cluster.account().is_other() {
            println!(
                "    running as the user {}, as it refuses to run as root",
                cluster.account().name()
            );
        }
        Ok(cluster)
    })?;
    let client = step("Create the extension and the table", || {
        let mut client = cluster.connect()?;
        client.batch_execute(&format!("DROP DATABASE IF EXISTS {DATABASE} WITH (FORCE)"))?;
        client.batch_execute(&format!("CREATE DATABASE {DATABASE}"))?;
        drop(client);
        let mut client = cluster.connect_as(SUPERUSER, DATABASE)?;
        client.batch_execute("CREATE EXTENSION pgclip").context("CREATE EXTENSION pgclip")?;
        if let Some(directory) = model {
            let directory = directory.canonicalize()?.display().to_string();
            client.execute("SELECT clip_register_model('demo', $1)", &[&directory])?;
            client
                .batch_execute(&format!("ALTER DATABASE {DATABASE} SET pgclip.model = 'demo'"))?;
            client.batch_execute("SET pgclip.model = 'demo'")?;
        }
        for statement in [TABLE, ATTACH] {
            println!("{}", indent(statement));
            client.batch_execute(statement)?;
        }
        Ok(client)
    })?;
    Ok((cluster, client))
}

/// Name of the model that encodes.
pub fn model(client: &mut Client) -> Result<String> {
    Ok(client.query_one("SELECT name FROM clip_models WHERE is_default", &[])?.get(0))
}

/// One COPY for each camera; every picture is encoded on the way in.
pub fn copy(client: &mut Client, pictures: &[Picture]) -> Result<Copied> {
    let what = format!("COPY {} JPEG files, encoding each", pictures.len());
    step(&what, || {
        let start = Instant::now();
        let mut bytes = 0;
        for camera in CAMERAS {
            let of_camera = pictures.iter().filter(|picture| picture.camera() == camera);
            let (began, mut rows) = (Instant::now(), 0);
            let statement =
                "COPY photos (id, camera, taken_at, label, image) FROM STDIN (FORMAT binary)";
            let types = [Type::INT8, Type::TEXT, Type::TIMESTAMPTZ, Type::TEXT, Type::BYTEA];
            let mut writer = BinaryCopyInWriter::new(client.copy_in(statement)?, &types);
            for picture in of_camera {
                let image = fs::read(&picture.file)?;
                let label = describe(&picture.scene);
                writer.write(&[&picture.id, &camera, &picture.taken_at(), &label, &image])?;
                bytes += image.len() as u64;
                rows += 1;
            }
            writer.finish().with_context(|| format!("COPY of the camera {camera}"))?;
            let seconds = began.elapsed().as_secs_f64();
            let rate = f64::from(rows) / seconds;
            println!("    {camera:<15} {rows:>4} pictures  {seconds:>5.1} s  {rate:>5.0} images/s");
        }
        let seconds = start.elapsed().as_secs_f64();
        println!(
            "    together {:.1} MB, {:.0} images/s",
            bytes as f64 / 1e6,
            pictures.len() as f64 / seconds
        );
        Ok(Copied { seconds, bytes })
    })
}

/// Makes the index, with the columns that searches filter by beside the embedding.
pub fn index(client: &mut Client) -> Result<()> {
    step("Build the index", || {
        println!("{}", indent(INDEX));
        client.batch_execute(INDEX)?;
        client.batch_execute("ANALYZE photos")?;
        let about = "SELECT elements, pages FROM clip_index_stats('photos_by_embedding')";
        let row = client.query_one(about, &[])?;
        let (elements, pages): (i64, i64) = (row.get(0), row.get(1));
        println!("    {elements} elements on {pages} pages");
        Ok(())
    })
}

/// How the server runs a statement.
pub fn plan(client: &mut Client, statement: &str) -> Result<String> {
    let rows = client.query(&format!("EXPLAIN (COSTS off) {statement}"), &[])?;
    Ok(rows.iter().map(|row| row.get::<_, String>(0)).collect::<Vec<_>>().join("\n"))
}

/// A statement as the console shows it.
pub fn indent(statement: &str) -> String {
    statement.lines().map(|line| format!("    {line}")).collect::<Vec<_>>().join("\n")
}
