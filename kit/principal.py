"""Who a call is made for: the Principal, bound to the task, and signed between services.

A `SignedPrincipal` lives for a minute, is signed with Ed25519 by the mesh key, and travels in the metadata key
`fc-principal-bin`. Signing (~60 us) and verifying (~120 us) are cached by value, so a call costs a dictionary look-up.
"""

import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)
from google.protobuf.message import DecodeError

from fastchat.common.v1.principal_pb2 import Principal, SignedPrincipal
from kit.config import ConfigError
from kit.crypto import write_new_secret
from kit.errors import PlatformError, Reason

METADATA_KEY = "fc-principal-bin"
CHAT, ADMIN, PLATFORM = "chat", "admin", "platform"
"""Scopes: the chat surface; administration of the own tenant; every tenant (implies the others)."""
MAX_HOPS = 8
LIFE_S = 60
_LEEWAY_S = 5
_CACHED = 4096

Clock = Callable[[], float]
V = TypeVar("V")

_current: ContextVar[Principal | None] = ContextVar("fastchat_principal", default=None)


def current() -> Principal:
    """The principal that this task works for. MISSING_CREDENTIALS if nobody is bound."""
    principal = _current.get()
    if principal is None:
        raise PlatformError(Reason.MISSING_CREDENTIALS, "No credentials were sent.")
    return principal


def current_or_none() -> Principal | None:
    """The principal that this task works for, if one is bound."""
    return _current.get()


def bind(principal: Principal) -> None:
    """Bind for the rest of this task (server side, where a task is one call)."""
    _current.set(principal)


@contextmanager
def acting_as(principal: Principal) -> Iterator[Principal]:
    """Bind for a block; what was bound before comes back after it."""
    token = _current.set(principal)
    try:
        yield principal
    finally:
        _current.reset(token)


def service_principal(service: str, tenant_id: str = "", workspace_id: str = "") -> Principal:
    """A service acting by itself (background work): role "service", scope "platform"."""
    return Principal(
        tenant_id=tenant_id,
        workspace_id=workspace_id,
        subject=f"service:{service}",
        roles=["service"],
        scopes=[PLATFORM],
    )


def has_scope(principal: Principal, scope: str) -> bool:
    """Whether the principal holds the scope; "platform" implies every other."""
    return scope in principal.scopes or PLATFORM in principal.scopes


def require_scope(scope: str) -> Principal:
    """The bound principal, if it holds the scope; else MISSING_SCOPE."""
    principal = current()
    if not has_scope(principal, scope):
        raise PlatformError(Reason.MISSING_SCOPE, f'These credentials lack the scope "{scope}".', scope=scope)
    return principal


def crossed(principal: Principal) -> Principal:
    """A copy for a call that left the mesh and came back (our own MCP or A2A server). LOOP_DETECTED past 8 hops."""
    result = Principal()
    result.CopyFrom(principal)
    result.hops += 1
    _check_hops(result)
    return result


@dataclass(frozen=True)
class MeshKey:
    """The key that every service of one installation signs principals with; its id is the public key's digest."""

    key_id: str
    private: Ed25519PrivateKey

    @classmethod
    def generate(cls) -> "MeshKey":
        """A new key, for tests and first starts."""
        return cls._of(Ed25519PrivateKey.generate())

    @classmethod
    def _of(cls, private: Ed25519PrivateKey) -> "MeshKey":
        return cls(key_id_of(private.public_key()), private)

    @property
    def public(self) -> Ed25519PublicKey:
        """What verifies."""
        return self.private.public_key()

    def pem(self) -> bytes:
        """PKCS #8 PEM of the private key."""
        return self.private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def key_id_of(public: Ed25519PublicKey) -> str:
    """First 16 hex digits of the public key's SHA-256."""
    return hashlib.sha256(public.public_bytes(Encoding.Raw, PublicFormat.Raw)).hexdigest()[:16]


def load_or_create_mesh_key(path: Path) -> MeshKey:
    """The Ed25519 key in a PEM file, made on first use (0600). ConfigError if unreadable, or readable to others."""
    try:
        if not path.exists():
            write_new_secret(path, MeshKey.generate().pem())
        if path.stat().st_mode & 0o077:
            raise ConfigError(f"{path}: other users may read this key file; run chmod 600 on it")
        private = load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(f"{path}: cannot read the mesh key: {error}") from error
    if not isinstance(private, Ed25519PrivateKey):
        raise ConfigError(f"{path}: the mesh key must be an Ed25519 key")
    return MeshKey._of(private)


def load_public_keys(paths: Sequence[Path]) -> dict[str, Ed25519PublicKey]:
    """Public keys (PEM) that are trusted beside the own one, by key id; how a mesh key is rotated."""
    keys: dict[str, Ed25519PublicKey] = {}
    for path in paths:
        try:
            public = load_pem_public_key(path.read_bytes())
        except (OSError, ValueError) as error:
            raise ConfigError(f"{path}: cannot read the public key: {error}") from error
        if not isinstance(public, Ed25519PublicKey):
            raise ConfigError(f"{path}: a trusted mesh key must be an Ed25519 public key")
        keys[key_id_of(public)] = public
    return keys


class _Lru(Generic[V]):
    """A bounded map by bytes; the least recently used entry goes first."""

    def __init__(self, size: int = _CACHED) -> None:
        self._items: OrderedDict[bytes, V] = OrderedDict()
        self._size = size

    def get(self, key: bytes) -> V | None:
        value = self._items.get(key)
        if value is not None:
            self._items.move_to_end(key)
        return value

    def put(self, key: bytes, value: V) -> None:
        self._items[key] = value
        self._items.move_to_end(key)
        if len(self._items) > self._size:
            self._items.popitem(last=False)

    def drop(self, key: bytes) -> None:
        self._items.pop(key, None)


class Signer:
    """Makes SignedPrincipal bytes. One token serves a principal for half of its life."""

    def __init__(self, key: MeshKey, *, life_s: int = LIFE_S, clock: Clock = time.time) -> None:
        self._key = key
        self._life_s = life_s
        self._clock = clock
        self._cache: _Lru[tuple[bytes, float]] = _Lru()

    def sign(self, principal: Principal) -> bytes:
        """A serialized SignedPrincipal. Times are set here; hops are copied as they are."""
        identity = principal.SerializeToString(deterministic=True)
        now = self._clock()
        found = self._cache.get(identity)
        if found is not None and now < found[1]:
            return found[0]
        blob = self._issue(principal, int(now))
        self._cache.put(identity, (blob, now + self._life_s / 2))
        return blob

    def _issue(self, principal: Principal, now: int) -> bytes:
        issued = Principal()
        issued.CopyFrom(principal)
        issued.issued_at, issued.expires_at = now, now + self._life_s
        body = issued.SerializeToString()
        signed = SignedPrincipal(principal=body, signature=self._key.private.sign(body), key_id=self._key.key_id)
        return signed.SerializeToString()


class Verifier:
    """Checks SignedPrincipal bytes against the trusted public keys, by key id."""

    def __init__(self, keys: Mapping[str, Ed25519PublicKey], *, clock: Clock = time.time) -> None:
        self._keys = dict(keys)
        self._clock = clock
        self._cache: _Lru[Principal] = _Lru()

    @classmethod
    def of(cls, *keys: MeshKey, clock: Clock = time.time) -> "Verifier":
        """A verifier that trusts these keys."""
        return cls({key.key_id: key.public for key in keys}, clock=clock)

    def verify(self, blob: bytes) -> Principal:
        """The principal. INVALID_API_KEY if forged or of an unknown key, EXPIRED_CREDENTIALS, LOOP_DETECTED."""
        principal = self._cache.get(blob)
        now = self._clock()
        if principal is None:
            principal = self._checked(blob, now)
            self._cache.put(blob, principal)
        if now >= principal.expires_at + _LEEWAY_S:
            self._cache.drop(blob)
            raise PlatformError(Reason.EXPIRED_CREDENTIALS, "The principal of this call has expired.")
        return principal

    def _checked(self, blob: bytes, now: float) -> Principal:
        try:
            signed = SignedPrincipal.FromString(blob)
            public = self._keys.get(signed.key_id)
            if public is None:
                raise _forged()
            public.verify(signed.signature, signed.principal)
            principal = Principal.FromString(signed.principal)
        except (DecodeError, InvalidSignature) as error:
            raise _forged() from error
        if not principal.subject or principal.issued_at > now + _LEEWAY_S:
            raise _forged()
        _check_hops(principal)
        return principal


def _forged() -> PlatformError:
    return PlatformError(Reason.INVALID_API_KEY, "The principal of this call is not signed by this mesh.")


def _check_hops(principal: Principal) -> None:
    if principal.hops > MAX_HOPS:
        message = f"This call came around more than {MAX_HOPS} times."
        raise PlatformError(Reason.LOOP_DETECTED, message, hops=str(principal.hops))
