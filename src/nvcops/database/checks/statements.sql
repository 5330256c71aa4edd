-- name: statements
-- The statements on which this database spends the most time. Constants are out of their text; what alters roles, and
-- could hold a password, is not among them.
SELECT
    queryid AS id, left(regexp_replace(query, '\s+', ' ', 'g'), 160) AS text, calls::float8 AS calls,
    mean_exec_time / 1000 AS mean_s, total_exec_time / 1000 AS total_s
FROM {pg_stat_statements}.pg_stat_statements
WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database()) AND toplevel
    AND query ~* '^\s*(select|insert|update|delete|with|merge)\y'
ORDER BY total_exec_time DESC LIMIT 200;
