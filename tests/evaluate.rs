//! `clip_evaluate` against measures taken outside of the server: every distance of every query, by
//! a statement of its own, ranked and measured by the trainer's code.

use std::collections::HashMap;

use anyhow::{Context, Result};
use pgclip_cluster::Cluster;
use pgclip_scenes::{Query, Scene, SceneOptions};
use pgclip_tests::{copy, make_photos, sqlstate, start, value};
use postgres::Client;

/// The trainer itself links libtorch; this file of it does not.
#[path = "../trainer/src/metrics.rs"]
mod metrics;

use metrics::{average_precision, mean, ranking};

const CUTOFFS: [usize; 4] = [1, 3, 10, 40];

/// Pictures of vehicles in the table, and for every pair of colour and type that one shows a query
/// and its right rows. Returns the queries and their answers by the pictures' order.
fn fill(client: &mut Client) -> Result<Vec<(String, Vec<bool>)>> {
    make_photos(client)?;
    let options = SceneOptions { long_side: (96, 128), ..SceneOptions::vehicles() };
    let scenes: Vec<Scene> =
        (0..120).map(|seed| Scene::sample(9_000_000_000 + seed, &options)).collect();
    let pictures: Vec<Vec<u8>> = scenes.iter().map(|scene| scene.file(&options)).collect();
    copy(client, "photos", &pictures)?;
    client.batch_execute(
        "CREATE TABLE queries (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), sentence text);
         CREATE TABLE relevance (query uuid, photo int)",
    )?;
    let mut queries = Vec::new();
    for (text, query) in Query::colours_and_types() {
        let right: Vec<bool> = scenes.iter().map(|scene| query.matches(scene)).collect();
        if !right.contains(&true) {
            continue;
        }
        client.execute("INSERT INTO queries (sentence) VALUES ($1)", &[&text])?;
        let ids: Vec<i32> =
            right.iter().zip(1..).filter_map(|(&right, id)| right.then_some(id)).collect();
        client.execute(
            "INSERT INTO relevance SELECT id, unnest($2::int[]) FROM queries WHERE sentence = $1",
            &[&text, &ids],
        )?;
        queries.push((text, right));
    }
    Ok(queries)
}

/// Similarities of all pictures to a query, in the order of their keys.
fn scores(client: &mut Client, text: &str, enhance: bool) -> Result<Vec<f32>> {
    let query = "SELECT (1 - (embedding <=> clip_query($1, enhance => $2)))::real
        FROM photos ORDER BY id";
    Ok(client.query(query, &[&text, &enhance])?.iter().map(|row| row.get(0)).collect())
}

/// What the trainer's code says: by cutoff, mean average precision, recall, mean reciprocal rank.
fn measured(rankings: &[(Vec<usize>, Vec<bool>)]) -> HashMap<usize, [f64; 3]> {
    let first = |order: &[usize], right: &[bool], k: usize| {
        let place = order.iter().take(k).position(|&at| right[at]);
        place.map_or(0.0, |place| 1.0 / (place as f64 + 1.0))
    };
    let over = |measure: &dyn Fn(&[usize], &[bool]) -> f64| {
        mean(&rankings.iter().map(|(order, right)| measure(order, right)).collect::<Vec<_>>())
    };
    let measures = |k| {
        [
            over(&|order, right| average_precision(order, right, k)),
            over(&|order, right| f64::from(u8::from(order.iter().take(k).any(|at| right[*at])))),
            over(&|order, right| first(order, right, k)),
        ]
    };
    CUTOFFS.into_iter().map(|k| (k, measures(k))).collect()
}

fn assert_evaluates(
    client: &mut Client,
    options: &str,
    rankings: &[(Vec<usize>, Vec<bool>)],
) -> Result<()> {
    let cutoffs: Vec<i32> = CUTOFFS.iter().map(|&k| k as i32).collect();
    let statement = format!(
        "SELECT k, map, recall, mrr, asked
         FROM clip_evaluate('queries', 'relevance', 'photos', $1, options => '{options}')"
    );
    let expected = measured(rankings);
    let rows = client.query(&statement, &[&cutoffs]).context(statement)?;
    assert_eq!(rows.len(), CUTOFFS.len());
    for row in rows {
        let k: i32 = row.get(0);
        let expected = expected[&(k as usize)];
        for (at, name) in ["map", "recall", "mrr"].iter().enumerate() {
            let found: f64 = row.get(at + 1);
            let expected = expected[at];
            assert!((found - expected).abs() < 1e-12, "{options} {name}@{k}: {found}, {expected}");
        }
        assert_eq!(row.get::<_, i64>(4), rankings.len() as i64);
    }
    Ok(())
}

#[test]
fn it_measures_what_the_trainer_measures() -> Result<()> {
    let (_cluster, mut client) = start(&Cluster::builder("evaluate"))?;
    let queries = fill(&mut client)?;
    assert!(queries.len() > 20, "{} queries", queries.len());
    for enhance in [false, true] {
        let mut rankings = Vec::new();
        for (text, right) in &queries {
            rankings.push((ranking(&scores(&mut client, text, enhance)?), right.clone()));
        }
        assert_evaluates(&mut client, &format!("{{\"enhance\": {enhance}}}"), &rankings)?;
        let [map, ..] = measured(&rankings)[&10];
        assert!(map > 0.0 && map < 1.0, "{map} tells nothing");
    }
    Ok(())
}

/// With re-ranking the order is the search's own, read through another statement.
#[test]
fn re_ranked_orders_are_measured() -> Result<()> {
    let (_cluster, mut client) = start(&Cluster::builder("evaluate_rerank"))?;
    let queries = fill(&mut client)?;
    let mut rankings = Vec::new();
    for (text, right) in &queries {
        let search =
            "SELECT (hit).id FROM text_search(NULL::photos, $1, 120, rerank => 'adaption')";
        let rows = client.query(search, &[text])?;
        let order = rows.iter().map(|row| row.get::<_, i64>(0) as usize - 1).collect();
        rankings.push((order, right.clone()));
    }
    assert_evaluates(&mut client, "{\"rerank\": \"adaption\"}", &rankings)
}

/// It reads nothing that its caller may not read, be it queries, answers or pictures.
#[test]
fn it_has_the_callers_rights() -> Result<()> {
    let (cluster, mut client) = start(&Cluster::builder("evaluate_rights"))?;
    fill(&mut client)?;
    client.batch_execute("CREATE ROLE reader LOGIN")?;
    let mut reader = cluster.connect_as("reader", "postgres")?;
    let evaluate = "SELECT asked FROM clip_evaluate('queries', 'relevance', 'photos', '{5}')";
    for table in ["queries", "relevance", "photos"] {
        assert_eq!(sqlstate(reader.batch_execute(evaluate)), "42501", "before {table}");
        client.batch_execute(&format!("GRANT SELECT ON {table} TO reader"))?;
    }
    let all = value::<i64>(&mut reader, evaluate)?;
    // Nor what a policy hides.
    client.batch_execute(
        "ALTER TABLE queries ENABLE ROW LEVEL SECURITY;
         CREATE POLICY red ON queries USING (sentence LIKE '%red%')",
    )?;
    let red = value::<i64>(&mut reader, evaluate)?;
    assert!(red > 0 && red < all, "{red} of {all}");
    Ok(())
}
