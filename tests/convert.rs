//! Published models on their way into a cluster: copied to where its account can read them, converted
//! by the installed program, registered. A module of the helpers, since several tests begin so.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use pgclip_cluster::Cluster;
use postgres::Client;

use crate::file;

/// Copies a folder with all that is in it.
pub fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let (from, to) = (entry.as_ref().unwrap().path(), to.join(entry?.file_name()));
        match from.is_dir() {
            true => copy_folder(&from, &to)?,
            false => _ = fs::copy(from, to)?,
        }
    }
    Ok(())
}

/// Converts a folder of the checkout with these options and registers what comes of it as `name`. Its
/// directory is `model-NAME` beside the data directory.
pub fn convert(
    cluster: &Cluster,
    client: &mut Client,
    folder: &str,
    name: &str,
    options: &[&str],
) -> Result<()> {
    let source = cluster.data().with_file_name(format!("published-{name}"));
    copy_folder(&file(folder), &source)?;
    let directory = cluster.data().with_file_name(format!("model-{name}"));
    let converted = cluster
        .account()
        .command(cluster.server().program("pgclip-encoder"))
        // ONNX Runtime is the one that is installed with the extension.
        .env_remove("PGCLIP_ONNXRUNTIME")
        .arg("convert")
        .args([&source, &directory])
        .args(options)
        .output()?;
    ensure!(
        converted.status.success(),
        "pgclip-encoder convert: {}",
        String::from_utf8_lossy(&converted.stderr)
    );
    let directory = directory.display().to_string();
    client
        .execute("SELECT clip_register_model($1, $2)", &[&name, &directory])
        .context("clip_register_model")?;
    Ok(())
}
