//! The two extensions that are compared, as the SQL that differs between them. A file of its own
//! so that everything else is the same code for both.

use std::fmt::{self, Display};

use clap::ValueEnum;

/// An extension with an index of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Side {
    Pgclip,
    Pgvector,
}

/// A distance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Metric {
    Cosine,
    L2,
    /// Negative inner product
    Ip,
}

impl Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl Metric {
    /// As on the command line and in the results.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cosine => "cosine",
            Self::L2 => "l2",
            Self::Ip => "ip",
        }
    }

    /// The operator of that distance, the same for both extensions.
    pub fn operator(self) -> &'static str {
        match self {
            Self::Cosine => "<=>",
            Self::L2 => "<->",
            Self::Ip => "<#>",
        }
    }
}

/// What a client sets before it asks: a name for the results, and the statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    pub name: String,
    pub sql: String,
}

impl Side {
    pub const ALL: [Self; 2] = [Self::Pgclip, Self::Pgvector];

    pub fn name(self) -> &'static str {
        match self {
            Self::Pgclip => "pgclip",
            Self::Pgvector => "pgvector",
        }
    }

    /// The name in CREATE EXTENSION.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Pgclip => "pgclip",
            Self::Pgvector => "vector",
        }
    }

    /// The access method.
    pub fn method(self) -> &'static str {
        match self {
            Self::Pgclip => "clip_hnsw",
            Self::Pgvector => "hnsw",
        }
    }

    /// The type of fp16 vectors; the binary form of both is the same.
    pub fn vector_type(self) -> &'static str {
        match self {
            Self::Pgclip => "embedding",
            Self::Pgvector => "halfvec",
        }
    }

    /// The operator class of `metric`.
    pub fn opclass(self, metric: Metric) -> String {
        format!("{}_{metric}_ops", self.vector_type())
    }

    /// The table with nothing but the index over vectors.
    pub fn table(self) -> String {
        format!("{}_items", self.name())
    }

    /// `accuracy` is ours `pgclip.search_slack`, pgvector's `hnsw.ef_search`.
    pub fn setting(self, accuracy: f64) -> Setting {
        match self {
            Self::Pgclip => Setting {
                name: format!("search_slack={accuracy}"),
                sql: format!("SET pgclip.search_slack = {accuracy}"),
            },
            Self::Pgvector => Setting {
                name: format!("ef_search={accuracy}"),
                sql: format!("SET hnsw.ef_search = {accuracy}"),
            },
        }
    }

    /// The settings of a sweep, from fast to accurate.
    pub fn sweep(self) -> Vec<Setting> {
        let accuracies: &[f64] = match self {
            Self::Pgclip => &[0.02, 0.05, 0.075, 0.1, 0.125, 0.15, 0.175, 0.2, 0.25, 0.3, 0.4, 0.6],
            Self::Pgvector => &[10., 20., 30., 40., 60., 80., 120., 180., 280., 420., 600., 800.],
        };
        accuracies.iter().map(|&accuracy| self.setting(accuracy)).collect()
    }

    /// The setting that both documentations name first.
    pub fn default_setting(self) -> Setting {
        match self {
            Self::Pgclip => Setting {
                name: "the default".to_owned(),
                sql: "RESET pgclip.search_slack".to_owned(),
            },
            Self::Pgvector => self.setting(40.0),
        }
    }
}

impl Setting {
    /// What else is set beside the accuracy: settings of one family differ in it alone.
    pub fn family(&self) -> &str {
        self.name.split_once(' ').map_or("", |(_, more)| more)
    }

    /// The same with one more parameter.
    pub fn and(&self, parameter: &str, value: &str) -> Self {
        let short = parameter.split('.').next_back().unwrap_or(parameter);
        Self {
            name: format!("{} {short}={value}", self.name),
            sql: format!("{}; SET {parameter} = {value}", self.sql),
        }
    }
}
