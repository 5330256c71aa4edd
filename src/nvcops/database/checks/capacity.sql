-- name: size
-- Bytes of this database; where it has so many tables that asking each file would take long, by the last vacuum's word.
SELECT
    CASE WHEN (SELECT reltuples FROM pg_class WHERE oid = 'pg_catalog.pg_class'::regclass) > 50000
        THEN (SELECT sum(relpages::float8) * 8192 FROM pg_class)
        ELSE pg_database_size(current_database()) END::float8 AS bytes;
