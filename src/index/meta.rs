//! The meta page: what an index is, where its graph begins, and the mean of its vectors. Its own
//! file because it is the format on disk; records are described in `pgclip-hnsw`.
//!
//! ```text
//! block 0   meta (below)
//! block 1   the texts' direction, fp16, or zeros
//! block 2   the mean of the scaled vectors, fp16
//! block 3…  records
//!
//! meta, from the end of the page's header on, all numbers little-endian:
//!  0  u32   magic, "pgcl"
//!  4  u16   format version
//!  6  u8    metric: 1 Euclidean, 2 inner product, 3 cosine
//!  7  u8    number of filter columns
//!  8  u16   dimensions; 0 until the first vector comes to an index of none that are declared
//! 10  u16   m
//! 12  u8    where edges lie: 1 inline, 2 in a tuple of their own, 3 ids alone
//! 13  u8    level of the entry point
//! 14  6 B   the entry point, or none
//! 20  u32   lowest bit: dead elements wait for a vacuum to take them out; the others count how often
//!           elements were freed
//! 24  u64   seed of the rotation and of levels
//! 32  u64   digest of the texts' direction; 0 where there is none
//! 40  u64   vectors in the mean
//! 48  f32   mean squared norm of the scaled vectors
//! 52  u16 * 10  the recall at each slack that was tried (`pgclip_hnsw::recall`), or zeros
//! 72  u32   pages of the index when that was measured
//! 76  u32   elements freed since
//! ```

use pgclip_hnsw::format::id::ID_BYTES;
use pgclip_hnsw::{Calibration, Entry, Id, Layout, LayoutError, Metric, Placement};

/// The block of the meta page.
pub const META_BLOCK: u32 = 0;
/// The block of the texts' direction.
pub const TEXT_BLOCK: u32 = 1;
/// The block of the mean vector.
pub const MEAN_BLOCK: u32 = 2;
/// The first block of records.
pub const FIRST_BLOCK: u32 = 3;

/// The format that this version reads and writes.
pub const FORMAT_VERSION: u16 = 2;

/// "pgcl".
pub const MAGIC: u32 = u32::from_le_bytes(*b"pgcl");

/// The bytes of the meta data.
pub const BYTES: usize = 80;

/// The seed of an index. It decides what rotation and levels look like, not how good they are; a
/// constant lets a build be repeated.
pub const SEED: u64 = 0x7067_636c_6970;

const ENTRY: usize = 14;
const _: () = assert!(ENTRY + ID_BYTES == 20 && ID_BYTES == 6);

/// The meta data of an index.
#[derive(Debug, Clone, PartialEq)]
pub struct Meta {
    pub metric: Metric,
    pub columns: usize,
    /// None until the first vector comes.
    pub dims: Option<usize>,
    pub m: usize,
    pub entry: Option<Entry>,
    /// Do dead elements wait for a vacuum?
    pub pending: bool,
    /// How often elements were freed.
    pub freed: u32,
    pub seed: u64,
    pub text: u64,
    /// Vectors in the mean.
    pub counted: u64,
    pub norm2: f32,
    pub calibration: Calibration,
    /// Pages when that was measured.
    pub calibrated: u32,
    /// Elements freed since.
    pub gone: u32,
}

/// Why a meta page was not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MetaError {
    #[error("the meta page does not begin as it should")]
    Magic,
    #[error("format version {0}, but this server's pgclip reads version {FORMAT_VERSION}")]
    Version(u16),
    #[error("the meta page says what cannot be: {0}")]
    Nonsense(&'static str),
}

fn metric_code(metric: Metric) -> u8 {
    match metric {
        Metric::L2 => 1,
        Metric::InnerProduct => 2,
        Metric::Cosine => 3,
    }
}

fn placement_code(placement: Placement) -> u8 {
    match placement {
        Placement::Inline => 1,
        Placement::Split => 2,
        Placement::Plain => 3,
    }
}

impl Meta {
    /// The byte map of the records; none until the dimensions are known.
    pub fn layout(&self) -> Result<Option<Layout>, LayoutError> {
        let layout = |dims| Layout::new(self.metric, dims, self.m, self.columns);
        self.dims.map(layout).transpose()
    }

    /// The bytes. Panics for dimensions that no layout takes.
    pub fn encode(&self) -> [u8; BYTES] {
        let placement = match self.layout() {
            Ok(Some(layout)) => placement_code(layout.placement),
            _ => 0,
        };
        let mut bytes = [0; BYTES];
        let mut put = |at: usize, what: &[u8]| bytes[at..at + what.len()].copy_from_slice(what);
        put(0, &MAGIC.to_le_bytes());
        put(4, &FORMAT_VERSION.to_le_bytes());
        put(6, &[metric_code(self.metric), self.columns as u8]);
        put(8, &(self.dims.unwrap_or(0) as u16).to_le_bytes());
        put(10, &(self.m as u16).to_le_bytes());
        put(12, &[placement, self.entry.map_or(0, |entry| entry.level)]);
        put(ENTRY, &Id::encode(self.entry.map(|entry| entry.id)));
        put(20, &(self.freed << 1 | u32::from(self.pending)).to_le_bytes());
        put(24, &self.seed.to_le_bytes());
        put(32, &self.text.to_le_bytes());
        put(40, &self.counted.to_le_bytes());
        put(48, &self.norm2.to_le_bytes());
        for (at, recall) in self.calibration.0.iter().enumerate() {
            put(52 + 2 * at, &recall.to_le_bytes());
        }
        put(72, &self.calibrated.to_le_bytes());
        put(76, &self.gone.to_le_bytes());
        bytes
    }

    /// Reads and checks the bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, MetaError> {
        let bytes: &[u8; BYTES] = bytes.try_into().map_err(|_| MetaError::Magic)?;
        let u16_at = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        let u32_at = |at: usize| u32::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
        let u64_at = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
        if u32_at(0) != MAGIC {
            return Err(MetaError::Magic);
        }
        if u16_at(4) != FORMAT_VERSION {
            return Err(MetaError::Version(u16_at(4)));
        }
        let metric = match bytes[6] {
            1 => Metric::L2,
            2 => Metric::InnerProduct,
            3 => Metric::Cosine,
            _ => return Err(MetaError::Nonsense("an unknown metric")),
        };
        let dims = usize::from(u16_at(8));
        let entry = Id::decode(&bytes[ENTRY..ENTRY + ID_BYTES]);
        let meta = Self {
            metric,
            columns: bytes[7].into(),
            dims: (dims > 0).then_some(dims),
            m: u16_at(10).into(),
            entry: entry.map(|id| Entry { id, level: bytes[13] }),
            pending: u32_at(20) & 1 != 0,
            freed: u32_at(20) >> 1,
            seed: u64_at(24),
            text: u64_at(32),
            counted: u64_at(40),
            norm2: f32::from_bits(u32_at(48)),
            calibration: Calibration(std::array::from_fn(|at| u16_at(52 + 2 * at))),
            calibrated: u32_at(72),
            gone: u32_at(76),
        };
        match meta.layout() {
            Ok(Some(layout)) if placement_code(layout.placement) != bytes[12] => {
                Err(MetaError::Nonsense("edges that lie elsewhere"))
            }
            Ok(_) => Ok(meta),
            Err(_) => Err(MetaError::Nonsense("dimensions that do not fit a page")),
        }
    }
}
