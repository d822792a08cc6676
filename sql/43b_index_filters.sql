-- Operator classes of filter columns: conditions on them are checked inside the graph. Strategies
-- are those of B-trees: 1 <, 2 <=, 3 =, 4 >=, 5 >. Their operators are PostgreSQL's own. Within a
-- family types can be compared with each other, so that (bigint column) = 7 and
-- (timestamptz column) >= current_date need no cast.

CREATE OPERATOR FAMILY integer_filter_ops USING clip_hnsw;
COMMENT ON OPERATOR FAMILY integer_filter_ops USING clip_hnsw IS 'filters on smallint, integer and bigint, in any combination';

CREATE OPERATOR CLASS int2_filter_ops DEFAULT FOR TYPE pg_catalog.int2 USING clip_hnsw FAMILY integer_filter_ops AS
    OPERATOR 1 pg_catalog.<,
    OPERATOR 2 pg_catalog.<=,
    OPERATOR 3 pg_catalog.=,
    OPERATOR 4 pg_catalog.>=,
    OPERATOR 5 pg_catalog.>;
COMMENT ON OPERATOR CLASS int2_filter_ops USING clip_hnsw IS 'filter column of type smallint';

CREATE OPERATOR CLASS int4_filter_ops DEFAULT FOR TYPE pg_catalog.int4 USING clip_hnsw FAMILY integer_filter_ops AS
    OPERATOR 1 pg_catalog.<,
    OPERATOR 2 pg_catalog.<=,
    OPERATOR 3 pg_catalog.=,
    OPERATOR 4 pg_catalog.>=,
    OPERATOR 5 pg_catalog.>;
COMMENT ON OPERATOR CLASS int4_filter_ops USING clip_hnsw IS 'filter column of type integer';

CREATE OPERATOR CLASS int8_filter_ops DEFAULT FOR TYPE pg_catalog.int8 USING clip_hnsw FAMILY integer_filter_ops AS
    OPERATOR 1 pg_catalog.<,
    OPERATOR 2 pg_catalog.<=,
    OPERATOR 3 pg_catalog.=,
    OPERATOR 4 pg_catalog.>=,
    OPERATOR 5 pg_catalog.>;
COMMENT ON OPERATOR CLASS int8_filter_ops USING clip_hnsw IS 'filter column of type bigint';

ALTER OPERATOR FAMILY integer_filter_ops USING clip_hnsw ADD
    OPERATOR 1 pg_catalog.< (pg_catalog.int2, pg_catalog.int4),
    OPERATOR 2 pg_catalog.<= (pg_catalog.int2, pg_catalog.int4),
    OPERATOR 3 pg_catalog.= (pg_catalog.int2, pg_catalog.int4),
    OPERATOR 4 pg_catalog.>= (pg_catalog.int2, pg_catalog.int4),
    OPERATOR 5 pg_catalog.> (pg_catalog.int2, pg_catalog.int4),
    OPERATOR 1 pg_catalog.< (pg_catalog.int2, pg_catalog.int8),
    OPERATOR 2 pg_catalog.<= (pg_catalog.int2, pg_catalog.int8),
    OPERATOR 3 pg_catalog.= (pg_catalog.int2, pg_catalog.int8),
    OPERATOR 4 pg_catalog.>= (pg_catalog.int2, pg_catalog.int8),
    OPERATOR 5 pg_catalog.> (pg_catalog.int2, pg_catalog.int8),
    OPERATOR 1 pg_catalog.< (pg_catalog.int4, pg_catalog.int2),
    OPERATOR 2 pg_catalog.<= (pg_catalog.int4, pg_catalog.int2),
    OPERATOR 3 pg_catalog.= (pg_catalog.int4, pg_catalog.int2),
    OPERATOR 4 pg_catalog.>= (pg_catalog.int4, pg_catalog.int2),
    OPERATOR 5 pg_catalog.> (pg_catalog.int4, pg_catalog.int2),
    OPERATOR 1 pg_catalog.< (pg_catalog.int4, pg_catalog.int8),
    OPERATOR 2 pg_catalog.<= (pg_catalog.int4, pg_catalog.int8),
    OPERATOR 3 pg_catalog.= (pg_catalog.int4, pg_catalog.int8),
    OPERATOR 4 pg_catalog.>= (pg_catalog.int4, pg_catalog.int8),
    OPERATOR 5 pg_catalog.> (pg_catalog.int4, pg_catalog.int8),
    OPERATOR 1 pg_catalog.< (pg_catalog.int8, pg_catalog.int2),
    OPERATOR 2 pg_catalog.<= (pg_catalog.int8, pg_catalog.int2),
    OPERATOR 3 pg_catalog.= (pg_catalog.int8, pg_catalog.int2),
    OPERATOR 4 pg_catalog.>= (pg_catalog.int8, pg_catalog.int2),
    OPERATOR 5 pg_catalog.> (pg_catalog.int8, pg_catalog.int2),
    OPERATOR 1 pg_catalog.< (pg_catalog.int8, pg_catalog.int4),
    OPERATOR 2 pg_catalog.<= (pg_catalog.int8, pg_catalog.int4),
    OPERATOR 3 pg_catalog.= (pg_catalog.int8, pg_catalog.int4),
    OPERATOR 4 pg_catalog.>= (pg_catalog.int8, pg_catalog.int4),
    OPERATOR 5 pg_catalog.> (pg_catalog.int8, pg_catalog.int4);

CREATE OPERATOR FAMILY float_filter_ops USING clip_hnsw;
COMMENT ON OPERATOR FAMILY float_filter_ops USING clip_hnsw IS 'filters on real and double precision, in any combination';

CREATE OPERATOR CLASS float4_filter_ops DEFAULT FOR TYPE pg_catalog.float4 USING clip_hnsw FAMILY float_filter_ops AS
    OPERATOR 1 pg_catalog.<,
    OPERATOR 2 pg_catalog.<=,
    OPERATOR 3 pg_catalog.=,
    OPERATOR 4 pg_catalog.>=,
    OPERATOR 5 pg_catalog.>;
COMMENT ON OPERATOR CLASS float4_filter_ops USING clip_hnsw IS 'filter column of type real';

CREATE OPERATOR CLASS float8_filter_ops DEFAULT FOR TYPE pg_catalog.float8 USING clip_hnsw FAMILY float_filter_ops AS
    OPERATOR 1 pg_catalog.<,
    OPERATOR 2 pg_catalog.<=,
    OPERATOR 3 pg_catalog.=,
    OPERATOR 4 pg_catalog.>=,
    OPERATOR 5 pg_catalog.>;
COMMENT ON OPERATOR CLASS float8_filter_ops USING clip_hnsw IS 'filter column of type double precision';

ALTER OPERATOR FAMILY float_filter_ops USING clip_hnsw ADD
    OPERATOR 1 pg_catalog.< (pg_catalog.float4, pg_catalog.float8),
    OPERATOR 2 pg_catalog.<= (pg_catalog.float4, pg_catalog.float8),
    OPERATOR 3 pg_catalog.= (pg_catalog.float4, pg_catalog.float8),
    OPERATOR 4 pg_catalog.>= (pg_catalog.float4, pg_catalog.float8),
    OPERATOR 5 pg_catalog.> (pg_catalog.float4, pg_catalog.float8),
    OPERATOR 1 pg_catalog.< (pg_catalog.float8, pg_catalog.float4),
    OPERATOR 2 pg_catalog.<= (pg_catalog.float8, pg_catalog.float4),
    OPERATOR 3 pg_catalog.= (pg_catalog.float8, pg_catalog.float4),
    OPERATOR 4 pg_catalog.>= (pg_catalog.float8, pg_catalog.float4),
    OPERATOR 5 pg_catalog.> (pg_catalog.float8, pg_catalog.float4);

CREATE OPERATOR FAMILY datetime_filter_ops USING clip_hnsw;
COMMENT ON OPERATOR FAMILY datetime_filter_ops USING clip_hnsw IS 'filters on date, timestamp and timestamptz, in any combination';

CREATE OPERATOR CLASS date_filter_ops DEFAULT FOR TYPE pg_catalog.date USING clip_hnsw FAMILY datetime_filter_ops AS
    OPERATOR 1 pg_catalog.<,
    OPERATOR 2 pg_catalog.<=,
    OPERATOR 3 pg_catalog.=,
    OPERATOR 4 pg_catalog.>=,
    OPERATOR 5 pg_catalog.>;
COMMENT ON OPERATOR CLASS date_filter_ops USING clip_hnsw IS 'filter column of type date';

CREATE OPERATOR CLASS timestamp_filter_ops DEFAULT FOR TYPE pg_catalog.timestamp USING clip_hnsw FAMILY datetime_filter_ops AS
    OPERATOR 1 pg_catalog.<,
    OPERATOR 2 pg_catalog.<=,
    OPERATOR 3 pg_catalog.=,
    OPERATOR 4 pg_catalog.>=,
    OPERATOR 5 pg_catalog.>;
COMMENT ON OPERATOR CLASS timestamp_filter_ops USING clip_hnsw IS 'filter column of type timestamp';

CREATE OPERATOR CLASS timestamptz_filter_ops DEFAULT FOR TYPE pg_catalog.timestamptz USING clip_hnsw FAMILY datetime_filter_ops AS
    OPERATOR 1 pg_catalog.<,
    OPERATOR 2 pg_catalog.<=,
    OPERATOR 3 pg_catalog.=,
    OPERATOR 4 pg_catalog.>=,
    OPERATOR 5 pg_catalog.>;
COMMENT ON OPERATOR CLASS timestamptz_filter_ops USING clip_hnsw IS 'filter column of type timestamptz';

ALTER OPERATOR FAMILY datetime_filter_ops USING clip_hnsw ADD
    OPERATOR 1 pg_catalog.< (pg_catalog.date, pg_catalog.timestamp),
    OPERATOR 2 pg_catalog.<= (pg_catalog.date, pg_catalog.timestamp),
    OPERATOR 3 pg_catalog.= (pg_catalog.date, pg_catalog.timestamp),
    OPERATOR 4 pg_catalog.>= (pg_catalog.date, pg_catalog.timestamp),
    OPERATOR 5 pg_catalog.> (pg_catalog.date, pg_catalog.timestamp),
    OPERATOR 1 pg_catalog.< (pg_catalog.date, pg_catalog.timestamptz),
    OPERATOR 2 pg_catalog.<= (pg_catalog.date, pg_catalog.timestamptz),
    OPERATOR 3 pg_catalog.= (pg_catalog.date, pg_catalog.timestamptz),
    OPERATOR 4 pg_catalog.>= (pg_catalog.date, pg_catalog.timestamptz),
    OPERATOR 5 pg_catalog.> (pg_catalog.date, pg_catalog.timestamptz),
    OPERATOR 1 pg_catalog.< (pg_catalog.timestamp, pg_catalog.date),
    OPERATOR 2 pg_catalog.<= (pg_catalog.timestamp, pg_catalog.date),
    OPERATOR 3 pg_catalog.= (pg_catalog.timestamp, pg_catalog.date),
    OPERATOR 4 pg_catalog.>= (pg_catalog.timestamp, pg_catalog.date),
    OPERATOR 5 pg_catalog.> (pg_catalog.timestamp, pg_catalog.date),
    OPERATOR 1 pg_catalog.< (pg_catalog.timestamp, pg_catalog.timestamptz),
    OPERATOR 2 pg_catalog.<= (pg_catalog.timestamp, pg_catalog.timestamptz),
    OPERATOR 3 pg_catalog.= (pg_catalog.timestamp, pg_catalog.timestamptz),
    OPERATOR 4 pg_catalog.>= (pg_catalog.timestamp, pg_catalog.timestamptz),
    OPERATOR 5 pg_catalog.> (pg_catalog.timestamp, pg_catalog.timestamptz),
    OPERATOR 1 pg_catalog.< (pg_catalog.timestamptz, pg_catalog.date),
    OPERATOR 2 pg_catalog.<= (pg_catalog.timestamptz, pg_catalog.date),
    OPERATOR 3 pg_catalog.= (pg_catalog.timestamptz, pg_catalog.date),
    OPERATOR 4 pg_catalog.>= (pg_catalog.timestamptz, pg_catalog.date),
    OPERATOR 5 pg_catalog.> (pg_catalog.timestamptz, pg_catalog.date),
    OPERATOR 1 pg_catalog.< (pg_catalog.timestamptz, pg_catalog.timestamp),
    OPERATOR 2 pg_catalog.<= (pg_catalog.timestamptz, pg_catalog.timestamp),
    OPERATOR 3 pg_catalog.= (pg_catalog.timestamptz, pg_catalog.timestamp),
    OPERATOR 4 pg_catalog.>= (pg_catalog.timestamptz, pg_catalog.timestamp),
    OPERATOR 5 pg_catalog.> (pg_catalog.timestamptz, pg_catalog.timestamp);

CREATE OPERATOR CLASS bool_filter_ops DEFAULT FOR TYPE pg_catalog.bool USING clip_hnsw AS
    OPERATOR 1 pg_catalog.<,
    OPERATOR 2 pg_catalog.<=,
    OPERATOR 3 pg_catalog.=,
    OPERATOR 4 pg_catalog.>=,
    OPERATOR 5 pg_catalog.>;
COMMENT ON OPERATOR CLASS bool_filter_ops USING clip_hnsw IS 'filter column of type boolean';

CREATE OPERATOR CLASS oid_filter_ops DEFAULT FOR TYPE pg_catalog.oid USING clip_hnsw AS
    OPERATOR 1 pg_catalog.<,
    OPERATOR 2 pg_catalog.<=,
    OPERATOR 3 pg_catalog.=,
    OPERATOR 4 pg_catalog.>=,
    OPERATOR 5 pg_catalog.>;
COMMENT ON OPERATOR CLASS oid_filter_ops USING clip_hnsw IS 'filter column of type oid';

CREATE OPERATOR CLASS enum_filter_ops DEFAULT FOR TYPE pg_catalog.anyenum USING clip_hnsw AS
    OPERATOR 1 pg_catalog.<,
    OPERATOR 2 pg_catalog.<=,
    OPERATOR 3 pg_catalog.=,
    OPERATOR 4 pg_catalog.>=,
    OPERATOR 5 pg_catalog.>;
COMMENT ON OPERATOR CLASS enum_filter_ops USING clip_hnsw IS 'filter column of an enum type';

CREATE OPERATOR CLASS uuid_filter_ops DEFAULT FOR TYPE pg_catalog.uuid USING clip_hnsw AS
    OPERATOR 3 pg_catalog.=;
COMMENT ON OPERATOR CLASS uuid_filter_ops USING clip_hnsw IS 'filter column of type uuid, kept as a hash: = and = ANY';

CREATE OPERATOR CLASS text_filter_ops DEFAULT FOR TYPE pg_catalog.text USING clip_hnsw AS
    OPERATOR 3 pg_catalog.=;
COMMENT ON OPERATOR CLASS text_filter_ops USING clip_hnsw IS 'filter column of type text or varchar, kept as a hash: = and = ANY';

COMMENT ON OPERATOR FAMILY bool_filter_ops USING clip_hnsw IS 'holds the class of its name';
COMMENT ON OPERATOR FAMILY oid_filter_ops USING clip_hnsw IS 'holds the class of its name';
COMMENT ON OPERATOR FAMILY enum_filter_ops USING clip_hnsw IS 'holds the class of its name';
COMMENT ON OPERATOR FAMILY uuid_filter_ops USING clip_hnsw IS 'holds the class of its name';
COMMENT ON OPERATOR FAMILY text_filter_ops USING clip_hnsw IS 'holds the class of its name';
