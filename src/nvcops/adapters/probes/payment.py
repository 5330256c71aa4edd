"""The synthetic payment: a customer of the house signs in, pays another one, and looks at what came of it."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

from nvcops.adapters.files import secret
from nvcops.adapters.probes.asking import NotLooked
from nvcops.adapters.probes.web import KeptConversation
from nvcops.core.errors import Refused
from nvcops.core.manifest.probe_options import PaymentOptions, PaymentStep
from nvcops.core.probes import object_in, why_not_ready
from nvcops.core.target import Answer

_PASSWORD = "{password}"  # noqa: S105 - the place where it is put
_KEY_BYTES = 16
_SIGNED_OUT = 401


class PaymentAsker:
    """A customer's own way, each look once. A step of each n-th look is made again until it was well.

    It is asked once at a time: a second payment beside one that is not answered yet would only cost more.
    """

    twice, patient = False, False

    def __init__(self, options: PaymentOptions, conversation: KeptConversation) -> None:
        self._options, self._conversation = options, conversation
        self._token = ""
        self._good = 0

    async def ask(self, *, fresh: bool) -> float | None:
        """Make the steps that are due; signs in first where it is not, or is not any more."""
        if not self._token:
            await self._sign_in(fresh=fresh)
        for step in self._options.steps:
            if self._good % step.every == 0:
                await self._made(step, fresh=fresh)
        self._good += 1
        return None

    async def close(self) -> None:
        """Let go of the connection; the session ends by itself."""
        self._conversation.close()

    async def _made(self, step: PaymentStep, *, fresh: bool) -> None:
        """One step, its key the same where it is repeated after signing in anew."""
        key = [("Idempotency-Key", secrets.token_hex(_KEY_BYTES))] if step.body is not None else []
        answer = await self._request(step, step.body, key, fresh=fresh)
        if answer.status == _SIGNED_OUT and self._options.sign_in:
            await self._sign_in(fresh=fresh)
            answer = await self._request(step, step.body, key, fresh=fresh)
        _check(step, answer)

    async def _sign_in(self, *, fresh: bool) -> None:
        step, self._token = self._options.sign_in, ""
        if step is None:
            return
        password = secret(self._options.password_file, None) or ""
        answer = await self._request(step, _filled(step.body, password), [], fresh=fresh)
        if answer.status == _SIGNED_OUT:
            raise NotLooked(f"{step.path} does not let us in: {why_not_ready(answer)}", hint="is password_file right?")
        _check(step, answer)
        self._token = str(object_in(answer.body).get(self._options.token, ""))
        if not self._token:
            raise Refused(f"{step.path} answers without {self._options.token!r}")

    async def _request(
        self, step: PaymentStep, body: Any, headers: Sequence[tuple[str, str]], *, fresh: bool
    ) -> Answer:
        signed_in = [("Authorization", f"Bearer {self._token}")] if self._token else []
        data = None if body is None else json.dumps(body).encode()
        return await self._conversation.exchange(step.path, data, [*headers, *signed_in], fresh=fresh)


def _check(step: PaymentStep, answer: Answer) -> None:
    """The status, and what must stand in the answer."""
    if answer.status != step.expect:
        why = why_not_ready(answer) or f"answers {answer.status}"
        raise Refused(f"{step.path} {why} instead of {step.expect}")
    said = object_in(answer.body)
    for name, value in step.answer.items():
        if said.get(name) != value:
            reason = f" ({said['reason']})" if isinstance(said.get("reason"), str) else ""
            raise Refused(f"{step.path} answers {name} {said.get(name)!r}{reason} instead of {value!r}")


def _filled(body: Any, password: str) -> Any:
    """A body with the password in its place.

    >>> _filled({"login": "a", "password": "{password}", "n": 1}, "secret")
    {'login': 'a', 'password': 'secret', 'n': 1}
    """
    if isinstance(body, Mapping):
        return {key: _filled(value, password) for key, value in body.items()}
    return body.replace(_PASSWORD, password) if isinstance(body, str) else body
