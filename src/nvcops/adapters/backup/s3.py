"""A repository in a bucket: any service that speaks the S3 API, by boto3, with credentials as boto3 finds them.

An object is put at once or in parts, and is there only when it is whole. Exclusive is a conditional put
(`If-None-Match: *`). Services that do not know it would overwrite silently; so before the first one an object that is
there already is put again under that condition, and a service that takes it is refused: two writers could break the
catalogue.
"""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import io
import itertools
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import TYPE_CHECKING, Any, BinaryIO, cast
from urllib.parse import urlsplit

from nvcops.adapters.backup.store import StoredFile, checked_key
from nvcops.core.errors import LockHeld, NotFoundError, NvcopsError, Refused, StateError, Unreachable
from nvcops.core.schedule import now

if TYPE_CHECKING:
    from botocore.exceptions import ClientError

_PART_BYTES = 16 << 20
_READ_MAX = 64 << 20
_BUFFER_BYTES = 1 << 20
_DELETED_AT_ONCE = 1000
_RESUMED_MAX = 5
_ABANDONED_AFTER = dt.timedelta(days=1)
_PROBE = ".exclusive"
_MISSING = ("NoSuchKey", "404", "NotFound")
_TAKEN = ("PreconditionFailed", "ConditionalRequestConflict", "412", "409")
_CREDENTIALS = "boto3 finds credentials: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, ~/.aws, or the machine's role"
_RIGHTS = "they need s3:ListBucket, GetObject, PutObject, DeleteObject and ListBucketMultipartUploads"
_ANSWERS: dict[str, tuple[type[NvcopsError], str, str]] = {
    **dict.fromkeys(
        ("InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken", "AuthFailure"),
        (Refused, "does not accept the credentials", _CREDENTIALS),
    ),
    **dict.fromkeys(
        ("AccessDenied", "403", "Forbidden", "AllAccessDisabled"),
        (Refused, "does not let these credentials do that", _RIGHTS),
    ),
    **dict.fromkeys(
        ("SlowDown", "ServiceUnavailable", "InternalError", "RequestTimeout", "500", "503"),
        (Unreachable, "is busy or out of order", "try again later"),
    ),
}


class S3Store:
    """See store.Store. `connect_s` and `read_s` are the deadlines of each attempt, in seconds."""

    def __init__(
        self,
        bucket: str,
        prefix: str = "",
        endpoint: str | None = None,
        region: str | None = None,
        *,
        connect_s: float = 5.0,
        read_s: float = 60.0,
    ) -> None:
        self._bucket = bucket
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self._endpoint = endpoint
        self._region = region
        self._deadlines = (connect_s, read_s)
        self._lock = threading.Lock()
        self._connected: Any = None
        self._exclusive_works = False

    @property
    def name(self) -> str:
        """The bucket with its prefix."""
        return f"s3://{self._bucket}/{self._prefix}".rstrip("/")

    def put(self, key: str, chunks: Iterable[bytes], *, exclusive: bool = False) -> int:
        """Keep an object: S3 acknowledges it when it is durable."""
        condition = {"IfNoneMatch": "*"} if exclusive else {}
        with self._errors(key):
            if exclusive:
                self._look_that_exclusive_works()
            parts = _parts(chunks)
            first = next(parts, b"")
            second = next(parts, None)
            if second is None:
                return self._put_at_once(key, first, condition)
            return self._put_parts(key, itertools.chain((first, second), parts), condition)

    @contextmanager
    def open(self, key: str) -> Iterator[BinaryIO]:
        """An object as a stream; one that is cut off is gone on with from where it stopped."""
        with self._errors(key):
            download = _Download(self._client, self._at(key), lambda: self._errors(key))
        with download:
            yield cast("BinaryIO", io.BufferedReader(download, _BUFFER_BYTES))

    def read(self, key: str) -> bytes:
        """A small object at once."""
        with self.open(key) as stream:
            data = stream.read(_READ_MAX + 1)
        if len(data) > _READ_MAX:
            raise StateError(f"{key} in {self.name} is larger than {_READ_MAX >> 20} MiB", hint="it is none of ours")
        return data

    def list(self, prefix: str) -> Iterator[StoredFile]:
        """Every object whose key begins so, by key."""
        with self._errors(prefix):
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=self._prefix + prefix
            )
            for listed in itertools.chain.from_iterable(page.get("Contents", ()) for page in pages):
                key = listed["Key"].removeprefix(self._prefix)
                if not any(part.startswith(".") for part in key.split("/")):
                    yield StoredFile(key, listed["Size"], listed["LastModified"].astimezone(dt.UTC))

    def delete(self, keys: Iterable[str]) -> None:
        """Remove objects; one that is not there is fine."""
        left = iter(keys)
        while some := [{"Key": self._prefix + checked_key(key)} for key in itertools.islice(left, _DELETED_AT_ONCE)]:
            with self._errors(""):
                answer = self._client.delete_objects(Bucket=self._bucket, Delete={"Objects": some, "Quiet": True})
            if errors := answer.get("Errors"):
                first = errors[0]
                raise Refused(
                    f"{self.name} did not remove {len(errors)} objects, the first {first['Key']}: {first['Code']}",
                    hint="the credentials need s3:DeleteObject, and a locked object stays until its date",
                )

    def free(self) -> int | None:
        """Nobody says."""
        return None

    def sweep(self) -> int:
        """Forget uploads in parts that were begun more than a day ago: their writers are gone."""
        swept = 0
        with self._errors(""):
            pages = self._client.get_paginator("list_multipart_uploads").paginate(
                Bucket=self._bucket, Prefix=self._prefix
            )
            for upload in itertools.chain.from_iterable(page.get("Uploads", ()) for page in pages):
                if upload["Initiated"] < now() - _ABANDONED_AFTER:
                    self._client.abort_multipart_upload(
                        Bucket=self._bucket, Key=upload["Key"], UploadId=upload["UploadId"]
                    )
                    swept += 1
        return swept

    def close(self) -> None:
        """Let go of the connections."""
        with self._lock:
            if self._connected is not None:
                self._connected.close()
            self._connected = None

    @property
    def _client(self) -> Any:
        """The client, made when it is first needed: loading it takes longer than most commands to answer."""
        with self._lock:
            if self._connected is None:
                self._connected = self._connect()
            return self._connected

    def _connect(self) -> Any:
        import boto3
        from botocore.config import Config

        connect_s, read_s = self._deadlines
        config = Config(
            connect_timeout=connect_s,
            read_timeout=read_s,
            retries={"mode": "standard", "total_max_attempts": 4},
            s3={"addressing_style": "path" if self._endpoint else "auto"},
            # Content-MD5 is understood everywhere; the newer checksums are not.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        )
        session = boto3.session.Session()
        region = self._region or session.region_name or "us-east-1"
        return session.client("s3", endpoint_url=self._endpoint, region_name=region, config=config)

    def _at(self, key: str) -> dict[str, str]:
        return {"Bucket": self._bucket, "Key": self._prefix + checked_key(key)}

    def _put_at_once(self, key: str, data: bytes, condition: dict[str, str]) -> int:
        try:
            self._client.put_object(**self._at(key), Body=data, ContentMD5=_md5(data), **condition)
        except _library_errors() as error:
            # The answer to an attempt may be lost: then the next one finds what that attempt put.
            if not (_code(error) in _TAKEN and _attempts(error) > 1 and self.read(key) == data):
                raise
        return len(data)

    def _put_parts(self, key: str, parts: Iterable[bytes], condition: dict[str, str]) -> int:
        at, size, done = self._at(key), 0, []
        upload = {**at, "UploadId": self._client.create_multipart_upload(**at)["UploadId"]}
        try:
            for number, part in enumerate(parts, 1):
                kept = self._client.upload_part(**upload, PartNumber=number, Body=part, ContentMD5=_md5(part))
                done.append({"PartNumber": number, "ETag": kept["ETag"]})
                size += len(part)
            self._client.complete_multipart_upload(**upload, MultipartUpload={"Parts": done}, **condition)
        except BaseException:
            with suppress(*_library_errors()):  # what cannot be reached now is swept later
                self._client.abort_multipart_upload(**upload)
            raise
        return size

    def _look_that_exclusive_works(self) -> None:
        """Put something twice that must not be put twice.

        Raises:
            Refused: it was.
        """
        if self._exclusive_works:
            return
        probe = {"Bucket": self._bucket, "Key": self._prefix + _PROBE, "Body": b"", "IfNoneMatch": "*"}
        for _ in range(2):
            try:
                self._client.put_object(**probe)
            except _library_errors() as error:
                if _code(error) not in _TAKEN:
                    raise
                self._exclusive_works = True
                return
        raise Refused(
            f"{self.name} overwrites an object that must not be overwritten",
            hint="the service has to know conditional puts (If-None-Match), as S3, MinIO and Ceph do in newer versions",
        )

    @contextmanager
    def _errors(self, key: str) -> Iterator[None]:
        try:
            yield
        except NvcopsError:
            raise
        except _library_errors() as error:
            raise self._sentence(error, key) from None  # the library's error may show a request with its signature

    def _sentence(self, error: Exception, key: str) -> NvcopsError:
        from botocore.exceptions import (
            BotoCoreError,
            CredentialRetrievalError,
            NoCredentialsError,
            PartialCredentialsError,
            ProfileNotFound,
        )

        if isinstance(error, NoCredentialsError | PartialCredentialsError | CredentialRetrievalError | ProfileNotFound):
            return Refused(f"there are no complete credentials for {self.name}", hint=_CREDENTIALS)
        if isinstance(error, BotoCoreError) or not (code := _code(error)):
            return Unreachable(
                f"{self.name} cannot be reached at {self._address}: {_spoken(type(error).__name__)}",
                hint="look at [backups] endpoint, the network, and the service",
            )
        return self._answered(code, key)

    def _answered(self, code: str, key: str) -> NvcopsError:
        if code in _MISSING:
            return NotFoundError(f"there is no {key} in {self.name}", hint="`nvcops backups` lists them")
        if code in _TAKEN:
            return LockHeld(f"there is a {key} already", hint="another one was quicker")
        if code == "NoSuchBucket":
            where = f"there is no bucket {self._bucket} at {self._address}"
            return Unreachable(where, hint="[backups] repository names it")
        kind, what, hint = _ANSWERS.get(code, (Refused, "refuses", "look at the bucket's settings"))
        return kind(f"{self.name} {what} ({_spoken(code)})", hint=hint)

    @property
    def _address(self) -> str:
        """Host and port alone: nothing else of an address is repeated."""
        return urlsplit(self._endpoint).netloc.rpartition("@")[2] if self._endpoint else "AWS"


class _Download(io.RawIOBase):
    """The bytes of an object; when the connection breaks, another one goes on at that place, of the same object."""

    def __init__(self, client: Any, at: dict[str, str], errors: Callable[[], AbstractContextManager[None]]) -> None:
        super().__init__()
        self._client = client
        self._at = at
        self._errors = errors
        self._position = 0
        answer = client.get_object(**at)
        self._size, self._tag, self._body = answer["ContentLength"], answer["ETag"], answer["Body"]

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        with self._errors():
            for attempt in itertools.count(1):
                try:
                    data: bytes = self._body.read(len(buffer))
                    if not data and self._position < self._size and len(buffer):
                        raise _cut_off()
                    break
                except _library_errors():
                    if attempt == _RESUMED_MAX:
                        raise
                    self._go_on()
            buffer[: len(data)] = data
            self._position += len(data)
            return len(data)

    def close(self) -> None:
        if not self.closed:
            self._body.close()
        super().close()

    def _go_on(self) -> None:
        self._body.close()
        rest = f"bytes={self._position}-"
        try:
            self._body = self._client.get_object(**self._at, Range=rest, IfMatch=self._tag)["Body"]
        except _library_errors() as error:
            if _code(error) in _TAKEN:
                raise Unreachable(f"{self._at['Key']} was replaced while it was read", hint="read it again") from None
            raise


def _library_errors() -> tuple[type[Exception], ...]:
    from botocore.exceptions import BotoCoreError, ClientError
    from urllib3.exceptions import HTTPError

    return BotoCoreError, ClientError, HTTPError


def _cut_off() -> Exception:
    from urllib3.exceptions import HTTPError

    return HTTPError("the object ended before its end")


def _code(error: Exception) -> str:
    """The service's own code for what went wrong; empty where it gave none."""
    from botocore.exceptions import ClientError

    return str(cast("ClientError", error).response["Error"].get("Code", "")) if isinstance(error, ClientError) else ""


def _attempts(error: Exception) -> int:
    answer = cast("ClientError", error).response if _code(error) else {}
    return 1 + int(answer.get("ResponseMetadata", {}).get("RetryAttempts", 0))


def _parts(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes in parts of a size that multipart uploads take: the last one may be smaller."""
    kept = bytearray()
    for chunk in chunks:
        kept += chunk
        while len(kept) >= _PART_BYTES:
            yield bytes(kept[:_PART_BYTES])
            del kept[:_PART_BYTES]
    if kept:
        yield bytes(kept)


def _md5(data: bytes) -> str:
    return base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()


def _spoken(name: str) -> str:
    """A name of the library or the service in words.

    >>> _spoken("EndpointConnectionError"), _spoken("SignatureDoesNotMatch"), _spoken("503")
    ('endpoint connection error', 'signature does not match', '503')
    """
    return "".join(f" {letter.lower()}" if letter.isupper() else letter for letter in name).strip()
