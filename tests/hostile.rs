//! SQL that the extension runs for somebody must mean what it says, whoever may create operators.
//!
//! `clip_backfill` asked the catalog for `c.oid IN (SELECT relid …)`. The system has no operator
//! `=(oid, regclass)`, so a user's own one in `public`, which fits exactly, was called with the rights
//! of whoever called: a superuser's backfill made its author a superuser. Here somebody has put
//! operators, functions, casts and domains of every shape into `public`, into the extension's schema
//! and into the first schema of the search path, before the extension was created and after. A
//! superuser calls everything there is, and none of it may run but with the rights of its author.

use anyhow::{Context, Result, ensure};
use pgclip_cluster::Cluster;
use pgclip_tests::{file, pictures, register_second, value};
use postgres::Client;

/// The hostile role's own types and tables.
const TYPES: &str = "\
SET search_path = evil, ext, pg_catalog;
CREATE FUNCTION evil.told(anyelement) RETURNS bool LANGUAGE plpgsql AS
    $$BEGIN RAISE WARNING 'HOSTILE code % ran as %', 'of somebody', current_user; RETURN true; END$$;
CREATE TYPE evil.mood AS ENUM ('a', 'b', 'c', 'd');
CREATE FUNCTION evil.of_mood(evil.mood) RETURNS text LANGUAGE plpgsql AS
    $$BEGIN RAISE WARNING 'HOSTILE code % ran as %', 'of somebody', current_user; RETURN 'a'; END$$;
CREATE FUNCTION evil.json_of_mood(evil.mood) RETURNS json LANGUAGE plpgsql AS
    $$BEGIN RAISE WARNING 'HOSTILE code % ran as %', 'of somebody', current_user; RETURN '1'; END$$;
CREATE CAST (evil.mood AS text) WITH FUNCTION evil.of_mood(evil.mood) AS ASSIGNMENT;
CREATE CAST (evil.mood AS json) WITH FUNCTION evil.json_of_mood(evil.mood);
CREATE DOMAIN evil.picture AS bytea CHECK (evil.told(VALUE));
CREATE DOMAIN evil.vector AS ext.embedding CHECK (evil.told(VALUE));
CREATE DOMAIN evil.word AS text CHECK (evil.told(VALUE));
CREATE TABLE evil.photos (id evil.mood PRIMARY KEY, camera evil.word, image evil.picture, embedding evil.vector, colour text);
CREATE TABLE evil.others (id evil.mood PRIMARY KEY, camera evil.word, lane evil.mood, image evil.picture, embedding evil.vector, colour text);
CREATE TABLE evil.parts (id int, image bytea, embedding ext.embedding, PRIMARY KEY (id)) PARTITION BY RANGE (id);
CREATE TABLE evil.part PARTITION OF evil.parts FOR VALUES FROM (0) TO (1000);
CREATE TABLE evil.waiting (id evil.mood PRIMARY KEY, image bytea, embedding ext.embedding);
CREATE TABLE evil.queries (id evil.mood, q evil.word);
CREATE TABLE evil.relevance (query evil.mood, row evil.mood);
INSERT INTO evil.queries VALUES ('a', 'a red bus'), ('b', 'a van');
INSERT INTO evil.relevance VALUES ('a', 'a'), ('b', 'c')";

/// A cluster with the hostile role's objects all over it, and the extension in the schema `ext`.
fn beset(name: &str) -> Result<(Cluster, Client)> {
    let builder = Cluster::builder(name).preload(true);
    // With the statement that it ran in.
    let cluster = builder.setting("log_min_error_statement", "warning").start()?;
    let mut superuser = cluster.connect()?;
    superuser.batch_execute(
        "CREATE ROLE mallory LOGIN; CREATE SCHEMA ext;
         CREATE SCHEMA evil AUTHORIZATION mallory;
         GRANT CREATE, USAGE ON SCHEMA ext TO mallory;
         GRANT CREATE ON SCHEMA public TO mallory;
         GRANT USAGE ON SCHEMA evil, ext TO PUBLIC",
    )?;
    let objects = std::fs::read_to_string(file("tests/hostile/objects.sql"))?;
    let mut mallory = cluster.connect_as("mallory", "postgres")?;
    mallory.batch_execute(&objects).context("objects before the extension")?;
    // As careless as can be: the hostile schema comes before the system's.
    superuser.batch_execute("SET search_path = evil, pg_catalog, ext, public")?;
    superuser.batch_execute("CREATE EXTENSION pgclip SCHEMA ext")?;
    mallory.batch_execute(TYPES).context("types")?;
    mallory.batch_execute(&objects).context("objects after the extension")?;
    Ok((cluster, superuser))
}

/// What the log says of hostile code that ran with other rights than its author's.
fn ran(cluster: &Cluster) -> Vec<String> {
    let log = cluster.log();
    let lines: Vec<&str> = log.lines().collect();
    let is_it = |line: &&str| {
        line.contains("HOSTILE code of somebody ran as") && !line.ends_with("ran as mallory")
    };
    let told = (0..lines.len()).filter(|&at| is_it(&lines[at]));
    told.map(|at| lines[at..lines.len().min(at + 4)].join("\n")).collect()
}

#[test]
fn none_of_it_runs_whatever_a_superuser_calls() -> Result<()> {
    let (cluster, mut superuser) = beset("hostile")?;
    // The trap works: an operator that the system lacks is the hostile one's.
    let _ = superuser.batch_execute("SELECT 1::oid OPERATOR(public.=) 'pg_class'::regclass");
    ensure!(ran(&cluster).len() == 1, "the log does not show what ran: {:?}", ran(&cluster));

    superuser.batch_execute("SET search_path = pg_catalog, ext")?;
    register_second(&cluster, &mut superuser)?;
    let mut mallory = cluster.connect_as("mallory", "postgres")?;
    mallory.batch_execute("SET search_path = pg_catalog")?;
    for table in ["evil.photos", "evil.others", "evil.parts"] {
        let attributes = if table == "evil.parts" { "NULL" } else { "'vehicle:colour'" };
        attach(&mut mallory, table, "sync", attributes)?;
    }
    attach(&mut mallory, "evil.waiting", "async", "NULL")?;
    let pictures = pictures(4);
    for (key, picture) in ["a", "b", "c", "d"].into_iter().zip(&pictures) {
        for statement in [
            "INSERT INTO evil.photos (id, camera, image) VALUES ($1::text::evil.mood, 'gate', $2::pg_catalog.bytea)",
            "INSERT INTO evil.others (id, camera, lane, image) VALUES ($1::text::evil.mood, 'gate', 'a', $2::pg_catalog.bytea)",
            "INSERT INTO evil.waiting (id, image) VALUES ($1::text::evil.mood, $2)",
            "INSERT INTO evil.parts (id, image) VALUES (pg_catalog.ascii($1::text), $2) ON CONFLICT DO NOTHING",
        ] {
            mallory.execute(statement, &[&key, &&picture[..]]).context(statement)?;
        }
    }
    for statement in [
        "CREATE INDEX others_index ON evil.others USING clip_hnsw (embedding ext.embedding_cosine_ops)",
        "UPDATE evil.parts SET embedding = NULL WHERE id OPERATOR(pg_catalog.>) 97",
        "UPDATE evil.photos SET embedding = NULL",
    ] {
        mallory.batch_execute(statement).context(statement)?;
    }
    for path in
        ["evil, ext, public", "evil, pg_catalog, ext, public", "pg_catalog, evil", "ext, evil"]
    {
        superuser.batch_execute(&format!("SET search_path = {path}"))?;
        everything(&mut superuser).with_context(|| format!("search_path = {path}"))?;
    }
    cluster.wait_for("an empty queue", || {
        value(&mut superuser, "SELECT NOT EXISTS (SELECT FROM ext.clip_queue)")
    })?;
    let ran = ran(&cluster);
    ensure!(ran.len() == 1, "hostile code ran:\n{}", ran[1..].join("\n"));
    Ok(())
}

fn attach(client: &mut Client, table: &str, mode: &str, attributes: &str) -> Result<()> {
    client.batch_execute(&format!(
        "SELECT ext.clip_attach('{table}'::pg_catalog.regclass, 'image'::pg_catalog.text, 'embedding'::pg_catalog.text,
             NULL::pg_catalog.text, '{mode}'::pg_catalog.text, NULL::pg_catalog.text, NULL::pg_catalog.text,
             {attributes}::pg_catalog.text)"
    ))?;
    Ok(())
}

/// Calls every function, view and trigger, each argument cast to the type that it is declared with.
fn everything(client: &mut Client) -> Result<()> {
    let text = |text: &str| format!("'{text}'::pg_catalog.text");
    let table = |name: &str| format!("'{name}'::pg_catalog.regclass");
    let (none, domain) = ("NULL::pg_catalog.text", text("vehicle"));
    let search = format!(
        "SELECT pg_catalog.num_nonnulls(hit, score) FROM ext.text_search(NULL::evil.others, {}, 3, true, NULL::pg_catalog.text, \
         {none}, {none}, (-2)::pg_catalog.float4, false, '{{\"camera\": [\"gate\"], \"lane\": \"a\"}}'::pg_catalog.jsonb, {}, 50, \
         NULL::ext.embedding[], ARRAY[ext.encode_text({}, {none})], {})",
        text("a red van"),
        text("adaption"),
        text("a house"),
        text("soft"),
    );
    let image = "(SELECT image::pg_catalog.bytea FROM ext.mine ORDER BY id DESC LIMIT 1)";
    let by_image = format!(
        "SELECT pg_catalog.num_nonnulls(hit, score) FROM ext.image_search(NULL::evil.others, {image}, 3, {none}, {none}, \
         NULL::pg_catalog.float4, true, NULL::pg_catalog.jsonb, {}, 50, NULL::ext.embedding[], NULL::ext.embedding[])",
        text("off"),
    );
    let mut statements: Vec<String> = [
        "DROP TABLE IF EXISTS ext.mine, ext.later, ext.many",
        "CREATE TABLE ext.mine (id pg_catalog.int8 PRIMARY KEY, image pg_catalog.bytea, embedding ext.embedding, colour pg_catalog.text)",
        "CREATE TABLE ext.later (id pg_catalog.int8 PRIMARY KEY, image pg_catalog.bytea, embedding ext.embedding, colour pg_catalog.text)",
        "CREATE TABLE ext.many (id pg_catalog.int8 PRIMARY KEY, image pg_catalog.bytea, embedding ext.embedding) PARTITION BY RANGE (id)",
        "CREATE TABLE ext.many_1 PARTITION OF ext.many FOR VALUES FROM (0) TO (1000)",
    ]
    .map(str::to_owned)
    .into();
    for (name, mode, attributes) in [
        ("mine", "sync", "vehicle:colour"),
        ("later", "async", "vehicle:colour"),
        ("many", "sync", ""),
    ] {
        let attributes = if attributes.is_empty() { none.to_owned() } else { text(attributes) };
        statements.push(format!(
            "SELECT ext.clip_attach({}, {}, {}, {none}, {}, {}, {none}, {attributes})",
            table(&format!("ext.{name}")),
            text("image"),
            text("embedding"),
            text(mode),
            text("null"),
        ));
        statements
            .push(format!("INSERT INTO ext.{name} (id, image) SELECT id, image FROM evil.part"));
        // One that cannot be encoded, for the table of errors.
        statements.push(format!(
            "INSERT INTO ext.{name} (id, image) VALUES (1, '\\x00'::pg_catalog.bytea)"
        ));
        statements.push(format!("UPDATE ext.{name} SET embedding = NULL, image = image WHERE id OPERATOR(pg_catalog.<>) 1::pg_catalog.int8"));
    }
    for name in ["ext.mine", "ext.many", "evil.photos", "evil.parts"] {
        statements.push(format!(
            "CALL ext.clip_backfill({}, 2, {}, true)",
            table(name),
            text("embedding")
        ));
    }
    for (name, model) in [
        ("ext.mine", "second"),
        ("evil.waiting", "second"),
        ("evil.waiting", "pgclip-traffic-tiny"),
    ] {
        statements.push(format!(
            "CALL ext.clip_reencode({}, {}, {}, 10)",
            table(name),
            text(model),
            text("embedding")
        ));
    }
    statements.extend([
        search,
        by_image,
        format!(
            "SELECT * FROM ext.clip_evaluate({}, {}, {}, '{{1,5}}'::pg_catalog.int4[], {}, \
             '{{\"rerank\": \"adaption\", \"attributes\": \"hard\", \"filter\": {{\"camera\": \"gate\"}}}}'::pg_catalog.jsonb)",
            table("evil.queries"),
            table("evil.relevance"),
            table("evil.photos"),
            text("id"),
        ),
        format!("SELECT * FROM ext.zero_shot(ext.encode_text({}, {none}), '{{red,blue}}'::pg_catalog.text[], {}, {none})", text("a car"), text("a {} car")),
        format!("SELECT * FROM ext.zero_shot(ext.encode_text({}, {none}), '{{red,blue}}'::pg_catalog.text[], '{{\"a {{}} car\"}}'::pg_catalog.text[], {none})", text("a car")),
        format!("SELECT * FROM ext.clip_fill_attributes(ext.encode_text({}, {none}), {domain}, {none})", text("a red car")),
        format!("SELECT * FROM ext.enhance_prompt({}, {none})", text("a red car.")),
        format!("SELECT ext.clip_query({}, {none}, {domain}, true)", text("a red car.")),
        format!("SELECT ext.encode_image({image}, {none}), ext.encode_images(ARRAY[{image}], {none}), ext.encode_texts(ARRAY[{}], {none})", text("a")),
        "SELECT * FROM ext.clip_index_check('evil.others_index'::pg_catalog.regclass)".into(),
        "SELECT * FROM ext.clip_index_stats('evil.others_index'::pg_catalog.regclass)".into(),
        "REINDEX INDEX evil.others_index".into(),
        "VACUUM evil.others".into(),
        format!("SELECT ext.clip_register_root({}, {}, '{{mallory}}'::pg_catalog.regrole[])", text("archive"), text("/usr")),
        format!("SELECT ext.encode_image_file({}, {}, {none})", text("none"), text("x")),
        "SELECT * FROM ext.clip_roots".into(),
        format!("SELECT ext.clip_drop_root({})", text("archive")),
        format!("SELECT ext.clip_drop_model({})", text("none")),
        "SELECT * FROM ext.clip_models".into(),
        "SELECT * FROM ext.clip_columns".into(),
        "SELECT * FROM ext.clip_binding".into(),
        "SELECT * FROM ext.clip_errors".into(),
        "SELECT * FROM ext.clip_progress".into(),
        "SELECT * FROM ext.clip_status".into(),
        "SELECT * FROM ext.clip_dumped()".into(),
        "INSERT INTO ext.clip_templates (domain, words) VALUES ('boat', '{boat}') ON CONFLICT DO NOTHING".into(),
        "UPDATE ext.clip_templates SET enabled = true".into(),
        "UPDATE ext.clip_attributes SET enabled = true".into(),
        "DELETE FROM ext.clip_templates WHERE NOT builtin".into(),
        "DELETE FROM ext.clip_attributes WHERE NOT builtin".into(),
        "SELECT ext.clip_register_builtin()".into(),
    ]);
    for table_name in ["ext.mine", "ext.many"] {
        statements.push(format!(
            "SELECT ext.clip_detach({}, {})",
            table(table_name),
            text("embedding")
        ));
    }
    // Statements that are to fail, since there is no such root or model.
    let refused = ["encode_image_file", "clip_drop_model"];
    for statement in statements {
        let result = client.simple_query(&statement);
        match refused.iter().any(|name| statement.contains(name)) {
            true => ensure!(result.is_err(), "{statement}"),
            false => _ = result.with_context(|| statement.clone())?,
        }
    }
    Ok(())
}
