//! The command line. A file of its own, as the help text is the tool's manual.

use std::path::PathBuf;

use clap::Parser;

/// Loads image files into a table of PostgreSQL, in batches that are committed one by one.
///
/// Run it again to go on after a failure: files whose name is in the table are left alone.
/// Exit status: 0 when every file is in the table, 1 when some failed, 2 when the load stopped.
#[derive(Debug, Parser)]
#[command(name = "pgclip-load", version)]
pub struct Options {
    /// A folder (with all folders below it), a tar file, or a .csv or .tsv file that lists paths
    pub source: PathBuf,

    /// Connection string or URL; what it leaves out comes from PGHOST, PGPORT, PGUSER, PGDATABASE
    /// and PGPASSWORD
    #[arg(short = 'd', long, value_name = "STRING", default_value = "")]
    pub connection: String,

    /// Table to load into, as SQL writes it
    #[arg(short, long)]
    pub table: String,

    /// Column that takes the bytes of the file
    #[arg(long, value_name = "COLUMN", default_value = "image")]
    pub image_column: String,

    /// Column that takes the name of the file, by which a file that is there is known; it should
    /// have an index
    #[arg(long, value_name = "COLUMN", default_value = "name")]
    pub name_column: String,

    /// Put in front of each name
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub prefix: String,

    /// A column with the same value in all rows
    #[arg(long, value_name = "COLUMN=VALUE", value_parser = pair)]
    pub set: Vec<(String, String)>,

    /// A column with a value of its own in each row: the field of a CSV, or the extension of a file
    /// beside the image (txt, say), or json:KEY, a value of the .json file beside the image
    #[arg(long, value_name = "COLUMN=FIELD", value_parser = pair)]
    pub from: Vec<(String, String)>,

    /// Field of a CSV that has the path, relative to the CSV [default: the first]
    #[arg(long, value_name = "FIELD")]
    pub path_field: Option<String>,

    /// Extensions of files in a folder or a tar that are images
    #[arg(long, value_delimiter = ',', default_value = "jpg,jpeg,png,webp,bmp,tif,tiff,gif")]
    pub extensions: Vec<String>,

    /// Connections that load at once
    #[arg(short, long, value_name = "N", default_value_t = 2, value_parser = count)]
    pub connections: usize,

    /// Files that each connection reads at once
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = count)]
    pub readers: usize,

    /// Files in a batch, which is one transaction
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = count)]
    pub batch: usize,

    /// Megabytes of files held in memory, by all connections together
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = count)]
    pub memory: usize,

    /// Megabytes of the largest file that is loaded
    #[arg(long, value_name = "N", default_value_t = 128, value_parser = count)]
    pub max_size: usize,

    /// Stop when more files than this have failed
    #[arg(long, value_name = "N", default_value_t = 1000)]
    pub max_failures: u64,

    /// Write the names of files that failed, and why, to this CSV file
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
}

impl Options {
    /// Bytes of the largest file.
    pub fn max_bytes(&self) -> u64 {
        (self.max_size as u64) << 20
    }

    /// Bytes that one connection holds.
    pub fn budget(&self) -> usize {
        (self.memory << 20) / self.connections
    }
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (column, value) = text.split_once('=').ok_or("it has no \"=\"")?;
    Ok((column.to_owned(), value.to_owned()))
}

fn count(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(n @ 1..=65_536) => Ok(n),
        _ => Err("not a number from 1 to 65,536".into()),
    }
}
