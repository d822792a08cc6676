-- Encoding: images and texts to unit-length embeddings, through the encoder process. STABLE, since
-- a name may stand for another model tomorrow; each call costs far more than a row does.

CREATE FUNCTION encode_image(image bytea, model text DEFAULT NULL) RETURNS embedding
    AS 'MODULE_PATHNAME', 'encode_image_wrapper' LANGUAGE c STABLE PARALLEL SAFE COST 10000;
COMMENT ON FUNCTION encode_image(bytea, text) IS
    'unit-length embedding of a JPEG, PNG, WebP, BMP, TIFF or GIF image';

CREATE FUNCTION encode_images(images bytea[], model text DEFAULT NULL) RETURNS embedding[]
    AS 'MODULE_PATHNAME', 'encode_images_wrapper' LANGUAGE c STABLE PARALLEL SAFE COST 100000;
COMMENT ON FUNCTION encode_images(bytea[], text) IS
    'unit-length embeddings of images, encoded together; NULL stays NULL';

CREATE FUNCTION encode_text(text text, model text DEFAULT NULL) RETURNS embedding
    AS 'MODULE_PATHNAME', 'encode_text_wrapper' LANGUAGE c STABLE PARALLEL SAFE COST 10000;
COMMENT ON FUNCTION encode_text(text, text) IS
    'unit-length embedding of a text exactly as it is written, without prompt enhancement';

CREATE FUNCTION encode_texts(texts text[], model text DEFAULT NULL) RETURNS embedding[]
    AS 'MODULE_PATHNAME', 'encode_texts_wrapper' LANGUAGE c STABLE PARALLEL SAFE COST 100000;
COMMENT ON FUNCTION encode_texts(text[], text) IS
    'unit-length embeddings of texts, encoded together; NULL stays NULL';

CREATE FUNCTION clip_encoder_status(
    OUT state text,
    OUT pid integer,
    OUT version text,
    OUT uptime_seconds double precision,
    OUT device text,
    OUT runtime text,
    OUT models text[],
    OUT connections integer,
    OUT queued_images bigint,
    OUT queued_texts bigint,
    OUT images bigint,
    OUT texts bigint,
    OUT errors bigint,
    OUT overloaded bigint,
    OUT cancelled bigint,
    OUT batches bigint,
    OUT batch_fill double precision,
    OUT cache_hits bigint,
    OUT images_per_second double precision,
    OUT latency_p50_ms double precision,
    OUT latency_p99_ms double precision,
    OUT restarts integer,
    OUT refused text[],
    OUT confinement text,
    OUT problem text
) RETURNS SETOF record
    AS 'MODULE_PATHNAME', 'clip_status_wrapper'
    LANGUAGE c VOLATILE STRICT PARALLEL RESTRICTED ROWS 1;
COMMENT ON FUNCTION clip_encoder_status() IS 'the encoder process at this moment, as clip_status shows it';

CREATE VIEW clip_status AS SELECT * FROM clip_encoder_status();
COMMENT ON VIEW clip_status IS
    'the encoder process: state (running, or down, with the problem), device, models, queues, counters since its start, throughput, latency, restarts, models that it refuses, and what it has given up';
GRANT SELECT ON clip_status TO PUBLIC;
