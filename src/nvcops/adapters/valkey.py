"""Valkey or Redis."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import valkey
from valkey.backoff import NoBackoff
from valkey.retry import Retry

from nvcops.adapters.files import secret
from nvcops.adapters.valkey_keys import sweep, walk
from nvcops.core.caches import Keyspace, Swept
from nvcops.core.errors import DeadlineExceeded, Refused, TargetError, Unreachable
from nvcops.core.manifest import CacheEntry


@dataclass(frozen=True, slots=True, kw_only=True)
class ValkeyServer:
    """One server; `url` is valkey:// or redis://."""

    name: str
    url: str
    deadline_s: float
    password: str | None = field(default=None, repr=False)

    @classmethod
    def of(cls, entry: CacheEntry) -> ValkeyServer:
        """The cache of the manifest.

        Raises:
            ManifestError: its password cannot be read.
        """
        password = secret(entry.password_file, entry.password_env)
        return cls(name=entry.name, url=entry.url, deadline_s=entry.deadline, password=password)

    def info(self) -> Mapping[str, Any]:
        """The fields of `INFO everything`."""
        with self._client() as client:
            return cast("Mapping[str, Any]", client.info("everything"))

    def keyspace(self, patterns: Sequence[str], *, keys_max: int, deadline_s: float) -> Keyspace:
        """See core.caches."""
        with self._client() as client:
            return walk(client, patterns, keys_max=keys_max, deadline_s=deadline_s)

    def sweep(self, pattern: str, cursor: int, *, keys_max: int, seconds: float, spared: Sequence[str] = ()) -> Swept:
        """See core.caches."""
        with self._client() as client:
            return sweep(client, pattern, cursor, keys_max=keys_max, seconds=seconds, spared=spared)

    @contextmanager
    def _client(self) -> Iterator[valkey.Valkey]:
        client = valkey.Valkey.from_url(
            self.url.replace("valkey://", "redis://", 1),
            password=self.password,
            socket_timeout=self.deadline_s,
            socket_connect_timeout=self.deadline_s,
            retry=Retry(NoBackoff(), 0),
            client_name="nvcops",
        )
        try:
            yield client
        except valkey.ValkeyError as error:
            raise self.explained(error) from error
        finally:
            client.close()  # type: ignore[no-untyped-call]

    def explained(self, error: valkey.ValkeyError) -> TargetError:
        """The library's error as one of ours, without the password."""
        where = f"{self.name} ({self.url.rpartition('@')[2].removeprefix('valkey://').removeprefix('redis://')})"
        if isinstance(error, valkey.TimeoutError):
            return DeadlineExceeded(f"{where} did not answer within {self.deadline_s:g} s")
        if isinstance(error, valkey.AuthenticationError | valkey.ResponseError):
            return Refused(f"{where} refused: {error}")
        return Unreachable(f"{where} does not answer: {error}")
