"""Episodes, not alerts."""

from __future__ import annotations

import datetime as dt
import random

from detection_cases import NOON, PARSERS, WRITERS
from nvcops.core.detections import Detection, Episode, Evidence, Level, Window, milliseconds
from nvcops.security.detection.engine import Engine
from nvcops.security.detection.fold import Folder, explained
from nvcops.security.detection.masks import SHOWN_CHARACTERS_MAX, masked
from nvcops.security.detection.matcher import Matcher
from nvcops.security.detection.pack import own_pack

MATCHER = Matcher(own_pack().rules)
MINUTE = dt.timedelta(minutes=1)


def run(lines: list[tuple[dt.datetime, str]], kind: str = "linux") -> list[Episode]:
    engine, folder, parser = Engine(own_pack(), MATCHER), Folder(), PARSERS[kind]()
    for time, text in lines:
        line = WRITERS[kind](time, text, 0).encode()
        for found in engine.see(parser.parse(line), line):
            folder.add(found)
    return folder.episodes()


def detection(
    minute: float, actor: str, *, technique: str = "T1110.001", touched: str = "h", known: bool = False
) -> Detection:
    time = NOON + minute * MINUTE
    return Detection(
        rule="r",
        title="R",
        level=Level.HIGH,
        technique=technique,
        time=milliseconds(time),
        actors=(actor,),
        touched=(touched,),
        signed_in=known,
        evidence=(Evidence(time, "s", f"{minute} {actor} {touched}", ""),),
    )


def folded(*detections: Detection) -> list[Episode]:
    folder = Folder()
    for each in detections:
        folder.add(each)
    return folder.episodes()


def test_an_ssh_brute_force_over_6_addresses_is_one_line() -> None:
    lines = [
        (
            NOON + at * dt.timedelta(seconds=2),
            f"sshd: Failed password for invalid user u{at % 40} from 192.0.2.{at % 6} port {at} ssh2",
        )
        for at in range(425)
    ]
    (episode,) = run(lines)
    assert episode.count == 425
    assert episode.actor_count == 6
    assert (episode.first, episode.last) == (NOON, NOON + dt.timedelta(seconds=848))
    assert episode.level == Level.HIGH
    assert episode.techniques == ("T1110.001",)
    assert 5 < len(episode.evidence) <= 10


def test_a_break_in_after_guessing_is_the_worst_line_of_the_same_episode() -> None:
    lines = [
        (NOON + at * dt.timedelta(seconds=1), "sshd: Failed password for dana from 192.0.2.1 port 5 ssh2")
        for at in range(20)
    ]
    lines.append((NOON + MINUTE, "sshd: Accepted password for dana from 192.0.2.1 port 5 ssh2"))
    worst, *others = run(lines)
    assert worst.level == Level.CRITICAL
    assert worst.title == "SSH let somebody in after guessing"
    assert {each.level for each in others} <= {Level.LOW}


def test_different_people_techniques_and_times_are_different_episodes() -> None:
    people = folded(detection(0, "ann", known=True), detection(1, "bob", known=True))
    techniques = folded(detection(0, "ann"), detection(1, "ann", technique="T1078"))
    times = folded(detection(0, "ann"), detection(31, "ann"))
    assert [len(each) for each in (people, techniques, times)] == [2, 2, 2]


def test_variants_of_a_technique_within_the_gap_are_one() -> None:
    (episode,) = folded(*(detection(at * 29, "ann", technique=f"T1110.00{1 + at % 4}") for at in range(10)))
    assert len(episode.techniques) == 4
    assert episode.count == 10


def test_two_episodes_that_turn_out_to_be_one_are_joined() -> None:
    (episode,) = folded(
        detection(0, "192.0.2.1", touched="a"),
        detection(1, "192.0.2.2", touched="b"),
        detection(2, "192.0.2.1", touched="b"),
    )
    assert (episode.count, episode.actor_count, episode.touched_count) == (3, 2, 2)
    assert [line.line[:3] for line in episode.evidence] == ["0 1", "1 1", "2 1"]


def test_memory_is_bounded_and_what_is_left_out_is_counted() -> None:
    folder = Folder(open_max=50)
    for number in range(200):
        folder.add(detection(0, f"p{number}", known=True))
    assert len(folder.episodes()) == 50
    assert folder.left_out == 150
    many = Folder()
    for number in range(3_000):
        many.add(detection(number / 1_000, f"192.0.{number // 200}.{number % 200}", touched=f"t{number}"))
        many.add(detection(number / 1_000, "192.0.2.250", touched=f"t{number}"))
    assert max(each.actor_count for each in many.episodes()) <= 1_000


def test_the_same_lines_give_the_same_ids() -> None:
    told = [detection(random.Random(at).random() * 100, f"192.0.2.{at % 9}") for at in range(50)]
    told.sort(key=lambda each: each.time)
    assert folded(*told) == folded(*told)


def test_a_change_window_explains_what_lies_in_it_as_a_whole() -> None:
    episodes = folded(detection(5, "ann", known=True, touched="bank"))
    window = Window("change 7", NOON, NOON + 10 * MINUTE, ("bank",))
    assert explained(episodes, [window])[0].explanation == "change 7"
    for other in (
        Window("too early", NOON, NOON + 4 * MINUTE, ("bank",)),
        Window("elsewhere", NOON, NOON + 10 * MINUTE, ("shop",)),
        Window("anything", NOON, NOON + 10 * MINUTE),
    ):
        assert explained(episodes, [other])[0].explanation == ""


def test_no_secret_and_no_control_character_is_shown() -> None:
    secrets = [
        "ALTER ROLE bob PASSWORD 'hunter2hunter2'",
        'statement: create user x password E"hunter2hunter2"',
        '"CONFIG" "SET" "requirepass" "hunter2hunter2"',
        '"AUTH" "hunter2hunter2"',
        "GET /?token=hunter2hunter2&x=1",
        "Authorization: Bearer hunter2hunter2",
        '{"password":"hunter2hunter2"}',
    ]
    for line in secrets:
        assert "hunter2" not in masked(line), line
    assert masked("\x1b[31m\u202e") == "·[31m·"
    assert len(masked("x" * 10_000_000)) == SHOWN_CHARACTERS_MAX


def test_a_secret_cut_off_by_the_limit_is_not_half_shown() -> None:
    line = "x" * (SHOWN_CHARACTERS_MAX - 20) + " PASSWORD 'hunter2hunter2hunter2hunter2'"
    assert "hunter" not in masked(line)
