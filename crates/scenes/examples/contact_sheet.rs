//! Draws a sheet of scenes to look at: `contact_sheet OUT.png [vehicles|pedestrians] [web|surveillance] [LONG_SIDE] [SEED]`.
//! `contact_sheet OUT.png benchmark [train|test] [LONG_SIDE] [SEED]` shows the benchmark.
//! With a long side up to 64, each picture is padded to a square and enlarged four times.

use image::{RgbImage, imageops};
use pgclip_scenes::benchmark::Split;
use pgclip_scenes::{Domain, Scene, SceneOptions};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let word = |i: usize, default: &str| args.get(i).cloned().unwrap_or(default.to_owned());
    let options = match word(1, "vehicles").as_str() {
        "pedestrians" => SceneOptions::pedestrians(),
        _ => SceneOptions::vehicles(),
    };
    let domain = if word(2, "web") == "web" { Domain::Web } else { Domain::Surveillance };
    let side: u32 = word(3, "240").parse()?;
    let seed: u64 = word(4, "0").parse()?;
    let (columns, rows, cell) = (8, 5, if side <= 64 { 208 } else { 240 });
    let mut sheet = RgbImage::new(columns * cell, rows * cell);
    for i in 0..columns * rows {
        let scene = match (word(1, "").as_str(), word(2, "train").as_str()) {
            ("benchmark", "test") => Split::Test.scene(seed, u64::from(i)),
            ("benchmark", _) => Split::Train.scene(seed, u64::from(i)),
            _ => Scene::sample(seed + u64::from(i), &options.in_domain(domain)),
        };
        let mut picture = if side <= 64 {
            let drawn = scene.draw(160);
            let (w, h) = (drawn.width() * side / 160, drawn.height() * side / 160);
            imageops::resize(&drawn, w.max(1), h.max(1), imageops::FilterType::CatmullRom)
        } else {
            scene.draw(side.min(cell))
        };
        if side <= 64 {
            picture = imageops::resize(
                &picture,
                picture.width() * 3,
                picture.height() * 3,
                imageops::FilterType::Nearest,
            );
        }
        let (x, y) = (i % columns * cell, i / columns * cell);
        imageops::replace(&mut sheet, &picture, i64::from(x), i64::from(y));
        println!("{i:3} {} | {:?}", scene.label_line("x.jpg"), scene.vehicle().map(|v| v.kind));
    }
    sheet.save(word(0, "sheet.png"))?;
    Ok(())
}
