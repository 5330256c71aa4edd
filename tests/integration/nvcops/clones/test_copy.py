from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from clone_world import RUN, CloneWorld
from restore_world import FULL, restore_world

from nvcops.adapters.clones.clones import open_clones
from nvcops.core.clones import Copy
from nvcops.core.errors import DeadlineExceeded, NotFoundError, Refused
from nvcops.core.workload import Statement

_SETTINGS = "SELECT name, setting FROM pg_settings WHERE name = ANY (%(names)s) ORDER BY name"


def asked(text: str, *arguments: tuple[str, ...], number: int = 1, calls: float = 1) -> Statement:
    return Statement(id=number, text=text, calls=calls, total_s=1.0, arguments=arguments)


def test_a_copy_has_the_live_rows_and_the_live_planners_settings(copy: Copy, cloned: CloneWorld) -> None:
    live = cloned.world.world.execute("SELECT count(*), sum(price)::text FROM shop.line")[0]
    row = copy.rows("SELECT count(*), sum(price)::text AS sum FROM shop.line")[0]
    assert (row["count"], row["sum"]) == live

    found = copy.rows(_SETTINGS, {"names": ["effective_cache_size", "jit", "random_page_cost", "work_mem"]})
    assert [row["setting"] for row in found] == ["65536", "off", "1.3", "8192"]
    assert copy.rows("SHOW listen_addresses") == [{"listen_addresses": ""}]


def test_the_settings_of_a_look_win(cloned: CloneWorld) -> None:
    run = "optimise@1"
    cloned.clones.make(run)
    with cloned.clones.opened(run, {"work_mem": "64kB", "shared_buffers": "256"}) as copy:
        assert copy.rows("SHOW work_mem") == [{"work_mem": "64kB"}]
        assert copy.rows("SHOW shared_buffers") == [{"shared_buffers": "2MB"}]
    assert cloned.clones.discard(run)


def test_a_statement_is_planned_with_its_arguments_or_without(copy: Copy) -> None:
    common, rare = "SELECT * FROM shop.orders WHERE id < $1", "SELECT * FROM shop.orders WHERE id = $1"
    whole, few = copy.explain(asked(common, ("60000",), ("5",)))
    assert whole["Plan Rows"] > 50_000 > few["Plan Rows"]
    assert [plan["Plan Rows"] for plan in copy.explain(asked(rare))] == [1]

    run = copy.explain(asked(common, ("100",)), analyze=True)[0]
    assert run["Actual Rows"] == 99
    assert run["Execution Time"] > 0
    scanned = copy.explain(asked(rare, ("7",)), settings={"enable_indexscan": "off", "enable_bitmapscan": "off"})[0]
    assert scanned["Node Type"] == "Seq Scan"


def test_what_is_only_explained_or_timed_changes_nothing(copy: Copy) -> None:
    delete = asked("DELETE FROM shop.line WHERE order_id = $1", ("77",))
    assert copy.explain(delete, analyze=True)[0]["Node Type"] == "ModifyTable"
    timing = copy.timed([delete], rounds=3, deadline_s=10)[0]
    assert (len(timing.seconds), timing.trouble) == (3, "")
    assert copy.rows("SELECT count(*) FROM shop.line WHERE order_id = 77") == [{"count": 3}]


def test_what_cannot_be_measured_says_why_and_the_rest_is_measured(copy: Copy) -> None:
    sleeping = asked("SELECT pg_sleep($1)", ("30",), number=1)
    dividing = asked("SELECT 1 / $1::int", ("0",), number=2)
    waiting = asked("SELECT * FROM shop.line WHERE part = $1", number=3)
    vacuum = asked("VACUUM shop.line", number=4)
    well = asked("SELECT 1", number=5)
    stopped, refused, without, unplanned, measured = copy.timed(
        [sleeping, dividing, waiting, vacuum, well], rounds=2, deadline_s=0.3
    )
    assert (stopped.stopped, stopped.seconds) == (True, (0.3,))
    assert "division by zero" in refused.trouble
    assert without.trouble == "it has no arguments"
    assert "none that is planned" in unplanned.trouble
    assert len(measured.seconds) == 2


def test_a_load_is_run_side_by_side_by_weight_and_stays(copy: Copy) -> None:
    copy.execute("CREATE TABLE shop.said (word text)")
    often = asked("INSERT INTO shop.said VALUES ($1)", ("'often'",), number=1, calls=9)
    seldom = asked("INSERT INTO shop.said VALUES ($1)", ("'seldom'",), number=2, calls=1)
    wrong = asked("INSERT INTO shop.said SELECT 1 / $1::int", ("0",), number=3, calls=1)
    load = copy.load([often, seldom, wrong], sessions=3, seconds=0.5, warm_s=0.1)
    said = {row["word"]: row["count"] for row in copy.rows("SELECT word, count(*) FROM shop.said GROUP BY 1")}
    copy.execute("DROP TABLE shop.said")
    assert said["often"] > 3 * said["seldom"] > 0
    assert load.failed > 0
    assert 0 < load.calls < sum(said.values())
    assert 0 < load.p50_s <= load.p99_s


def test_the_copy_says_what_it_refuses_and_what_takes_too_long(copy: Copy) -> None:
    with pytest.raises(Refused, match="nowhere"):
        copy.rows("SELECT * FROM nowhere")
    with pytest.raises(DeadlineExceeded):
        copy.execute("SELECT pg_sleep(30)", deadline_s=0.2)
    with pytest.raises(Refused, match="10,000"):
        copy.rows("SELECT generate_series(1, 10001)")
    copy.execute("VACUUM shop.event_1")


def test_a_run_without_a_copy_has_none_to_look_at(cloned: CloneWorld) -> None:
    with pytest.raises(NotFoundError, match="no copy"), cloned.clones.opened("somebody@1"):
        pass
    assert not cloned.clones.discard("somebody@1")


def test_recoveries_that_tidy_up_leave_copies_alone_and_the_other_way_round(cloned: CloneWorld) -> None:
    plan = cloned.world.plan(run="drill@1")
    cloned.world.restores.unpack(plan)
    assert "removed what dead@1 had left" not in str(cloned.clones.tidy(RUN))
    assert plan.work.exists()
    assert cloned.world.restores.tidy("next@1") != []
    assert not plan.work.exists()
    assert cloned.clones.make(RUN).backup


ARGUMENTS = (
    "SELECT * FROM shop.line WHERE part = $1",
    "SELECT sum(price) FROM line WHERE shipped > date $1 AND shipped < date $2",
    "SELECT sum(price) FROM line WHERE shipped < date $1 - interval $2 day",
    (
        "SELECT o.id, sum(quantity) FROM shop.orders o JOIN shop.line l ON l.order_id = o.id"
        " WHERE o.customer = $1 AND o.state = $2 GROUP BY 1 ORDER BY 2 LIMIT $3"
    ),
    'SELECT count(*) FROM shop."Odd ""table" WHERE "Key x" = $1',
    'SELECT count(*) FROM shop."Odd ""table" WHERE who LIKE $1 AND at >= $2',
    "SELECT * FROM shop.event WHERE kind = $1 AND at BETWEEN $2 AND $3",
    "SELECT * FROM shop.orders WHERE id = ANY($1)",
    "SELECT * FROM shop.orders WHERE id IN ($1, $2, $3)",
    "INSERT INTO shop.orders (id, customer, day, state) VALUES ($1, $2, $3, $4)",
    "INSERT INTO shop.line VALUES ($1, $2, $3, $4, $5)",
    "UPDATE shop.orders SET state = $1, note = $3 WHERE id = $2",
    "DELETE FROM shop.line WHERE order_id = $1 AND part = $2",
    'SELECT date_trunc($1, at), count(*) FROM "Odd ""table" GROUP BY 1 HAVING count(*) > $2',
    "SELECT * FROM shop.orders WHERE extract($1 FROM day) = $2",
    "SELECT 7",
)
UNKNOWABLE = ("VACUUM $1", "SELECT * FROM nowhere WHERE x = $1", "SELECT md5($1)")


def test_every_argument_is_drawn_from_what_it_is_compared_with(copy: Copy, cloned: CloneWorld) -> None:
    texts = [*ARGUMENTS, *UNKNOWABLE]
    statements = [asked(text, number=number) for number, text in enumerate(texts)]
    found = cloned.clones.with_arguments(copy, statements, 5)
    assert [statement.text for statement in found] == list(ARGUMENTS)
    assert found == cloned.clones.with_arguments(copy, statements, 5)
    timings = copy.timed(found, rounds=1, deadline_s=20)
    assert [timing.trouble for timing in timings] == [""] * len(found)

    by_text = {statement.text: statement.arguments for statement in found}
    assert all(len(arguments) > 1 for text, arguments in by_text.items() if text != "SELECT 7")
    assert all(low <= high for low, high in by_text[ARGUMENTS[1]])
    for line in by_text["DELETE FROM shop.line WHERE order_id = $1 AND part = $2"]:
        row = copy.rows(f"SELECT count(*) FROM shop.line WHERE order_id = {line[0]} AND part = {line[1]}")  # noqa: S608 - drawn
        assert row == [{"count": 1}], "what stands in one row stays together"


def test_frequent_values_are_drawn_frequently(copy: Copy, cloned: CloneWorld) -> None:
    copy.execute(
        "CREATE TABLE shop.skewed AS SELECT CASE WHEN n % 20 = 0 THEN n ELSE 0 END AS x FROM generate_series(1, 4000) n"
    )
    statement = asked("SELECT * FROM shop.skewed WHERE x = $1")
    copies = cloned.clones
    drawn = [copies.with_arguments(copy, [asked(statement.text, number=n)], 1)[0].arguments[0][0] for n in range(40)]
    copy.execute("DROP TABLE shop.skewed")
    assert drawn.count("'0'::integer") > 25
    assert any(one != other for one, other in pairwise(drawn))


def test_of_a_backup_whose_log_never_came_no_copy_is_made_but_of_the_one_before(tmp_path: Path) -> None:
    with restore_world(tmp_path) as world:
        with world.world.receiving():
            world.world.backups.back_up(FULL, full=True)
            world.received()
        world.world.execute("CREATE TABLE late ()")
        world.world.execute("SELECT pg_switch_wal()")
        world.world.backups.back_up("20991231T000000Z-F", full=True)  # and who took it is gone before its log came
        clones = open_clones(world.manifest)
        assert clones.make(RUN).backup == FULL
        assert clones.discard(RUN)
        with world.world.receiving():
            world.received()
        assert clones.make(RUN).backup == "20991231T000000Z-F"
        assert clones.discard(RUN)
