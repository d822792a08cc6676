//! A run's numbers as TensorBoard's event files, under the tags that open_clip gives them.
//!
//! ```text
//! RUN/tensorboard/events.out.tfevents.<microseconds>.<host>   one file each time a run is started
//! ```
//!
//! TensorBoard joins the files of one folder, so a resumed run goes on in its curves.

use std::fmt;
use std::fs::File;
use std::io::BufWriter;
use std::path::Path;

use anyhow::{Context, Result};
use syntaxdot_summary::SummaryWriter;

use crate::eval::Report;
use crate::ranks::Measures;

/// The event file of a run under way.
pub struct Events(SummaryWriter<BufWriter<File>>);

/// What the log tells of a step.
#[derive(Clone, Copy, Debug)]
pub struct Numbers {
    pub loss: f64,
    /// Norm of the gradients before clipping.
    pub norm: f64,
    /// What similarities are multiplied with.
    pub scale: f64,
    pub rate: f64,
    pub samples_per_second: f64,
    /// Seconds that a step waited for its batch.
    pub data_time: f64,
}

impl Numbers {
    /// Those beside the progress bar.
    pub fn short(&self) -> String {
        let Numbers { loss, rate, samples_per_second, .. } = self;
        format!("loss {loss:.3} lr {rate:.2e} {samples_per_second:.0} samples/s")
    }
}

impl fmt::Display for Numbers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Numbers { loss, norm, scale, rate, samples_per_second, data_time } = self;
        write!(
            f,
            "loss {loss:.4} norm {norm:.3} scale {scale:.2} lr {rate:.3e} \
             samples/s {samples_per_second:.1} data {data_time:.4} s"
        )
    }
}

impl Events {
    /// A new event file in `run`.
    pub fn create(run: &Path) -> Result<Self> {
        let folder = run.join("tensorboard");
        let writer = SummaryWriter::from_prefix(folder.join("events"));
        Ok(Events(writer.with_context(|| format!("cannot write to {}", folder.display()))?))
    }

    /// The numbers of a step.
    pub fn step(&mut self, step: u64, numbers: &Numbers) -> Result<()> {
        let Numbers { loss, norm, scale, rate, samples_per_second, data_time } = *numbers;
        self.write(
            step,
            "train",
            &[
                ("loss", loss),
                ("norm", norm),
                ("scale", scale),
                ("lr", rate),
                ("samples_per_second", samples_per_second),
                ("data_time", data_time),
            ],
        )
    }

    /// What was measured on the held-out set after a step.
    pub fn held_out(&mut self, step: u64, report: &Report) -> Result<()> {
        let sets = [
            ("text_to_image", &report.captions),
            ("image_to_text", &report.pictures_to_captions),
            ("colour_type", &report.colour_type),
        ];
        for (name, measures) in sets.into_iter().filter(|(_, measures)| measures.queries > 0) {
            let Measures { recall_at_1, recall_at_5, recall_at_10, map_at_10, .. } = *measures;
            let values = [
                ("R@1", recall_at_1),
                ("R@5", recall_at_5),
                ("R@10", recall_at_10),
                ("mAP@10", map_at_10),
                ("mean_rank", measures.mean_rank),
                ("median_rank", measures.median_rank as f64),
            ];
            let values = values.map(|(measure, value)| (format!("{name}_{measure}"), value));
            self.write(step, "val", &values)?;
        }
        Ok(())
    }

    fn write(&mut self, step: u64, group: &str, values: &[(impl AsRef<str>, f64)]) -> Result<()> {
        for (name, value) in values {
            let tag = format!("{group}/{}", name.as_ref());
            self.0
                .write_scalar(tag, step as i64, *value as f32)
                .context("cannot write TensorBoard's event file")?;
        }
        Ok(())
    }
}
