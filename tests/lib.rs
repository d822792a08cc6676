//! Shared by the tests beside this file: a cluster with the extension, pictures to encode, and
//! what an error's SQLSTATE is.

pub mod convert;
pub mod queue;
pub mod replica;
pub mod trapdoor;
pub mod vectors;

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use pgclip_cluster::{Builder, Cluster, workspace};
use pgclip_scenes::{Colour, Domain, Scene, SceneOptions, Subject, VehicleType};
use postgres::binary_copy::BinaryCopyInWriter;
use postgres::types::Type;
use postgres::{Client, GenericClient};

/// The table that most tests fill; `make_photos` attaches its images.
pub const PHOTOS: &str = "\
CREATE TABLE photos (id bigint PRIMARY KEY, camera text, image bytea, embedding embedding)";

/// Starts a cluster and creates the extension in the database `postgres`.
pub fn start(builder: &Builder) -> Result<(Cluster, Client)> {
    let cluster = builder.start()?;
    let mut client = cluster.connect()?;
    client.batch_execute("CREATE EXTENSION pgclip").context("CREATE EXTENSION pgclip")?;
    Ok((cluster, client))
}

/// Runs a test twice, on clusters that load the library at start and that do not.
pub fn both(name: &str, test: impl Fn(&Cluster, &mut Client) -> Result<()>) -> Result<()> {
    for preload in [false, true] {
        let run = || {
            let (cluster, mut client) = start(&Cluster::builder(name).preload(preload))?;
            test(&cluster, &mut client)
                .with_context(|| format!("the server's log:\n{}", cluster.log()))
        };
        run().with_context(|| format!("preload = {preload}"))?;
    }
    Ok(())
}

/// Makes the table `photos` and attaches its images to their embeddings.
pub fn make_photos(client: &mut Client) -> Result<()> {
    client.batch_execute(PHOTOS)?;
    client.batch_execute(
        "SELECT clip_attach('photos', image => 'image', embedding => 'embedding')",
    )?;
    Ok(())
}

/// Registers a model `second`: the built-in one, but it sees pictures in other colours.
pub fn register_second(cluster: &Cluster, client: &mut Client) -> Result<()> {
    let directory = cluster.sockets().join("second");
    fs::create_dir(&directory)?;
    for entry in fs::read_dir(file("models/pgclip-traffic-tiny"))? {
        let path = entry?.path();
        fs::copy(&path, directory.join(path.file_name().context("no name")?))?;
    }
    let description = directory.join("clip.json");
    let mut model: serde_json::Value = serde_json::from_slice(&fs::read(&description)?)?;
    model["image"]["mean"] = serde_json::json!([0.1, 0.3, 0.7]);
    fs::write(&description, serde_json::to_vec(&model)?)?;
    let path = directory.display().to_string();
    client.execute("SELECT clip_register_model('second', $1)", &[&path])?;
    Ok(())
}

/// A scene of one of the domains with a given vehicle.
pub fn vehicle(seed: u64, colour: Colour, kind: VehicleType, domain: Domain) -> Scene {
    let mut scene = Scene::sample(seed, &SceneOptions::vehicles().in_domain(domain));
    if let Subject::Vehicle(vehicle) = &mut scene.subject {
        (vehicle.colour, vehicle.kind) = (colour, kind);
    }
    scene
}

/// JPEG files of any scenes, the same each time.
pub fn pictures(count: u64) -> Vec<Vec<u8>> {
    let options = SceneOptions { long_side: (96, 160), ..SceneOptions::default() };
    (0..count).map(|seed| Scene::sample(8_000_000_000 + seed, &options).file(&options)).collect()
}

/// Copies pictures into `table` as rows 1, 2, …; returns the error of the statement's end as it is.
pub fn copy<'a>(
    client: &mut impl GenericClient,
    table: &str,
    pictures: impl IntoIterator<Item = &'a Vec<u8>>,
) -> Result<u64, postgres::Error> {
    let statement = format!("COPY {table} (id, camera, image) FROM STDIN (FORMAT binary)");
    let types = [Type::INT8, Type::TEXT, Type::BYTEA];
    let mut writer = BinaryCopyInWriter::new(client.copy_in(&statement)?, &types);
    for (row, picture) in pictures.into_iter().enumerate() {
        let camera = if row % 2 == 0 { "north gate" } else { "south gate" };
        writer.write(&[&(row as i64 + 1), &camera, picture])?;
    }
    writer.finish()
}

/// The single value of a query.
pub fn value<T: for<'a> postgres::types::FromSql<'a>>(
    client: &mut impl GenericClient,
    query: &str,
) -> Result<T> {
    let row = client.query_one(query, &[]).with_context(|| query.to_owned())?;
    row.try_get(0).with_context(|| query.to_owned())
}

/// The SQLSTATE with which a statement failed; what it was if it did not.
pub fn sqlstate<T>(result: Result<T, postgres::Error>) -> String {
    match result {
        Ok(_) => "no error".into(),
        Err(error) => error.code().map_or_else(|| error.to_string(), |code| code.code().into()),
    }
}

/// A file of the checkout.
pub fn file(path: &str) -> PathBuf {
    workspace().join(path)
}
