"""Public keys of external token issuers: fetched, cached, rotated.

A key id that the cache does not know causes a refetch, at most one per `refetch_interval_s` and URL, so that tokens
with made-up key ids cannot be used to hammer an issuer. Keys that an issuer has withdrawn stop counting at the next
refresh. When the issuer cannot be reached, keys already fetched stay good for `stale_s`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
import orjson
from joserfc import jwk
from joserfc.errors import JoseError

from edge.config import JwksConfig
from kit.errors import PlatformError, Reason

PublicKey = jwk.RSAKey | jwk.ECKey | jwk.OKPKey

_KEY_TYPES: Final[Mapping[str, str]] = {"RS": "RSA", "PS": "RSA", "ES": "EC", "Ed": "OKP"}
_MAXIMUM_SETS: Final = 1_000


@dataclass(slots=True)
class _Cached:
    """Keys of one URL; times by the monotonic clock."""

    keys: tuple[PublicKey, ...] = ()
    fetched_at: float = float("-inf")
    tried_at: float = float("-inf")


class JsonWebKeys:
    """All key sets in use. One per process; close it."""

    def __init__(
        self, config: JwksConfig, client: httpx.AsyncClient | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._config = config
        self._client = client or httpx.AsyncClient(timeout=config.timeout_s, follow_redirects=False)
        self._clock = clock
        self._cache: dict[str, _Cached] = {}
        self._locks: dict[str, asyncio.Lock] = {}

    async def close(self) -> None:
        """Close the HTTP client."""
        await self._client.aclose()

    async def key(self, url: str, kid: str | None, algorithm: str) -> PublicKey | None:
        """The key that a token with this header is to be verified with; None if the issuer has none.

        A token without key id is accepted only where exactly one key fits its algorithm.
        DEPENDENCY_UNAVAILABLE if no usable key set can be had.
        """
        cached = await self._current(url)
        found = pick(cached.keys, kid, algorithm)
        if found is None and self._may_try(cached):
            found = pick((await self._refreshed(url, cached.tried_at)).keys, kid, algorithm)
        return found

    async def _current(self, url: str) -> _Cached:
        cached = self._cache.get(url)
        now = self._clock()
        if cached is None:
            cached = await self._refreshed(url, float("-inf"))
        elif (
            now - cached.fetched_at > self._config.cache_s and now - cached.tried_at >= self._config.refetch_interval_s
        ):
            cached = await self._refreshed(url, cached.tried_at)
        if self._clock() - cached.fetched_at > self._config.stale_s:
            raise PlatformError(
                Reason.DEPENDENCY_UNAVAILABLE,
                "the keys of the token issuer cannot be fetched",
                dependency="token issuer",
                retry_after_s=self._config.refetch_interval_s,
            )
        return cached

    async def _refreshed(self, url: str, seen_try: float) -> _Cached:
        """Fetch once, however many callers wait for it. `seen_try` is the try that the caller found wanting."""
        async with self._locks.setdefault(url, asyncio.Lock()):
            cached = self._cache.get(url)
            if cached is None:
                self._make_room()
                cached = self._cache[url] = _Cached()
            if cached.tried_at > seen_try:
                return cached
            cached.tried_at = self._clock()
            keys = await self._fetch(url)
            if keys is not None:
                cached.keys, cached.fetched_at = keys, self._clock()
            return cached

    def _may_try(self, cached: _Cached) -> bool:
        return self._clock() - cached.tried_at >= self._config.refetch_interval_s

    def _make_room(self) -> None:
        while len(self._cache) >= _MAXIMUM_SETS:
            oldest = next(iter(self._cache))
            del self._cache[oldest]
            self._locks.pop(oldest, None)

    async def _fetch(self, url: str) -> tuple[PublicKey, ...] | None:
        self._check(url)
        try:
            async with self._client.stream("GET", url, headers={"accept": "application/json"}) as response:
                if response.status_code != httpx.codes.OK:
                    return None
                body = bytearray()
                async for part in response.aiter_bytes():
                    body += part
                    if len(body) > self._config.max_bytes:
                        return None
        except httpx.HTTPError:
            return None
        return _parse(bytes(body))

    def _check(self, url: str) -> None:
        scheme = urlsplit(url).scheme
        if scheme != "https" and not (scheme == "http" and self._config.allow_http):
            raise PlatformError(
                Reason.DEPENDENCY_UNAVAILABLE,
                "the token issuer's key set is not at an https address",
                dependency="token issuer",
            )


def _parse(body: bytes) -> tuple[PublicKey, ...] | None:
    try:
        return usable_keys(orjson.loads(body))
    except ValueError:
        return None


def usable_keys(document: Any) -> tuple[PublicKey, ...]:
    """Public signature keys of a key set; entries of other kinds are skipped (RFC 7517, section 5)."""
    entries = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(entries, list):
        raise ValueError("not a key set")
    signing = [entry for entry in entries if isinstance(entry, dict) and entry.get("use", "sig") == "sig"]
    imported = [_import(entry) for entry in signing]
    return tuple(key for key in imported if key is not None)


def _import(entry: dict[str, Any]) -> PublicKey | None:
    try:
        key = jwk.import_key(entry)
    except (JoseError, ValueError, TypeError, KeyError):
        return None
    return key if isinstance(key, (jwk.RSAKey, jwk.ECKey, jwk.OKPKey)) else None


def pick(keys: tuple[PublicKey, ...], kid: str | None, algorithm: str) -> PublicKey | None:
    """The key with that id that fits the algorithm; without an id, the only one that fits."""
    kind = _KEY_TYPES.get(algorithm[:2])
    fitting = [key for key in keys if key.key_type == kind and key.get("alg", algorithm) == algorithm]
    if kid is None:
        return fitting[0] if len(fitting) == 1 else None
    return next((key for key in fitting if key.kid == kid), None)
