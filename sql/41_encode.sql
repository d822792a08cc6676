-- Encoding: images and texts to unit-length embeddings, through the encoder process. STABLE, since
-- a name may stand for another model tomorrow; each call costs far more than a row does.

CREATE FUNCTION encode_image(image bytea, model text DEFAULT NULL) RETURNS embedding
    AS 'MODULE_PATHNAME', 'encode_image_wrapper' LANGUAGE c STABLE PARALLEL SAFE COST 10000;
COMMENT ON FUNCTION encode_image(bytea, text) IS
    'unit-length embedding of a JPEG, PNG, WebP, BMP, TIFF, GIF or JPEG XL image, and of AVIF and HEIC where the server has libheif';

CREATE FUNCTION encode_images(images bytea[], model text DEFAULT NULL) RETURNS embedding[]
    AS 'MODULE_PATHNAME', 'encode_images_wrapper' LANGUAGE c STABLE PARALLEL SAFE COST 100000;
COMMENT ON FUNCTION encode_images(bytea[], text) IS
    'unit-length embeddings of images, encoded together; NULL stays NULL';

CREATE FUNCTION encode_text(text text, model text DEFAULT NULL) RETURNS embedding
    AS 'MODULE_PATHNAME', 'encode_text_wrapper' LANGUAGE c STABLE PARALLEL SAFE COST 10000;
COMMENT ON FUNCTION encode_text(text, text) IS
    'unit-length embedding of a text exactly as it is written, without prompt enhancement';

CREATE FUNCTION encode_text(text text, model text, language text) RETURNS embedding
    AS 'MODULE_PATHNAME', 'encode_text_in_wrapper' LANGUAGE c STABLE PARALLEL SAFE COST 10000;
COMMENT ON FUNCTION encode_text(text, text, text) IS
    'the same of a text in a language of the model''s, such as deu_Latn, for models that have several';

CREATE FUNCTION encode_texts(texts text[], model text DEFAULT NULL) RETURNS embedding[]
    AS 'MODULE_PATHNAME', 'encode_texts_wrapper' LANGUAGE c STABLE PARALLEL SAFE COST 100000;
COMMENT ON FUNCTION encode_texts(text[], text) IS
    'unit-length embeddings of texts, encoded together; NULL stays NULL';

CREATE FUNCTION encode_texts(texts text[], model text, language text) RETURNS embedding[]
    AS 'MODULE_PATHNAME', 'encode_texts_in_wrapper' LANGUAGE c STABLE PARALLEL SAFE COST 100000;
COMMENT ON FUNCTION encode_texts(text[], text, text) IS
    'the same of texts in a language of the model''s';

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
COMMENT ON COLUMN clip_status.state IS 'running, or down';
COMMENT ON COLUMN clip_status.pid IS 'process id of the encoder';
COMMENT ON COLUMN clip_status.version IS 'of the encoder';
COMMENT ON COLUMN clip_status.uptime_seconds IS 'since the encoders start';
COMMENT ON COLUMN clip_status.device IS 'what was asked for: auto, cpu, cuda or tensorrt';
COMMENT ON COLUMN clip_status.runtime IS 'version of ONNX Runtime';
COMMENT ON COLUMN clip_status.models IS 'in memory, each with the device that it runs on, the size of its loaded graphs and weights, and when it was last used; the last used first';
COMMENT ON COLUMN clip_status.connections IS 'open ones, the asking one included';
COMMENT ON COLUMN clip_status.queued_images IS 'that wait to be put into a batch';
COMMENT ON COLUMN clip_status.queued_texts IS 'that wait to be put into a batch';
COMMENT ON COLUMN clip_status.images IS 'encoded since the start';
COMMENT ON COLUMN clip_status.texts IS 'encoded since the start, those out of the cache not counted';
COMMENT ON COLUMN clip_status.errors IS 'images and texts that got an error of their own';
COMMENT ON COLUMN clip_status.overloaded IS 'requests that were turned away because a queue was full';
COMMENT ON COLUMN clip_status.cancelled IS 'requests dropped unanswered: cancelled, or their connection closed';
COMMENT ON COLUMN clip_status.batches IS 'that went through inference';
COMMENT ON COLUMN clip_status.batch_fill IS 'mean share of the largest batch that a batch of images filled, 0 to 1';
COMMENT ON COLUMN clip_status.cache_hits IS 'texts answered out of the cache';
COMMENT ON COLUMN clip_status.images_per_second IS 'over the last minute';
COMMENT ON COLUMN clip_status.latency_p50_ms IS 'median of the last 1,024 requests, from arrival to answer';
COMMENT ON COLUMN clip_status.latency_p99_ms IS '99th percentile of the same';
COMMENT ON COLUMN clip_status.restarts IS 'encoders that ran before this one under the same supervisor';
COMMENT ON COLUMN clip_status.refused IS 'models that are not loaded any more for a while, since they ended the encoder';
COMMENT ON COLUMN clip_status.confinement IS 'what the process has given up';
COMMENT ON COLUMN clip_status.problem IS 'why it is down';
GRANT SELECT ON clip_status TO PUBLIC;
