"""What the role that keeps a database needs, and the statements that give it."""

from __future__ import annotations

from collections.abc import Callable

from nvcops.core.queries import Rows
from nvcops.core.upkeep import Privilege
from nvcops.core.workload import quoted

# The settings that an approved change may alter, none of which needs a restart to be taken back.
PARAMETERS = (
    "autovacuum_analyze_scale_factor",
    "autovacuum_naptime",
    "autovacuum_vacuum_cost_delay",
    "autovacuum_vacuum_cost_limit",
    "autovacuum_vacuum_insert_scale_factor",
    "autovacuum_vacuum_scale_factor",
    "bgwriter_delay",
    "bgwriter_lru_maxpages",
    "checkpoint_completion_target",
    "checkpoint_timeout",
    "default_statistics_target",
    "effective_cache_size",
    "effective_io_concurrency",
    "hash_mem_multiplier",
    "idle_in_transaction_session_timeout",
    "jit",
    "log_min_duration_statement",
    "maintenance_io_concurrency",
    "maintenance_work_mem",
    "max_parallel_workers_per_gather",
    "max_wal_size",
    "min_wal_size",
    "random_page_cost",
    "seq_page_cost",
    "wal_compression",
    "work_mem",
)


def privileges(sql: dict[str, str], ask: Callable[[str, dict[str, object] | None], Rows]) -> list[Privilege]:
    """All that is needed, held or not; `ask` reads with the eyes of the role."""
    powers = ask(sql["powers"], None)[0]
    user = quoted(str(powers["user"]))
    sees = Privilege(
        purpose="see who waits behind an order, and for whom",
        held=powers["sees"],
        grant=f"GRANT pg_monitor TO {user}",
    )
    found = [sees, *_of_owners(ask(sql["roles"], None), user, powers), *_of_schemas(ask(sql["schemas"], None), user)]
    held = [row["name"] for row in ask(sql["parameters"], {"names": list(PARAMETERS)}) if row["held"]]
    lacking = [name for name in PARAMETERS if name not in held]
    settings = Privilege(
        purpose="change settings, and take them back",
        held=not lacking,
        grant=f"GRANT ALTER SYSTEM ON PARAMETER {', '.join(lacking or PARAMETERS)} TO {user}",
    )
    reload = Privilege(
        purpose="have changed settings read",
        held=powers["reloads"],
        grant=f"GRANT EXECUTE ON FUNCTION pg_catalog.pg_reload_conf() TO {user}",
    )
    return [*found, settings, reload]


def _of_owners(rows: Rows, user: str, powers: dict[str, object]) -> list[Privilege]:
    """VACUUM, ANALYZE and REINDEX are allowed to pg_maintain too, from 17 on; indexes and statistics to owners only."""
    owners = [
        Privilege(
            purpose=f"make and drop indexes and set statistics and autovacuum for tables of {row['owner']}",
            held=row["held"],
            # never membership in a superuser: it would be one
            grant="ALTER TABLE ... OWNER TO a role that is no superuser, and GRANT that role"
            if row["superuser"]
            else f"GRANT {quoted(row['owner'])} TO {user}",
        )
        for row in rows
    ]
    modern = int(str(powers["major"])) >= 17
    maintains = Privilege(
        purpose="VACUUM, ANALYZE and REINDEX",
        held=bool(powers["maintains"]) or all(owner.held for owner in owners),
        grant=f"GRANT pg_maintain TO {user}" if modern else "membership in the tables' owners, as below",
    )
    return [maintains, *owners]


def _of_schemas(rows: Rows, user: str) -> list[Privilege]:
    return [
        Privilege(
            purpose=f"make indexes in the schema {row['schema']}",
            held=row["held"],
            grant=f"GRANT CREATE ON SCHEMA {quoted(row['schema'])} TO {user}",
        )
        for row in rows
    ]
