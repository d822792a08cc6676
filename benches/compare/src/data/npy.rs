//! Vectors in NumPy's .npy files: two-dimensional, fp16 or fp32, rows by columns.

use std::fs::File;
use std::io::{BufReader, BufWriter};
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use half::f16;
use npyz::{NpyFile, Order, TypeChar, WriterBuilder};

use super::model::Model;
use super::{Data, Vectors, generate};
use crate::arguments::Half;
use crate::side::Metric;

/// Rows and dimensions of a file.
pub fn shape(path: &Path) -> Result<(usize, usize)> {
    let shape = || -> Result<(usize, usize)> {
        let file = NpyFile::new(BufReader::new(File::open(path)?))?;
        let [rows, dims] = file.shape()[..] else {
            bail!("it has {} dimensions, not two", file.shape().len());
        };
        Ok((rows as usize, dims as usize))
    };
    shape().with_context(|| format!("cannot use {}", path.display()))
}

/// Reads a file; fp32 is rounded to fp16, which both extensions store.
pub fn read(path: &Path) -> Result<Vectors> {
    read_file(path).with_context(|| format!("cannot use {}", path.display()))
}

fn read_file(path: &Path) -> Result<Vectors> {
    let file = NpyFile::new(BufReader::with_capacity(1 << 20, File::open(path)?))?;
    let [rows, dims] = file.shape()[..] else {
        bail!("it has {} dimensions, not two", file.shape().len());
    };
    ensure!(rows > 0 && dims > 0, "it is empty: {rows} × {dims}");
    ensure!(dims <= 16_000, "its vectors have {dims} dimensions, of at most 16000");
    ensure!(file.order() == Order::C, "it is in Fortran order: save it with order='C'");
    let npyz::DType::Plain(kind) = file.dtype() else { bail!("it is a structured array") };
    let kind = (kind.type_char(), kind.size_field());
    let values = match kind {
        (TypeChar::Float, 2) => file.into_vec::<f16>()?,
        (TypeChar::Float, 4) => {
            let mut values = Vec::with_capacity((rows * dims) as usize);
            for value in file.data::<f32>()? {
                values.push(f16::from_f32(value?));
            }
            values
        }
        _ => bail!("its numbers are neither fp16 nor fp32"),
    };
    if let Some(at) = pgclip_simd::first_non_finite(&values) {
        let dims = dims as usize;
        bail!("row {} has {} in column {} as fp16", at / dims, values[at], at % dims);
    }
    Ok(Vectors::new(dims as usize, values))
}

/// Writes fp16.
pub fn write(path: &Path, vectors: &Vectors) -> Result<()> {
    let write = || -> Result<()> {
        // Under the name only when whole.
        let part = path.with_extension("part");
        let mut writer = npyz::WriteOptions::new()
            .default_dtype()
            .shape(&[vectors.len() as u64, vectors.dims as u64])
            .writer(BufWriter::new(File::create(&part)?))
            .begin_nd()?;
        writer.extend(vectors.values().iter().copied())?;
        writer.finish()?;
        Ok(std::fs::rename(&part, path)?)
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

/// Splits the queries off: the last `queries` rows, or those before them.
fn split_queries(
    path: &Path,
    vectors: &mut Vectors,
    half: Half,
    queries: usize,
) -> Result<Vectors> {
    let all = vectors.len();
    ensure!(all > 3 * queries, "{} has {all} rows, with {queries} queries", path.display());
    let report = vectors.split_off(all - queries);
    let tuning = vectors.split_off(all - 2 * queries);
    Ok(if half == Half::Report { report } else { tuning })
}

/// Queries are at the end of a file. Inserts take rows beyond `rows` where there are any, else the last
/// ones before the queries.
pub fn data(
    path: &Path,
    texts: Option<&Path>,
    half: Half,
    metric: Metric,
    rows: Option<usize>,
    queries: usize,
) -> Result<Data> {
    /// Rows of the texts of which the index learns their mean.
    const LEARNT: usize = 1000;
    let mut base = read(path)?;
    let own = split_queries(path, &mut base, half, queries)?;
    let (mut text, mut model) = (None, None);
    if let Some(path) = texts {
        let mut all = read(path)?;
        ensure!(all.dims == own.dims, "{} has {} dimensions", path.display(), all.dims);
        text = Some(split_queries(path, &mut all, half, queries)?);
        ensure!(all.len() >= LEARNT, "{} has too few rows", path.display());
        all.truncate(LEARNT);
        model = Some(Model::OfTexts(all));
    }
    let most = base.len() - generate::later(base.len());
    let rows = rows.unwrap_or(most).min(most);
    let mut later = base.split_off(rows);
    later.truncate(generate::later(rows));
    let title = format!("{rows} vectors of {} dimensions from {}", own.dims, path.display());
    Ok(Data { title, metric, base, later, own, text, frames: false, model })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn save<T: npyz::AutoSerialize + Copy>(path: &Path, shape: &[u64], values: &[T]) {
        let options = npyz::WriteOptions::new().default_dtype().shape(shape);
        let mut writer = options.writer(File::create(path).unwrap()).begin_nd().unwrap();
        writer.extend(values.iter().copied()).unwrap();
        writer.finish().unwrap();
    }

    #[test]
    fn both_widths_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.npy");
        save(&path, &[2, 3], &[1.0f32, 2.0, 3.0, 4.0, 5.0, -0.1]);
        let wide = read(&path).unwrap();
        assert_eq!((wide.len(), wide.dims), (2, 3));
        assert_eq!(wide.get(1)[2], f16::from_f32(-0.1));
        write(&path, &wide).unwrap();
        assert_eq!(read(&path).unwrap(), wide);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.npy");
        let refusal = |path: &Path| format!("{:#}", read(path).unwrap_err());
        save(&path, &[4], &[1.0f32; 4]);
        assert!(refusal(&path).contains("1 dimensions, not two"));
        save(&path, &[2, 2], &[1.0f64; 4]);
        assert!(refusal(&path).contains("neither fp16 nor fp32"));
        save(&path, &[2, 2], &[1.0f32, 1.0, 1e6, 1.0]);
        assert!(refusal(&path).contains("row 1 has inf in column 0"));
        std::fs::write(&path, "no npy").unwrap();
        assert!(refusal(&path).contains("cannot use"));
    }

    #[test]
    fn the_queries_are_at_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.npy");
        let values: Vec<f32> = (0..1000).map(|i| i as f32).collect();
        save(&path, &[1000, 1], &values);
        for (half, first) in [(Half::Report, 900.0), (Half::Tuning, 800.0)] {
            let data = data(&path, None, half, Metric::L2, Some(500), 100).unwrap();
            assert_eq!((data.rows(), data.later.len(), data.own.len()), (500, 10, 100));
            assert_eq!(data.own.get(0)[0].to_f32(), first);
            assert_eq!(data.vector(500)[0].to_f32(), 500.0);
        }
    }
}
