//! Sweeps: the settings of several lanes (one an extension, say) measured in turns, block of
//! queries by block of queries, so that what else happens on the machine meets them all alike.
//!
//! First an untimed pass from the fastest setting on gives recall and warms everything; it ends at
//! the first setting that is accurate enough. Then timed rounds: the first over all settings, the
//! others over those alone that the interpolation reads.

use std::ops::Range;

use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};

use crate::clock::{Backend, Clock};
use crate::curve::{Sample, median, needed, spread};
use crate::exact::{Judge, Verdict};
use crate::side::Setting;

/// Queries that one lane answers before the next has its turn.
const BLOCK: usize = 50;
/// Queries whose buffers are counted.
const COUNTED: usize = 50;

/// How questions are put to the server.
pub trait Work {
    fn set(&mut self, setting: &Setting) -> Result<()>;
    /// The ids found for each query of a range.
    fn answers(&mut self, range: Range<usize>) -> Result<Vec<Vec<i64>>>;
    /// The same without looking at the answers: what is timed.
    fn run(&mut self, range: Range<usize>) -> Result<()> {
        self.answers(range).map(drop)
    }
    /// Buffers that a query of a range touches on average, where that can be told.
    fn pages(&mut self, range: Range<usize>) -> Result<Option<f64>>;
    /// The server's processes that answer.
    fn backends(&self) -> Vec<Backend>;
}

/// One contender.
pub struct Lane<'a> {
    pub extension: &'static str,
    pub settings: Vec<Setting>,
    pub work: Box<dyn Work + 'a>,
}

/// One setting of a lane, measured.
#[derive(Clone, Debug)]
pub struct Point {
    pub setting: Setting,
    pub recall: f64,
    /// Rows that came, on average.
    pub returned: f64,
    /// Share of the answers whose rows did not come nearest first.
    pub disordered: f64,
    pub pages: Option<f64>,
    /// Queries a second of each timed round.
    pub rates: Vec<f64>,
}

impl Point {
    pub fn per_second(&self) -> f64 {
        median(&self.rates)
    }

    pub fn spread(&self) -> Option<f64> {
        spread(&self.rates)
    }

    pub fn sample(&self) -> Sample {
        Sample { recall: self.recall, per_second: self.per_second() }
    }
}

/// What a sweep is about.
pub struct Sweep<'a> {
    pub title: String,
    pub queries: usize,
    pub rounds: usize,
    pub clock: Clock,
    /// Leave out what is slower than the first setting with this recall.
    pub enough: f64,
    /// Recalls that will be interpolated.
    pub targets: &'a [f64],
    pub judge: &'a Judge<'a>,
}

impl Sweep<'_> {
    /// Measures all lanes; a list of points for each.
    pub fn run(&self, lanes: &mut [Lane]) -> Result<Vec<Vec<Point>>> {
        let steps = lanes.iter().map(|lane| lane.settings.len()).sum::<usize>();
        let bar = ProgressBar::new((steps * (self.rounds + 1)) as u64);
        let style = ProgressStyle::with_template("    {msg} {wide_bar} {pos}/{len} {elapsed}")?;
        bar.set_style(style);
        bar.set_message(self.title.clone());
        let mut points = Vec::new();
        for lane in lanes.iter_mut() {
            let before = lane.settings.len();
            points.push(self.pilot(lane, &bar)?);
            bar.inc(((before - lane.settings.len()) * (self.rounds + 1)) as u64);
        }
        for round in 0..self.rounds {
            self.round(round, lanes, &mut points)?;
            bar.inc(points.iter().map(Vec::len).sum::<usize>() as u64);
        }
        bar.finish_and_clear();
        Ok(points)
    }

    /// Recall of each setting; leaves the lane those settings that are to be timed.
    fn pilot(&self, lane: &mut Lane, bar: &ProgressBar) -> Result<Vec<Point>> {
        let mut points = Vec::new();
        // Settings whose accuracy gains nothing more are left out, but their families' next ones.
        let mut idle = (String::new(), 0);
        let mut best = 0.0;
        let settings = std::mem::take(&mut lane.settings);
        for setting in settings {
            if idle.0 != setting.family() {
                idle = (setting.family().to_owned(), 0);
            }
            if self.enough < 1.0 && idle.1 >= 2 {
                continue;
            }
            lane.work.set(&setting)?;
            let answers = lane.work.answers(0..self.queries)?;
            let pages = lane.work.pages(0..COUNTED.min(self.queries))?;
            let count = self.queries as f64;
            let verdicts = answers.iter().enumerate().map(|(i, ids)| self.judge.verdict(i, ids));
            let verdicts: Vec<Verdict> = verdicts.collect();
            let recall = verdicts.iter().map(|verdict| verdict.recall).sum::<f64>() / count;
            let disordered =
                verdicts.iter().filter(|verdict| !verdict.sorted).count() as f64 / count;
            let returned = answers.iter().map(Vec::len).sum::<usize>() as f64 / count;
            idle.1 = if recall > best + 0.0005 { 0 } else { idle.1 + 1 };
            best = recall.max(best);
            lane.settings.push(setting.clone());
            let rates = Vec::new();
            points.push(Point { setting, recall, returned, disordered, pages, rates });
            bar.inc(1);
            if recall >= self.enough {
                break;
            }
        }
        Ok(points)
    }

    fn round(&self, round: usize, lanes: &mut [Lane], points: &mut [Vec<Point>]) -> Result<()> {
        let due: Vec<Vec<bool>> = points
            .iter()
            .map(|points| {
                let recalls: Vec<f64> = points.iter().map(|point| point.recall).collect();
                let every = round == 0 || self.targets.is_empty();
                if every { vec![true; points.len()] } else { needed(&recalls, self.targets) }
            })
            .collect();
        let most = due.iter().map(Vec::len).max().unwrap_or(0);
        // Settings of the lanes in turns, and who goes first changes.
        let turns: Vec<(usize, usize)> = (0..most)
            .flat_map(|step| (0..lanes.len()).map(move |turn| (step, turn)))
            .map(|(step, turn)| ((turn + step + round) % lanes.len(), step))
            .filter(|&(at, step)| due[at].get(step) == Some(&true))
            .collect();
        let mut spent = vec![0.0; turns.len()];
        for start in (0..self.queries).step_by(BLOCK) {
            let block = start..(start + BLOCK).min(self.queries);
            for (&(at, step), spent) in turns.iter().zip(&mut spent) {
                let lane = &mut lanes[at];
                lane.work.set(&lane.settings[step])?;
                let backends = lane.work.backends();
                *spent += self.clock.time(&backends, || lane.work.run(block.clone()))?;
            }
        }
        for ((at, step), spent) in turns.into_iter().zip(spent) {
            points[at][step].rates.push(self.queries as f64 / spent);
        }
        Ok(())
    }
}
