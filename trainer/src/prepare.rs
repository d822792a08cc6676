//! `pgclip-train prepare`: label files to what training and `augment` read.
//!
//! A3R's parse_split, parse_attr and parse_augment in one pass over any number of files.
//! Nothing is decoded, no model is loaded.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::Args;

use crate::data::picture_folder;
use crate::lexicon::Lexicon;
use crate::lines::{self, Captions, CsvForm, Line, write_whole};

#[derive(Debug, Args)]
pub struct PrepareArgs {
    /// Label files: image$attributes$caption, with or without $augmented caption
    #[arg(required = true)]
    pub labels: Vec<PathBuf>,
    /// Folder to write: vehicle_labels.txt, person_labels.txt, vehicle.csv, person.csv, all.csv,
    /// car_attribute.json
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Folder of the pictures, which the CSVs name [default: each label file's]
    #[arg(long, value_name = "DIR")]
    pub images: Option<PathBuf>,
    /// Captions of the CSVs: the augmented ones where there are any, or those given
    #[arg(long, value_enum, default_value_t = Captions::Augmented)]
    pub captions: Captions,
}

/// Runs `pgclip-train prepare`.
pub fn run(args: &PrepareArgs) -> Result<()> {
    let mut split = Split::default();
    for path in &args.labels {
        let folder = picture_folder(path, args.images.as_deref());
        for line in lines::read(path, &CsvForm::default())? {
            let caption = args.captions.of(&line).to_owned();
            let row = [path_text(&folder.join(&line.image))?, caption];
            split.add(line, row);
        }
    }
    let lexicon = Lexicon::gather(split.vehicles.lines.iter().map(|line| line.attributes.as_str()));
    let out = &args.out;
    for (name, part) in [("vehicle", &split.vehicles), ("person", &split.persons)] {
        if !part.lines.is_empty() {
            let text: String = part.lines.iter().map(|line| format!("{line}\n")).collect();
            write_whole(&out.join(format!("{name}_labels.txt")), text.as_bytes())?;
            write_whole(&out.join(format!("{name}.csv")), &csv(&part.rows)?)?;
        }
    }
    let all: Vec<[String; 2]> = [&split.vehicles.rows[..], &split.persons.rows].concat();
    write_whole(&out.join("all.csv"), &csv(&all)?)?;
    if !split.vehicles.lines.is_empty() {
        let json = serde_json::to_string(&lexicon)? + "\n";
        write_whole(&out.join("car_attribute.json"), json.as_bytes())?;
    }
    println!(
        "{}: {} vehicles, {} persons; {} colours, {} types, {} makes",
        out.display(),
        split.vehicles.lines.len(),
        split.persons.lines.len(),
        lexicon.colours.len(),
        lexicon.types.len(),
        lexicon.makes.len()
    );
    Ok(())
}

#[derive(Default)]
struct Split {
    vehicles: Part,
    persons: Part,
}

#[derive(Default)]
struct Part {
    lines: Vec<Line>,
    /// Path and caption for the CSV.
    rows: Vec<[String; 2]>,
}

impl Split {
    fn add(&mut self, line: Line, row: [String; 2]) {
        let part = if line.is_person() { &mut self.persons } else { &mut self.vehicles };
        part.lines.push(line);
        part.rows.push(row);
    }
}

fn path_text(path: &Path) -> Result<String> {
    let text = path.to_str().with_context(|| format!("{} is not UTF-8", path.display()))?;
    ensure!(!text.contains('\n'), "{text:?} has a line break in it");
    Ok(text.to_owned())
}

/// open_clip's CSV, quoted where a caption has a tab or a quotation mark in it.
fn csv(rows: &[[String; 2]]) -> Result<Vec<u8>> {
    let form = CsvForm::default();
    let mut writer = csv::WriterBuilder::new().delimiter(form.separator).from_writer(Vec::new());
    writer.write_record([&form.image, &form.caption])?;
    for row in rows {
        writer.write_record(row)?;
    }
    Ok(writer.into_inner()?)
}
