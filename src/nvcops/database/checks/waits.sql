-- name: waits
-- What active sessions wait for at this moment; working means not at all.
SELECT coalesce(wait_event_type || ': ' || wait_event, 'working') AS wait, count(*)::int AS count
FROM pg_stat_activity WHERE state = 'active' AND pid <> pg_backend_pid() GROUP BY 1 ORDER BY 2 DESC LIMIT 20;
