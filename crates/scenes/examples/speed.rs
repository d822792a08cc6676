//! Measures how many scenes one core draws in a second: `speed [LONG_SIDE] [COUNT]`.

use std::time::Instant;

use pgclip_scenes::{Scene, SceneOptions};

fn main() {
    let mut numbers = std::env::args().skip(1).filter_map(|a| a.parse::<u32>().ok());
    let (long_side, count) = (numbers.next().unwrap_or(128), numbers.next().unwrap_or(2000));
    for (name, options) in
        [("vehicles", SceneOptions::vehicles()), ("pedestrians", SceneOptions::pedestrians())]
    {
        let start = Instant::now();
        let bytes: usize = (0..u64::from(count))
            .map(|seed| Scene::sample(seed, &options).draw(long_side).as_raw().len())
            .sum();
        let seconds = start.elapsed().as_secs_f64();
        let rate = f64::from(count) / seconds;
        println!("{name}: {rate:.0} scenes/s at {long_side} pixels ({bytes} bytes)");
    }
}
