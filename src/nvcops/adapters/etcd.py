"""etcd v3 through its HTTP gateway: what stands below a prefix, and the removal of a key only while it has a value."""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from nvcops.adapters.http import Address, exchange
from nvcops.core.errors import Refused, TargetError
from nvcops.core.probes import object_in

_KEYS_MAX = 1_000


class Stored(msgspec.Struct, frozen=True):
    """A key's value, and the lease that it hangs on (empty: none)."""

    value: str
    lease: str = ""


class Etcd:
    """One etcd cluster. A question goes to all members side by side, and the first good answer counts.

    A change goes to one member after the other, the one first that answered last.
    """

    def __init__(self, urls: Sequence[str], deadline_s: float) -> None:
        self._addresses = [Address.of(url, None, deadline_s) for url in urls]

    async def read(self, prefix: str) -> dict[str, Stored]:
        """Everything below a prefix that ends with a slash, as a majority of the members has it; keys without it.

        Raises:
            TargetError: no member answers.
        """
        end = prefix[:-1] + chr(ord(prefix[-1]) + 1)
        question = {"key": _code(prefix), "range_end": _code(end), "limit": _KEYS_MAX}
        answer = await self._ask("/v3/kv/range", question)
        found = answer.get("kvs", [])
        return {
            _text(kept["key"]).removeprefix(prefix): Stored(_text(kept.get("value", "")), str(kept.get("lease", "")))
            for kept in found
        }

    async def lease_left(self, lease: str) -> int:
        """Whole seconds that are left of a lease; -1: it is gone."""
        return int((await self._ask("/v3/lease/timetolive", {"ID": lease})).get("TTL", -1))

    async def delete_if(self, key: str, value: str) -> bool:
        """Remove a key if it has that value now, in one transaction; whether it did."""
        compare = {"key": _code(key), "target": "VALUE", "result": "EQUAL", "value": _code(value)}
        removal = {"request_delete_range": {"key": _code(key)}}
        answer = await self.tell("/v3/kv/txn", {"compare": [compare], "success": [removal]})
        return bool(answer.get("succeeded"))

    async def _ask(self, path: str, question: dict[str, Any]) -> dict[str, Any]:
        asked = [asyncio.create_task(self._post(address, path, question)) for address in self._addresses]
        trouble: TargetError | None = None
        try:
            for answer in asyncio.as_completed(asked):
                try:
                    return await answer
                except TargetError as error:
                    trouble = trouble or error
        finally:
            await let_go(asked)
        raise trouble or Refused("no etcd is named", hint="[cluster] etcd")

    async def tell(self, path: str, change: dict[str, Any]) -> dict[str, Any]:
        """Have one member do something, by its path of the gateway; what it answers."""
        trouble: TargetError | None = None
        for address in list(self._addresses):
            try:
                return await self._post(address, path, change)
            except TargetError as error:
                trouble = trouble or error
        raise trouble or Refused("no etcd is named", hint="[cluster] etcd")

    async def _post(self, address: Address, path: str, body: dict[str, Any]) -> dict[str, Any]:
        answer = await exchange(address, path, msgspec.json.encode(body))
        said = object_in(answer.body)
        if answer.status != 200:
            raise Refused(f"{address.where(path)} refused: {said.get('message') or answer.status}")
        if self._addresses[0] is not address:
            self._addresses.remove(address)
            self._addresses.insert(0, address)
        return said


async def let_go(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """End tasks whose answers nobody waits for any more, and hear of their errors."""
    left = list(tasks)
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)


def _code(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _text(code: str) -> str:
    try:
        return base64.b64decode(code).decode()
    except (binascii.Error, UnicodeDecodeError) as error:
        raise Refused(f"etcd keeps something that is no text: {error}") from error
