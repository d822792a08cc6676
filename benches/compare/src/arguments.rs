//! The command line. `make compare` hands its variables VECTORS, METRIC, ROWS and ONLY over as the
//! options of the same names.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};

use crate::clock::Clock;
use crate::server::Storage;
use crate::side::{Metric, Side};

/// Compares clip_hnsw with pgvector's hnsw: the same vectors, in one private cluster.
#[derive(Parser, Clone, Debug)]
#[command(version)]
pub struct Arguments {
    /// `builtin` (scenes encoded by the built-in model) or a two-dimensional fp16 or fp32 .npy file,
    /// whose last rows are the queries; else vectors are generated
    #[arg(long)]
    pub vectors: Option<String>,

    /// Text-like queries for the vectors of a file, another such file. The index learns the texts' mean
    /// direction from its first thousand rows
    #[arg(long, requires = "vectors")]
    pub texts: Option<String>,

    /// Which queries of files: the last rows, or those before them, by which constants may be chosen
    #[arg(long, value_enum, default_value_t = Half::Report)]
    pub half: Half,

    #[arg(long, value_enum, default_value_t = Metric::Cosine)]
    pub metric: Metric,

    /// Rows of the tables [default: 100,000, or what the file holds]
    #[arg(long)]
    pub rows: Option<usize>,

    /// Dimensions of generated vectors
    #[arg(long, value_delimiter = ',', default_values_t = [384, 1280])]
    pub dims: Vec<usize>,

    /// Phases to run [default: all but growth]
    #[arg(long, value_enum, value_delimiter = ',')]
    pub only: Vec<Phase>,

    /// Queries of a set
    #[arg(long, default_value_t = 1000)]
    pub queries: usize,

    /// Timed rounds; what is printed is their median
    #[arg(long, default_value_t = 3)]
    pub rounds: usize,

    /// What is timed by: `cpu` is for machines that are busy with other work (cold starts and several
    /// clients at once always go by the clock on the wall)
    #[arg(long, value_enum, default_value_t = Clock::Wall)]
    pub clock: Clock,

    /// Processes (or threads) of a build [default: as many as there are cores]
    #[arg(long)]
    pub processes: Option<usize>,

    /// Where the tables keep vectors of more than a thousand dimensions. Of an out-of-line one the
    /// executor fetches the parts for each row that it returns, to compute the distance again
    #[arg(long, value_enum, default_value_t = Storage::External)]
    pub storage: Storage,

    /// Build clip_hnsw as over a column that belongs to no model, which might have told the mean
    /// direction of its texts' embeddings
    #[arg(long)]
    pub no_text_direction: bool,

    /// Which extensions to measure
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Side::ALL)]
    pub extensions: Vec<Side>,

    /// Where the results go [default: target/compare.json]
    #[arg(long)]
    pub out: Option<PathBuf>,
}

/// The queries of a file, in halves that share none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Half {
    Tuning,
    Report,
}

/// What is measured. The order is that of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Phase {
    /// Time to build the index
    Build,
    /// Bytes of the index
    Size,
    /// Memory of a build, with enough maintenance_work_mem and with too little
    Memory,
    /// Queries of the data's own kind, one a statement
    Search,
    /// Text-like queries, one a statement
    Text,
    /// Queries among bursts of near-duplicate frames
    Frames,
    /// The queries of `search` and `text` inside one statement
    Lateral,
    /// Two clients at once
    Clients,
    /// LIMIT 1, 10, 100 and 1,000 with one setting
    Limit,
    /// Conditions that 50 %, 10 %, 1 % and 0.1 % of the rows meet
    Filter,
    /// After a restart, with the index out of the operating system's cache
    Cold,
    /// Single-row inserts into the built index
    Insert,
    /// VACUUM after a tenth was deleted, and recall then against a fresh build's
    Vacuum,
    /// 10,000, 100,000 and 1,000,000 rows (at most --rows)
    Growth,
}

impl Arguments {
    /// Is this phase wanted?
    pub fn wants(&self, phase: Phase) -> bool {
        if self.only.is_empty() { phase != Phase::Growth } else { self.only.contains(&phase) }
    }

    /// Processes of a build.
    pub fn processes(&self) -> usize {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        self.processes.unwrap_or(cores).max(1)
    }
}
