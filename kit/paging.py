"""Keyset paging (AIP-158): opaque tokens and page sizes."""

import base64
import binascii

import orjson

from kit.errors import PlatformError


def encode_token(*parts: str | int) -> str:
    """An opaque token that holds the last row's key parts."""
    return base64.urlsafe_b64encode(orjson.dumps(parts)).decode("ascii").rstrip("=")


def decode_token(token: str, n: int) -> tuple[str | int, ...]:
    """The `n` parts of a token; () for the empty token of a first page.

    Raises INVALID_ARGUMENT of `page_token` for anything that `encode_token` did not write.
    """
    if not token:
        return ()
    try:
        parts = orjson.loads(base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True))
    except (binascii.Error, ValueError):
        parts = None
    if not isinstance(parts, list) or len(parts) != n or not all(type(part) in (str, int) for part in parts):
        raise PlatformError.invalid("page_token", "The page token is not one that this method gave out.")
    return tuple(parts)


def page_size(n: int, default: int = 50, maximum: int = 200) -> int:
    """Rows for a page: `default` for 0, at most `maximum`; INVALID_ARGUMENT below 0."""
    if n < 0:
        raise PlatformError.invalid("page_size", "page_size must not be negative.")
    return min(n, maximum) if n else default
