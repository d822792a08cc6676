//! The main job, end to end: pictures in with COPY, sentences out with `text_search()`; with the
//! library loaded at the server's start and without.

use anyhow::{Context, Result};
use pgclip_scenes::{Colour, Domain, VehicleType};
use pgclip_tests::{both, copy, make_photos, pictures, sqlstate, value, vehicle};
use postgres::Client;

/// The vehicles that the test looks for, each among the others.
const KINDS: [(Colour, VehicleType); 6] = [
    (Colour::Red, VehicleType::Bus),
    (Colour::Yellow, VehicleType::Sedan),
    (Colour::Blue, VehicleType::Truck),
    (Colour::White, VehicleType::Suv),
    (Colour::Green, VehicleType::Minivan),
    (Colour::Black, VehicleType::Sedan),
];
/// Pictures of each kind.
const EACH: usize = 24;

/// Row `id` shows `KINDS[(id - 1) % 6]`.
fn shows(id: i64) -> (Colour, VehicleType) {
    KINDS[(id as usize - 1) % KINDS.len()]
}

fn filled(client: &mut Client) -> Result<()> {
    make_photos(client)?;
    let files: Vec<Vec<u8>> = (0..KINDS.len() * EACH)
        .map(|row| {
            let (colour, kind) = KINDS[row % KINDS.len()];
            let domain = if row % 4 == 0 { Domain::Web } else { Domain::Surveillance };
            vehicle(8_100_000_000 + row as u64, colour, kind, domain).jpeg(160, 85)
        })
        .collect();
    assert_eq!(copy(client, "photos", &files)?, files.len() as u64);
    Ok(())
}

/// Ids and scores of a search.
fn hits(client: &mut Client, query: &str) -> Result<Vec<(i64, f32)>> {
    let rows = client.query(query, &[]).with_context(|| query.to_owned())?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

#[test]
fn copied_rows_have_the_embeddings_of_their_images() -> Result<()> {
    both("copied", |_, client| {
        filled(client)?;
        let missing: i64 = value(client, "SELECT count(*) FROM photos WHERE embedding IS NULL")?;
        assert_eq!(missing, 0);
        // A batch of another size rounds otherwise, no more.
        let farthest: f64 =
            value(client, "SELECT max(embedding <=> encode_image(image)) FROM photos")?;
        assert!(farthest < 1e-3, "an embedding is {farthest} away from its image's");
        let unlike: f64 = value(client, "SELECT max(abs(norm(embedding) - 1)) FROM photos")?;
        assert!(unlike < 1e-3, "a norm is {unlike} away from 1");
        Ok(())
    })
}

#[test]
fn sentences_find_what_they_say() -> Result<()> {
    both("sentences", |_, client| {
        filled(client)?;
        for (sentence, kind) in [
            ("a red bus", KINDS[0]),
            ("A yellow sedan.", KINDS[1]),
            ("a blue truck", KINDS[2]),
            ("a green minivan", KINDS[4]),
        ] {
            let search =
                format!("SELECT (hit).id, score FROM text_search(NULL::photos, '{sentence}')");
            let found = hits(client, &search)?;
            assert_eq!(found.len(), 10);
            assert!(found.is_sorted_by(|a, b| a.1 >= b.1), "{sentence}: {found:?}");
            let right = found.iter().filter(|(id, _)| shows(*id) == kind).count();
            assert!(right >= 8, "{sentence}: {right} of 10 hits are right");
        }
        Ok(())
    })
}

#[test]
fn text_search_is_the_scan_in_order_of_distance() -> Result<()> {
    both("order", |_, client| {
        filled(client)?;
        let searched = hits(
            client,
            "SELECT (hit).id, score FROM text_search(NULL::photos, 'a red bus', k => 20)",
        )?;
        let scanned = hits(
            client,
            "SELECT id, (1 - (embedding <=> clip_query('a red bus')))::real FROM photos
              ORDER BY embedding <=> clip_query('a red bus') LIMIT 20",
        )?;
        assert_eq!(searched.len(), 20);
        for (one, other) in searched.iter().zip(&scanned) {
            assert!((one.1 - other.1).abs() < 1e-4, "{searched:?}\n{scanned:?}");
        }
        let filtered = client.query(
            "SELECT camera FROM photos WHERE camera = 'south gate' AND id > 6
              ORDER BY embedding <=> clip_query('a red bus') LIMIT 5",
            &[],
        )?;
        assert_eq!(filtered.len(), 5);
        assert!(filtered.iter().all(|row| row.get::<_, &str>(0) == "south gate"));
        Ok(())
    })
}

#[test]
fn a_picture_finds_itself_and_its_like() -> Result<()> {
    both("image_search", |_, client| {
        filled(client)?;
        let row = client.query_one("SELECT image FROM photos WHERE id = 1", &[])?;
        let image: &[u8] = row.get(0);
        let rows = client.query(
            "SELECT (hit).id, score, (hit).image IS NULL FROM image_search(NULL::photos, $1, k => 10)",
            &[&image],
        )?;
        let (first, score): (i64, f32) = (rows[0].get(0), rows[0].get(1));
        assert_eq!(first, 1);
        assert!(score > 0.999, "{score}");
        assert!(rows.iter().all(|row| row.get(2)), "images stay out of the hits");
        let alike = rows.iter().filter(|row| shows(row.get(0)) == shows(1)).count();
        assert!(alike >= 6, "{alike} of 10 hits are alike");
        Ok(())
    })
}

#[test]
fn embeddings_follow_their_images() -> Result<()> {
    both("follow", |_, client| {
        make_photos(client)?;
        let files = pictures(3);
        client.execute(
            "INSERT INTO photos (id, image) VALUES (1, $1), (2, $2)",
            &[&files[0], &files[1]],
        )?;
        let near = "SELECT bool_and((embedding <=> encode_image(image)) < 1e-3) FROM photos";
        assert!(value::<bool>(client, near)?);

        client.execute("UPDATE photos SET image = $1 WHERE id = 2", &[&files[2]])?;
        assert!(value::<bool>(client, near)?);
        client.execute("UPDATE photos SET camera = 'moved' WHERE id = 2", &[])?;
        assert!(value::<bool>(client, near)?);
        client.execute("UPDATE photos SET image = NULL WHERE id = 2", &[])?;
        assert!(value::<bool>(client, "SELECT embedding IS NULL FROM photos WHERE id = 2")?);

        // A row that comes with an embedding keeps it.
        client.execute(
            "INSERT INTO photos (id, image, embedding)
             VALUES (3, $1, (SELECT embedding FROM photos WHERE id = 1))",
            &[&files[1]],
        )?;
        let kept = "SELECT count(DISTINCT embedding) = 1 FROM photos WHERE id IN (1, 3)";
        assert!(value::<bool>(client, kept)?);
        Ok(())
    })
}

#[test]
fn a_bad_picture_ends_the_copy_and_nothing_else() -> Result<()> {
    both("bad_picture", |_, client| {
        make_photos(client)?;
        let mut files = pictures(40);
        files[29] = b"this is no picture".to_vec();
        let backend: i32 = value(client, "SELECT pg_backend_pid()")?;
        assert_eq!(sqlstate(copy(client, "photos", &files)), "22P03");
        assert_eq!(value::<i64>(client, "SELECT count(*) FROM photos")?, 0);
        files[29] = files[0].clone();
        assert_eq!(copy(client, "photos", &files)?, 40);
        assert_eq!(value::<i32>(client, "SELECT pg_backend_pid()")?, backend);
        Ok(())
    })
}
