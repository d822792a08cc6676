-- Since PostgreSQL 16 callers may ask to be told of bad input instead of having it raised: COPY
-- with ON_ERROR ignore would otherwise end at the first bad embedding. (The second expected file
-- is that of the servers before.)
SELECT pg_input_is_valid('[1,2]', 'embedding'), pg_input_is_valid('[1,', 'embedding'),
    pg_input_is_valid('[1,2]', 'embedding(3)'), pg_input_is_valid('[70000]', 'embedding');
SELECT message, detail, hint, sql_error_code FROM pg_input_error_info('[1,x]', 'embedding');
SELECT message, detail, hint, sql_error_code FROM pg_input_error_info('[1,NaN]', 'embedding');
