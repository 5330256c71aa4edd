-- name: counted
-- What the server counted of the costliest statements since its statistics began.
SELECT queryid AS id, sum(calls)::float8 AS calls, sum(total_exec_time)::float8 / 1000 AS seconds
FROM {pg_stat_statements}.pg_stat_statements
WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database()) AND toplevel AND queryid IS NOT NULL
GROUP BY 1 ORDER BY 3 DESC LIMIT 2000;
