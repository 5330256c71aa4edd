"""The same work whether or not the name is known, and a bounded queue."""

from __future__ import annotations

import asyncio

import pytest

from nvcbank import passwords
from nvcbank.passwords import NOBODYS_HASH, Overloaded, PasswordWork, hash_password


def test_an_unknown_name_costs_the_same_argon2_work(monkeypatch: pytest.MonkeyPatch) -> None:
    worked: list[str] = []
    verify = passwords.verify_password

    def watch(password_hash: str, password: str) -> bool:
        worked.append(password_hash.rsplit("$", 2)[0])
        return verify(password_hash, password)

    monkeypatch.setattr(passwords, "verify_password", watch)
    known = hash_password("right")

    async def scenario() -> list[bool]:
        work = PasswordWork()
        answers = [await work.verify(given, "wrong") for given in (known, None)]
        answers.append(await work.verify(None, "the password of nobody"))
        answers.append(await work.verify(known, "right"))
        work.close()
        return answers

    assert asyncio.run(scenario()) == [False, False, False, True]
    assert len(worked) == 4
    assert len(set(worked)) == 1, "the parameters are the same for everybody"
    assert worked[0] == "$argon2id$v=19$m=19456,t=2,p=1"
    assert NOBODYS_HASH.startswith(worked[0])


def test_more_work_than_fits_is_refused_before_it_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passwords, "MOST_WAITING", 2)

    async def scenario() -> list[object]:
        work = PasswordWork()
        answers = await asyncio.gather(*(work.hash(str(number)) for number in range(4)), return_exceptions=True)
        assert work.waiting == 0
        assert await work.hash("later")
        work.close()
        return list(answers)

    answers = asyncio.run(scenario())
    assert [isinstance(answer, Overloaded) for answer in answers] == [False, False, True, True]


def test_a_broken_hash_is_a_wrong_password() -> None:
    assert not passwords.verify_password("not a hash", "x")
