"""Encryption at rest: one master key file, one derived key per tenant, AES-256-GCM.

A ciphertext travels with the id of the master key that made it, so that a master key can be rotated: the first line
of the key file seals, every line opens. Erasing a tenant's rows is EraseScope's; the tenant keys are derived, so the
crypto-shred of one tenant needs a KMS with real per-tenant keys (plug point `fastchat.kms`).
"""

import base64
import binascii
import functools
import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from kit.config import ConfigError
from kit.errors import PlatformError, Reason

_NONCE_BYTES = 12
_KEY_BYTES = 32
_SEALED_PREFIX = "sealed:"
_CACHED_KEYS = 4096


@dataclass(frozen=True)
class MasterKey:
    """A 256-bit key and its public id (first 8 hex digits of its SHA-256)."""

    key_id: str
    secret: bytes

    @classmethod
    def of(cls, secret: bytes) -> "MasterKey":
        """Wrap 32 random bytes."""
        if len(secret) != _KEY_BYTES:
            raise ConfigError(f"a master key has {_KEY_BYTES} bytes, this one has {len(secret)}")
        return cls(hashlib.sha256(secret).hexdigest()[:8], secret)


class Keyring:
    """Seals and opens per tenant. Safe to share between tasks and threads."""

    def __init__(self, keys: Sequence[MasterKey]) -> None:
        if not keys:
            raise ConfigError("the keyring has no master key")
        self._keys: Mapping[str, MasterKey] = {key.key_id: key for key in keys}
        self.key_id = keys[0].key_id
        """Id of the key that seals."""
        self._cipher = functools.lru_cache(maxsize=_CACHED_KEYS)(self._derive)

    @classmethod
    def from_home(cls, home: Path) -> "Keyring":
        """The keyring of an installation, made on first use (`<home>/keys/master.key`, mode 0600)."""
        return cls.from_file(home / "keys" / "master.key", create=True)

    @classmethod
    def from_file(cls, path: Path, *, create: bool = False) -> "Keyring":
        """Read a key file: one base64 key a line, the sealing key first.

        ConfigError when it is unreadable, or readable to others.
        """
        if create and not path.exists():
            write_new_secret(path, base64.b64encode(os.urandom(_KEY_BYTES)) + b"\n")
        try:
            if path.stat().st_mode & 0o077:
                raise ConfigError(f"{path}: other users may read this key file; run chmod 600 on it")
            lines = [line for line in path.read_text().split() if line]
            return cls([MasterKey.of(base64.b64decode(line, validate=True)) for line in lines])
        except (OSError, binascii.Error, UnicodeDecodeError) as error:
            raise ConfigError(f"{path}: cannot read the master key: {error}") from error

    def seal(self, tenant_id: str, plaintext: bytes, aad: bytes = b"") -> tuple[str, bytes]:
        """Encrypt for a tenant ("" is the platform). Returns (key id, nonce + ciphertext + tag: 28 bytes longer).

        `aad` binds the ciphertext to its place (such as a run id): it opens only with the same.
        """
        nonce = os.urandom(_NONCE_BYTES)
        return self.key_id, nonce + self._cipher(self.key_id, tenant_id).encrypt(nonce, plaintext, aad)

    def open(self, tenant_id: str, key_id: str, ciphertext: bytes, aad: bytes = b"") -> bytes:
        """Decrypt. STORAGE_UNAVAILABLE when the key is not in the ring, or the bytes are not what was sealed."""
        if key_id not in self._keys:
            message = "The key that sealed this is not in the keyring."
            raise PlatformError(Reason.STORAGE_UNAVAILABLE, message, key_id=key_id)
        nonce, body = ciphertext[:_NONCE_BYTES], ciphertext[_NONCE_BYTES:]
        try:
            return self._cipher(key_id, tenant_id).decrypt(nonce, body, aad)
        except (InvalidTag, ValueError) as error:
            raise PlatformError(Reason.STORAGE_UNAVAILABLE, "Sealed bytes are damaged or of another owner.") from error

    def seal_text(self, tenant_id: str, plaintext: str) -> str:
        """Encrypt a configuration secret as "sealed:<key id>:<base64>"."""
        key_id, ciphertext = self.seal(tenant_id, plaintext.encode(), b"text")
        return f"{_SEALED_PREFIX}{key_id}:{base64.b64encode(ciphertext).decode()}"

    def open_text(self, tenant_id: str, text: str) -> str:
        """Decrypt what `seal_text` made; a text that is not sealed comes back as it is."""
        if not is_sealed(text):
            return text
        key_id, _, encoded = text.removeprefix(_SEALED_PREFIX).partition(":")
        try:
            ciphertext = base64.b64decode(encoded, validate=True)
        except binascii.Error as error:
            raise PlatformError(Reason.STORAGE_UNAVAILABLE, "A sealed secret is damaged.") from error
        return self.open(tenant_id, key_id, ciphertext, b"text").decode()

    def _derive(self, key_id: str, tenant_id: str) -> AESGCM:
        info = b"fastchat/tenant/" + tenant_id.encode()
        return AESGCM(HKDF(hashes.SHA256(), _KEY_BYTES, None, info).derive(self._keys[key_id].secret))


def is_sealed(text: str) -> bool:
    """Whether the text is one that `Keyring.seal_text` made."""
    return text.startswith(_SEALED_PREFIX)


def write_new_secret(path: Path, content: bytes) -> bool:
    """Write a secret file (0600, parents 0700) unless it exists. Safe between processes: exactly one of them writes.

    Returns whether this call wrote it. The file appears whole or not at all.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = path.with_name(f".{path.name}.{os.getpid()}.{os.urandom(4).hex()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.link(draft, path)  # unlike a rename, refuses to replace what another process wrote first
    except FileExistsError:
        return False
    finally:
        draft.unlink()
    return True
