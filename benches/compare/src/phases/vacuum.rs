//! VACUUM after a tenth of the rows was deleted: its time, and recall after it against that of an
//! index built anew, with the same setting.

use std::collections::BTreeMap;

use anyhow::Result;
use postgres::Client;

use crate::bench::{K, Run};
use crate::exact::{Judge, Truth};
use crate::phases::build;
use crate::report::{Better, Entry};
use crate::side::Side;
use crate::sweep::Work;

/// A row goes if its id has this remainder by ten.
const DELETED: i64 = 3;

/// Deletes, vacuums, searches, builds anew, searches.
pub fn run(run: &mut Run) -> Result<()> {
    println!("--> vacuum: a tenth of the rows deleted");
    let count = run.data.own.len().min(500);
    let mut queries = run.data.own.clone();
    queries.truncate(count);
    let mut seconds = BTreeMap::new();
    let mut kept = BTreeMap::new();
    for side in run.sides() {
        let mut client = run.session()?;
        let table = side.table();
        client.execute(&format!("DELETE FROM {table} WHERE id % 10 = {DELETED}"), &[])?;
        client.batch_execute("CHECKPOINT")?;
        let last: i64 = client.query_one(&format!("SELECT max(id) FROM {table}"), &[])?.get(0);
        let vacuum = format!("VACUUM (INDEX_CLEANUP on, PARALLEL 0) {table}");
        let clock = run.bench.arguments.clock;
        let took = clock.time_maintenance(&run.bench.cluster, &mut client, &vacuum)?;
        let judge = Judge {
            data: run.data,
            queries: &queries,
            truth: Truth::find(run.data, &queries, last as usize + 1, K, |id| {
                id as i64 % 10 != DELETED
            }),
            k: K,
        };
        let vacuumed = recall(run, side, &judge)?;
        let bytes = build::bytes(&mut client, &format!("{table}_index"))?;
        rebuild(run, &mut client, side)?;
        let fresh = recall(run, side, &judge)?;
        let setting = run.setting(side).name;
        println!(
            "    {side:<9} {took:.2} s, {setting}: recall {vacuumed:.4} after it, {fresh:.4} built anew"
        );
        let base = Entry { setting, ..run.entry(side.name(), "vacuum") };
        let results = &mut run.bench.report.results;
        results.push(Entry {
            recall: Some(vacuumed),
            seconds: Some(took),
            bytes: Some(bytes),
            ..base.clone()
        });
        results.push(Entry { phase: "vacuum_fresh".to_owned(), recall: Some(fresh), ..base });
        seconds.insert(side, took);
        kept.insert(side, vacuumed / fresh);
    }
    let suffix = run.suffix.clone();
    let numbers = Side::ALL.map(|side| seconds.get(&side).copied());
    let what = format!("VACUUM of a tenth, d = {}", run.data.dims());
    run.bench.report.compare(&format!("vacuum{suffix}"), &what, "s", Better::Less, numbers);
    let numbers = Side::ALL.map(|side| kept.get(&side).copied());
    let what = "recall after VACUUM over a fresh build's";
    run.bench.report.compare(&format!("vacuum_recall{suffix}"), what, "", Better::More, numbers);
    Ok(())
}

fn recall(run: &Run, side: Side, judge: &Judge) -> Result<f64> {
    let count = judge.queries.len();
    let mut work = run.single(side, judge.queries, count, K)?;
    work.set(&run.setting(side))?;
    let answers = work.answers(0..count)?;
    let recalls = answers.iter().enumerate().map(|(query, ids)| judge.verdict(query, ids).recall);
    Ok(recalls.sum::<f64>() / count as f64)
}

fn rebuild(run: &Run, client: &mut Client, side: Side) -> Result<()> {
    build::create(run, client, side, &side.table(), "").map(drop)
}
