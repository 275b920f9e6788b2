"""Server-sent events as bytes: `\\n` line ends, one `data:` line, one block per event.

JSON by orjson has no raw line breaks (U+2028 and U+2029 stay unescaped, and are no line ends in SSE).
"""

from __future__ import annotations

from typing import Any

import orjson

from edge.openai.errors import error_object
from kit.errors import PlatformError

CONTENT_TYPE = "text/event-stream; charset=utf-8"
DONE = b"data: [DONE]\n\n"
PING = b": ping\n\n"


def data(value: dict[str, Any]) -> bytes:
    """A nameless event."""
    return b"data: " + orjson.dumps(value) + b"\n\n"


def named(event: str, value: dict[str, Any]) -> bytes:
    """An event with a name."""
    return b"event: " + event.encode() + b"\ndata: " + orjson.dumps(value) + b"\n\n"


def numbered(event: str, number: int, value: dict[str, Any]) -> bytes:
    """An event with a name and an id."""
    return b"event: %b\nid: %d\ndata: %b\n\n" % (event.encode(), number, orjson.dumps(value))


def error(failure: PlatformError) -> bytes:
    """A failure after the first byte, as chat clients read it. Flat error objects are swallowed by several of them."""
    return data({"error": error_object(failure)})
