"""A store of releases, a source to build from, and artifacts as nobody should make them."""

from __future__ import annotations

import datetime as dt
import hashlib
import io
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import zstandard
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from nvcops.adapters.releases.building import Build, Order
from nvcops.adapters.releases.contents import ABOUT, LOCK, SBOM, Contents
from nvcops.adapters.releases.signing import load_signing_key
from nvcops.adapters.releases.source import Sources
from nvcops.adapters.releases.statement import (
    BUILD_TYPE,
    PROVENANCE,
    STATEMENT,
    Asked,
    Builder,
    Definition,
    Described,
    Details,
    Made,
    Metadata,
    Provenance,
    Statement,
)
from nvcops.adapters.releases.store import ReleaseStore
from nvcops.core.manifest.delivery import Builder as NamedKey
from nvcops.core.releases import Release

NOON = dt.datetime(2026, 3, 2, 12, tzinfo=dt.UTC)
COMMIT = "0123456789abcdef0123456789abcdef01234567"
LOCKED = f"""# two packages, as tools write them
alpha==1.2.3 \\
    --hash=sha256:{"a" * 64} \\
    --hash=sha256:{"b" * 64}
    # via the service
Beta_two[extra]==4.5 ; python_version >= "3.11" --hash=sha256:{"c" * 64}
"""


def write_key(path: Path) -> str:
    """A fresh Ed25519 key file of OpenSSH; the line of its public half."""
    key = Ed25519PrivateKey.generate()
    encoding, private = serialization.Encoding, serialization.PrivateFormat.OpenSSH
    path.write_bytes(key.private_bytes(encoding.PEM, private, serialization.NoEncryption()))
    path.chmod(0o600)
    return key.public_key().public_bytes(encoding.OpenSSH, serialization.PublicFormat.OpenSSH).decode()


def write_source(root: Path) -> Path:
    """A small service with two migrations."""
    package = root / "shop"
    (package / "migrations").mkdir(parents=True)
    (package / "__init__.py").write_text('"""A shop."""\n')
    (package / "__main__.py").write_text("print('open')\n")
    (package / "migrations" / "0001_expand_goods.sql").write_text("CREATE TABLE goods (id integer);\n")
    (package / "migrations" / "0002_contract_goods.sql").write_text("DROP TABLE goods;\n")
    (root / "requirements.txt").write_text(LOCKED)
    return root


@dataclass
class World:
    """A store with one builder, whose clock goes on by a second with each question."""

    folder: Path
    store: ReleaseStore
    key: Path
    source: Path
    seconds: int = 0
    tell: Callable[[str], None] = field(default=lambda _: None)

    def now(self) -> dt.datetime:
        self.seconds += 1
        return NOON + dt.timedelta(seconds=self.seconds)

    def order(self, version: str = "1.0", **changes: object) -> Order:
        sources = Sources(root=self.source, **{"packages": ("shop",), **changes})  # type: ignore[arg-type]
        return Order(name="shop", version=version, sources=sources, revision=COMMIT, licences=lambda *_: ("MIT",))

    def build(self, version: str = "1.0", **changes: object) -> Release:
        key = load_signing_key(self.key, self.store.builders)
        return Build(self.store, key, self.now, self.tell).run(self.order(version, **changes))[0]

    def artifact(self, digest: str) -> Path:
        return self.store.folder / f"{digest}.tar.zst"

    def envelope(self, digest: str) -> Path:
        return self.store.folder / f"{digest}.dsse.json"

    def forge(
        self, members: Sequence[tuple[tarfile.TarInfo, bytes]], form: int = tarfile.USTAR_FORMAT, **said: object
    ) -> str:
        """A release of a builder whose key counts and who means ill: all digests fit but for what is said; its digest.

        `said` are fields of its `release.json`, and of the statement, that take the place of the true ones.
        """
        sbom = b'{"bomFormat":"CycloneDX","components":[]}'
        files = {SBOM: _sha256(sbom), LOCK: _sha256(b"")} | {info.name: _sha256(data) for info, data in members}
        contents = Contents(
            name="shop",
            version="6.6.6",
            lock=files[LOCK],
            components=0,
            migrations=(),
            migrations_folder="",
            files=files,
        )
        contents = msgspec.structs.replace(contents, **said)
        first = ((ABOUT, contents.encoded()), (SBOM, sbom), (LOCK, b""))
        tar = tar_of([*(plain(name, data) for name, data in first), *members], form)
        artifact = zstd_of(tar)
        self.keep(artifact, contents)
        return _sha256(artifact)

    def keep(self, artifact: bytes, contents: Contents) -> None:
        """Put an artifact and a signed statement about it into the store, as they are."""
        digest = _sha256(artifact)
        self.store.folder.mkdir(exist_ok=True)
        self.artifact(digest).write_bytes(artifact)
        self.sign(statement(contents, digest, len(artifact)))

    def sign(self, said: Statement) -> None:
        """Put a signed statement beside the artifact that it is about."""
        key = load_signing_key(self.key, self.store.builders)
        self.envelope(said.digest).write_bytes(key.sign(said.encoded()))

    @staticmethod
    def digest_of(artifact: bytes) -> str:
        return _sha256(artifact)


def world(folder: Path) -> World:
    public = write_key(folder / "builder")
    store = ReleaseStore(folder / "releases", (NamedKey(name="lab", key=public),))
    return World(folder, store, folder / "builder", write_source(folder / "source"))


def plain(name: str, data: bytes) -> tuple[tarfile.TarInfo, bytes]:
    """A member as we write it."""
    info = tarfile.TarInfo(name)
    info.size, info.mtime, info.mode = len(data), 315_532_800, 0o644
    return info, data


def tar_of(members: Sequence[tuple[tarfile.TarInfo, bytes]], form: int = tarfile.USTAR_FORMAT) -> bytes:
    """A tar with two blocks of zeros at its end, as we write it."""
    pieces = []
    for info, data in members:
        pieces += [info.tobuf(form, "utf-8", "strict"), data, bytes(-len(data) % 512)]
    return b"".join([*pieces, bytes(1024)])


def statement(contents: Contents, digest: str, size: int) -> Statement:
    definition = Definition(
        build_type=BUILD_TYPE,
        external_parameters=Asked(name=contents.name, version=contents.version, packages=("shop",), lock=LOCK),
        internal_parameters=Made(size=size, components=contents.components, migrations=contents.migrations),
        resolved_dependencies=(Described(name=LOCK, digest={"sha256": contents.lock}),),
    )
    digests = {ABOUT: _sha256(contents.encoded()), SBOM: contents.files[SBOM]}
    details = Details(
        builder=Builder(id="urn:nvcops:builder:lab", version={}),
        metadata=Metadata(started_on=NOON, finished_on=NOON),
        byproducts=tuple(Described(name=name, digest={"sha256": sha256}) for name, sha256 in digests.items()),
    )
    return Statement(
        type_=STATEMENT,
        subject=(Described(name="shop", digest={"sha256": digest}),),
        predicate_type=PROVENANCE,
        predicate=Provenance(build_definition=definition, run_details=details),
    )


def zstd_of(tar: bytes) -> bytes:
    return zstandard.ZstdCompressor(write_content_size=False).compress(tar)


def unzstd(artifact: bytes) -> bytes:
    """The tar of an artifact."""
    return zstandard.ZstdDecompressor().stream_reader(io.BytesIO(artifact)).read()


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
