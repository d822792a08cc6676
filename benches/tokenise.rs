//! What a text costs before the encoder sees it. One thread.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use pgclip_clip::tokenize::Tokenizer;

fn texts(c: &mut Criterion) {
    let tokenizer = Tokenizer::clip();
    let long = "the quick brown fox jumps over the lazy dog ".repeat(2_300);
    let one_word = "a".repeat(100_000);
    let mut group = c.benchmark_group("tokenise");
    for (name, text) in [
        ("caption", "a photo of a red Toyota sedan driving on a road, surveillance camera view"),
        ("accents and entities", "un café &amp; une “crème brûlée” à l’hôtel — 5 €"),
        ("100,000 characters", long.as_str()),
        ("one word of 100,000 characters", one_word.as_str()),
    ] {
        group.throughput(Throughput::Elements(1));
        group.bench_function(name, |b| b.iter(|| tokenizer.encode(text, 77)));
    }
    group.finish();
}

criterion_group!(benches, texts);
criterion_main!(benches);
