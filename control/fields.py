"""Checks of single fields. Each raises INVALID_ARGUMENT with the field's name."""

from __future__ import annotations

import re
import secrets
import unicodedata
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

import orjson

from kit.errors import PlatformError, Reason

MAXIMUM_NAME: Final = 200
MAXIMUM_SUBJECT: Final = 256
MAXIMUM_DOCUMENT_BYTES: Final = 65_536

_SLUG = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_ALIAS = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,127}")


def slug(field: str, value: str) -> str:
    """An id of a tenant, workspace or policy: 1 to 63 of a-z, 0-9 and "-", beginning with a letter or digit."""
    if not _SLUG.fullmatch(value):
        message = 'Must be 1 to 63 characters of a-z, 0-9 and "-", beginning with a letter or digit.'
        raise PlatformError.invalid(field, message)
    return value


def is_slug(value: str) -> bool:
    """Whether the text can be such an id at all."""
    return _SLUG.fullmatch(value) is not None


def slug_of(name: str) -> str:
    """An id made from a name: "Ärzte & Co" -> "arzte-co"; random where nothing is left."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:50].strip("-") or f"t-{secrets.token_hex(4)}"


def is_alias(value: str) -> bool:
    """Whether the text can be a model's alias."""
    return _ALIAS.fullmatch(value) is not None


def text(field: str, value: str, maximum: int, *, required: bool = False) -> str:
    """A line of text for people: printable, at most so many characters, outer spaces removed."""
    value = value.strip()
    if required and not value:
        raise PlatformError.invalid(field, "Required.")
    if len(value) > maximum:
        raise PlatformError.invalid(field, f"Must be at most {maximum} characters.")
    if not value.isprintable():
        raise PlatformError.invalid(field, "Must not contain line breaks or control characters.")
    return value


def json_object(field: str, value: str) -> dict[str, Any]:
    """A JSON object from its text; an empty text is {}."""
    if len(value.encode()) > MAXIMUM_DOCUMENT_BYTES:
        raise PlatformError(
            Reason.PAYLOAD_TOO_LARGE,
            f"{field} must be at most {MAXIMUM_DOCUMENT_BYTES} bytes.",
            limit_bytes=str(MAXIMUM_DOCUMENT_BYTES),
        )
    try:
        document = orjson.loads(value or "{}")
    except orjson.JSONDecodeError as error:
        raise PlatformError.invalid(field, f"Not JSON: {error.msg} at line {error.lineno}.") from error
    if not isinstance(document, dict):
        raise PlatformError.invalid(field, "Must be a JSON object.")
    return document


def chosen(field: str, values: Sequence[str], known: Sequence[str]) -> list[str]:
    """Values out of a closed set, each once, in the order given."""
    for index, value in enumerate(values):
        if value not in known:
            raise PlatformError.invalid(f"{field}[{index}]", f"Unknown; known are {', '.join(known)}.")
    return list(dict.fromkeys(values))


def etag(current: int, told: str, resource: str) -> None:
    """ETAG_MISMATCH unless the caller named the current version, or none."""
    if told and told != str(current):
        message = f"The {resource.replace('_', ' ')} was changed meanwhile; read it again."
        raise PlatformError(Reason.ETAG_MISMATCH, message, etag=str(current))


def page_key(parts: tuple[str | int, ...]) -> tuple[datetime, str] | None:
    """A page token's (time, id) key; None for the first page."""
    if not parts:
        return None
    when, row_id = parts
    try:
        return datetime.fromisoformat(str(when)), str(row_id)
    except ValueError as error:
        raise PlatformError.invalid("page_token", "The page token is not one that this method gave out.") from error
