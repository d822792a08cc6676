-- Bad input of the embedding type: each case is an error with its SQLSTATE, the value, its
-- position and a hint; none ends the session.

-- Syntax.
SELECT ''::embedding;
SELECT '1,2'::embedding;
SELECT '[1,2'::embedding;
SELECT '[1,,2]'::embedding;
SELECT '[,1]'::embedding;
SELECT '[1,]'::embedding;
SELECT '[1 2]'::embedding;
SELECT '[1,2]x'::embedding;
SELECT '[[1,2]]'::embedding;
SELECT '[1,abc]'::embedding;
SELECT '[1,0x10]'::embedding;
SELECT '[1e]'::embedding;
SELECT '{1,2}'::embedding;
SELECT U&'[1,\00BD]'::embedding;
SELECT ('[' || repeat('1,', 200) || 'x]')::embedding;

-- Values.
SELECT '[1,NaN]'::embedding;
SELECT '[1,-nan]'::embedding;
SELECT '[Infinity]'::embedding;
SELECT '[0,0,-inf]'::embedding;
SELECT '[1,65520]'::embedding;
SELECT '[1,-1e39]'::embedding;
SELECT '[1e1000]'::embedding;

-- Dimensions.
SELECT '[]'::embedding;
SELECT ' [ ] '::embedding;
SELECT ('[' || repeat('1,', 16000) || '1]')::embedding;
SELECT dims(('[' || repeat('1,', 15999) || '1]')::embedding);
SELECT '[1,2]'::embedding(3);
SELECT '[1,2]'::embedding::embedding(1);
CREATE TABLE photos (embedding embedding(3));
INSERT INTO photos VALUES ('[1,2]');
INSERT INTO photos VALUES (ARRAY[1,2,3,4]::real[]);
SELECT '[1,2]'::embedding <=> '[1]';
SELECT '[1,2]'::embedding <-> '[1]';
SELECT '[1,2]'::embedding <#> '[1]';
SELECT inner_product('[1,2]'::embedding, '[1]');
SELECT '[1,2]'::embedding + '[1]';
SELECT '[1,2]'::embedding - '[1]';
SELECT '[1,2]'::embedding * '[1]';
SELECT '[1,65504]'::embedding + '[1,65504]';
SELECT '[-65504]'::embedding - '[65504]';
SELECT '[1000]'::embedding * '[-1000]';
SELECT subvector('[1,2,3]'::embedding, 4, 1);
SELECT subvector('[1,2,3]'::embedding, 1, 0);
SELECT subvector('[1,2,3]'::embedding, -2147483648, -2147483648);
SELECT subvector('[1,2,3]'::embedding, -5, 2);

-- Type modifiers.
CREATE TABLE bad (e embedding(0));
CREATE TABLE bad (e embedding(-1));
CREATE TABLE bad (e embedding(16001));
CREATE TABLE bad (e embedding(1,2));
CREATE TABLE bad (e embedding(abc));
CREATE TABLE bad (e embedding('3.5'));

-- Arrays.
SELECT ARRAY[]::real[]::embedding;
SELECT ARRAY[1,NULL,3]::real[]::embedding;
SELECT ARRAY[[1,2],[3,4]]::real[]::embedding;
SELECT ARRAY[[1,2],[3,NULL]]::float8[]::embedding;
SELECT ARRAY[1,'NaN']::real[]::embedding;
SELECT ARRAY[1,'-Infinity']::float8[]::embedding;
SELECT ARRAY[1,2,70000]::real[]::embedding;
SELECT ARRAY[1e300]::float8[]::embedding;
SELECT ARRAY[1,100000]::embedding;
SELECT ARRAY[0.5,1e400]::embedding;
SELECT ARRAY[0.5,'NaN'::numeric]::embedding;
SELECT ARRAY[1,2]::real[]::embedding(3);
SELECT array_fill(1, ARRAY[16001])::real[]::embedding;
-- A lower bound other than 1 is no more than a label: positions count from the first element.
SELECT '[5:6]={1,2}'::real[]::embedding;
SELECT '[5:6]={1,NULL}'::real[]::embedding;

-- Binary input: what COPY reads is made with printf, a file of one row of one column whose length
-- and bytes are given.
CREATE TABLE received (e embedding);
\set head 'printf "PGCOPY\\n\\377\\r\\n\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\1\\0\\0\\0'
\set tail '\\377\\377"'
-- Two elements, 1 and 2.
\set command :head '\\10\\0\\2\\0\\0\\74\\0\\100\\0' :tail
COPY received FROM PROGRAM :'command' (FORMAT binary);
SELECT * FROM received;
-- Cut short.
\set command :head '\\6\\0\\2\\0\\0\\74\\0' :tail
COPY received FROM PROGRAM :'command' (FORMAT binary);
-- Cut shorter.
\set command :head '\\1\\0' :tail
COPY received FROM PROGRAM :'command' (FORMAT binary);
-- Longer than it says.
\set command :head '\\12\\0\\2\\0\\0\\74\\0\\100\\0\\74\\0' :tail
COPY received FROM PROGRAM :'command' (FORMAT binary);
-- The reserved field set.
\set command :head '\\6\\0\\1\\0\\7\\74\\0' :tail
COPY received FROM PROGRAM :'command' (FORMAT binary);
-- NaN.
\set command :head '\\10\\0\\2\\0\\0\\74\\0\\176\\0' :tail
COPY received FROM PROGRAM :'command' (FORMAT binary);
-- Infinity.
\set command :head '\\10\\0\\2\\0\\0\\374\\0\\174\\0' :tail
COPY received FROM PROGRAM :'command' (FORMAT binary);
-- No element.
\set command :head '\\4\\0\\0\\0\\0' :tail
COPY received FROM PROGRAM :'command' (FORMAT binary);
-- 65535 elements.
\set command :head '\\4\\377\\377\\0\\0' :tail
COPY received FROM PROGRAM :'command' (FORMAT binary);

-- The session is as well as before.
SELECT '[1,2]'::embedding <-> '[1,3]';
