"""The secrets file: peppers for the digests of API keys, and the key ring that seals what must be readable again.

One small JSON file, readable by its owner alone::

    {"peppers": [{"id": "3f9a1c07", "value": "base64 of 32 bytes"}], "seals": [{"id": "b2…", "value": "…"}]}

The first entry of each list is used for what is new, the others for what is older, so a rotation puts a new entry first
and breaks nothing. An id is a fingerprint of its value: a value that was changed, or a file that belongs to another
installation, is noticed instead of answering every caller with 401.
"""

import errno
import hashlib
import hmac
import os
import stat
from base64 import b64decode, b64encode
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from penstock.store.sql.backend import StoreError

Entropy = Callable[[int], bytes]
"""Gives that many unpredictable bytes: ``secrets.token_bytes`` outside tests."""

_BYTES = 32
_NONCE = 12
_VERSION = b"\x01"
_ID = 8


class SecretsFileError(StoreError):
    """The secrets file is missing, open to others, or not the one that the data was made with; the text has the mend."""


class RingKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One secret value, base64 of 32 bytes, and its fingerprint."""

    id: str
    value: str

    def __repr__(self) -> str:
        return f"Secret({self.id})"


class _Contents(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    peppers: tuple[RingKey, ...]
    seals: tuple[RingKey, ...]


class SecretsFile:
    """What the secrets file holds, for digests and seals. Reads the file again when a digest or seal is unknown."""

    def __init__(self, path: Path) -> None:
        """Read ``path``. Raises ``SecretsFileError``."""
        self.path = path
        self._stamp = (0, 0)
        self._peppers: tuple[tuple[str, bytes], ...] = ()
        self._seals: dict[str, AESGCM] = {}
        self._read()

    @classmethod
    def make(cls, path: Path, entropy: Entropy) -> "SecretsFile":
        """Read the file, made first if there is none (by one of several processes). Raises ``SecretsFileError``."""
        if not path.exists():
            contents = _Contents((_fresh("pepper", entropy),), (_fresh("seal", entropy),))
            fresh = _write_beside(path, contents, entropy)
            try:
                os.link(fresh, path)  # fails where rename would replace a file made meanwhile
            except FileExistsError:
                pass
            except OSError as error:
                raise SecretsFileError(f"cannot make the secrets file {path}: {error.strerror}") from error
            finally:
                fresh.unlink()
        return cls(path)

    @property
    def pepper_id(self) -> str:
        """Which pepper digests of new keys are made with."""
        return self._peppers[0][0]

    @property
    def pepper_ids(self) -> tuple[str, ...]:
        """All peppers of the file, the current one first."""
        return tuple(id for id, _ in self._peppers)

    @property
    def seal_ids(self) -> tuple[str, ...]:
        """All keys of the ring, the newest first."""
        return tuple(self._seals)

    @property
    def seal_id(self) -> str:
        """Which key of the ring new seals are made with."""
        return next(iter(self._seals))

    def digests(self, key: str) -> tuple[bytes, ...]:
        """HMAC-SHA-256 of ``key`` under each pepper, 32 bytes each, the current pepper's first."""
        message = key.encode()
        return tuple(hmac.digest(pepper, message, "sha256") for _, pepper in self._peppers)

    def seal(self, plain: bytes, about: bytes, entropy: Entropy) -> bytes:
        """``plain`` encrypted with AES-256-GCM. ``about`` says what it is; only the same ``about`` opens it."""
        nonce = entropy(_NONCE)
        id = self.seal_id
        return _VERSION + id.encode() + nonce + self._seals[id].encrypt(nonce, plain, about)

    def unseal(self, sealed: bytes, about: bytes) -> bytes:
        """What ``seal`` was given. Raises ``SecretsFileError`` when the ring lacks its key, or it was changed or moved."""
        id = self.sealed_with(sealed)
        if id not in self._seals:
            self.reread()
        if sealed[:1] != _VERSION or id not in self._seals:
            raise SecretsFileError(
                f"sealed with key {id!r}, which {self.path} does not hold: put the older secrets file back"
            )
        start = len(_VERSION) + _ID
        try:
            return self._seals[id].decrypt(sealed[start : start + _NONCE], sealed[start + _NONCE :], about)
        except (InvalidTag, ValueError) as error:
            raise SecretsFileError(
                "a sealed value does not open: it was changed, or belongs to another row"
            ) from error

    SEAL_HEAD: ClassVar[int] = len(_VERSION) + _ID
    """How many bytes of a sealed value say what it was sealed with."""

    @staticmethod
    def seal_head(id: str) -> bytes:
        """What everything begins with that this key of the ring has sealed."""
        return _VERSION + id.encode()

    @staticmethod
    def sealed_with(sealed: bytes) -> str:
        """The id of the key that ``sealed`` was made with."""
        return sealed[len(_VERSION) : len(_VERSION) + _ID].decode("ascii", "replace")

    def has_seal(self, sealed: bytes) -> bool:
        """Whether the ring holds the key that ``sealed`` was made with, as the file is now. Raises ``SecretsFileError``."""
        id = self.sealed_with(sealed)
        return id in self._seals or (self.reread() and id in self._seals)

    def rotate(self, entropy: Entropy) -> None:
        """Put a new pepper and a new seal first, keep the old ones, and read the file again. Raises ``SecretsFileError``."""
        old = _contents(self.path)
        contents = _Contents((_fresh("pepper", entropy), *old.peppers), (_fresh("seal", entropy), *old.seals))
        _write_beside(self.path, contents, entropy).replace(self.path)
        self._read()

    def reread(self) -> bool:
        """Read the file again if it changed since; whether it had. Raises ``SecretsFileError``."""
        if _stamp(self.path) == self._stamp:
            return False
        self._read()
        return True

    def _read(self) -> None:
        stamp = _stamp(self.path)
        contents = _contents(self.path)
        self._peppers = tuple((entry.id, _value(self.path, "pepper", entry)) for entry in contents.peppers)
        self._seals = {entry.id: AESGCM(_value(self.path, "seal", entry)) for entry in contents.seals}
        self._stamp = stamp


def _stamp(path: Path) -> tuple[int, int]:
    """What changes when the file is replaced or written. Also refuses a file that others may read."""
    try:
        found = path.stat()
    except FileNotFoundError as error:
        raise SecretsFileError(f"there is no secrets file {path}: put it back from your backup") from error
    except OSError as error:
        raise SecretsFileError(f"cannot look at the secrets file {path}: {error.strerror}") from error
    # One that is not ours was put here by whoever runs us, as orchestrators mount secrets: for a group that we are in.
    closed = 0o077 if found.st_uid == os.geteuid() else 0o037
    if stat.S_IMODE(found.st_mode) & closed:
        raise SecretsFileError(f"others can read the secrets file {path}: chmod 600 {path}")
    return found.st_ino, found.st_mtime_ns


def _contents(path: Path) -> _Contents:
    try:
        contents = msgspec.json.decode(path.read_bytes(), type=_Contents)
    except OSError as error:
        raise SecretsFileError(f"cannot read the secrets file {path}: {error.strerror}") from error
    except msgspec.DecodeError as error:
        raise SecretsFileError(f"the secrets file {path} cannot be read: {error}") from None
    if not contents.peppers or not contents.seals:
        raise SecretsFileError(f"the secrets file {path} needs at least one pepper and one seal")
    return contents


def _value(path: Path, kind: str, entry: RingKey) -> bytes:
    try:
        value = b64decode(entry.value, validate=True)
    except ValueError:
        value = b""
    if len(value) != _BYTES or entry.id != _fingerprint(kind, value):
        raise SecretsFileError(
            f"the secrets file {path}: {kind} {entry.id!r} is damaged or was edited by hand"
        )
    return value


def _fingerprint(kind: str, value: bytes) -> str:
    return hashlib.sha256(b"penstock " + kind.encode() + b" id\0" + value).hexdigest()[:_ID]


def _fresh(kind: str, entropy: Entropy) -> RingKey:
    value = entropy(_BYTES)
    return RingKey(_fingerprint(kind, value), b64encode(value).decode())


def _write_beside(path: Path, contents: _Contents, entropy: Entropy) -> Path:
    """A new, complete file next to ``path``, which may then take its place in one step."""
    fresh = path.with_name(f".{path.name}.{entropy(8).hex()}")
    text = msgspec.json.format(msgspec.json.encode(contents), indent=2) + b"\n"
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(fresh, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        what = "no space left" if error.errno == errno.ENOSPC else error.strerror
        raise SecretsFileError(f"cannot write the secrets file {path}: {what}") from error
    return fresh
