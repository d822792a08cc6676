//! Judges prompt enhancement on a file of queries, one a line, that are all of one domain:
//! `cargo run -p pgclip-query --example domains -- vehicle FILE`.

use pgclip_query::enhance::{Lexicon, builtin};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(want), Some(file)) = (arguments.next(), arguments.next()) else {
        return Err("usage: domains DOMAIN FILE".into());
    };
    let text = std::fs::read_to_string(file)?;
    let domains = builtin();
    let lexicon = Lexicon::new(&domains);
    let (mut right, mut all) = (0, 0);
    for query in text.lines() {
        let got = lexicon.enhance(query, None)?;
        all += 1;
        match got.domain.as_deref() == Some(want.as_str()) {
            true => right += 1,
            false => println!("{query:?}: {} ({:?})", got.reason, got.domain),
        }
    }
    println!("{right} of {all} are {want}");
    Ok(())
}
