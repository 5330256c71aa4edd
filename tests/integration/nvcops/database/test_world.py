"""The fresh databases that the checks are tried on."""

from __future__ import annotations

import pytest
from database_world import World

from nvcops.core.errors import Refused


@pytest.mark.parametrize("world", [17, 18], indirect=True)
def test_a_world_is_fresh_and_is_read_with_pg_monitor_alone(world: World) -> None:
    world.execute("CREATE TABLE account (id int)")
    world.configure(log_min_duration_statement="12345")
    asked = "SELECT current_user AS who, current_setting('server_version_num')::int / 10000 AS major"
    rows = world.socket().rows(f"{asked}, current_setting('log_min_duration_statement') AS setting")
    assert rows == [{"who": "nvcops", "major": world.major, "setting": "12345ms"}]
    groups = "SELECT string_agg(roleid::regrole::text, ',') AS g FROM pg_auth_members WHERE member = 'nvcops'::regrole"
    assert world.socket().rows(groups) == [{"g": "pg_monitor"}]


def test_the_next_world_knows_nothing_of_the_last(world: World) -> None:
    assert world.value("SELECT count(*) FROM pg_class WHERE relname = 'account'") == 0
    assert world.value("SHOW log_min_duration_statement") == "-1"


def test_a_question_about_a_table_that_is_locked_is_refused_and_the_others_are_answered(world: World) -> None:
    world.execute("CREATE TABLE account (id int)")
    world.begin("LOCK TABLE account IN ACCESS EXCLUSIVE MODE")
    questions = {"size": "SELECT pg_relation_size('account'::regclass) AS size", "one": "SELECT 1 AS one"}
    answers = world.socket(deadline_s=2.0).read(questions)
    assert isinstance(answers["size"], Refused)
    assert "lock timeout" in answers["size"].sentence
    assert answers["one"] == [{"one": 1}]
