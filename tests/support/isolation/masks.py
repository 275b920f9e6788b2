"""What may differ between two answers that tell the same."""

from __future__ import annotations

import re
from collections.abc import Mapping

# Freshly made with every answer, or the time of day: (what, what is put in its place).
_VOLATILE = (
    (re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"), "<uuid>"),
    (re.compile(r"chatcmpl-[0-9a-f]{32}"), "<completion>"),
    (re.compile(r"key_[a-z2-7]{24}"), "<key>"),
    (re.compile(r"fc-[0-9A-Za-z]{43}"), "<secret>"),
    (re.compile(r'("prefix": ?)"fc-[^"]*"'), r"\1<prefix>"),
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|\+00:00)"), "<time>"),
    (re.compile(r'("(?:created|etag|revision|last_sequence)": ?)"?\d+"?'), r"\1<number>"),
    (re.compile(r'"latency_ms": ?\d+, ?'), ""),
    (re.compile(r"""('etag': )'"\d+"'"""), r"\1<etag>"),
)
UNTOLD_HEADERS = frozenset(
    {
        "date",
        "x-request-id",
        "x-ratelimit-limit-requests",
        "x-ratelimit-remaining-requests",
        "x-ratelimit-reset-requests",
    }
)
"""Response headers that differ between any two answers."""


def masked(text: str, sent: Mapping[str, str]) -> str:
    """The text without the ids that were sent (kind -> id) and without what is new in every answer."""
    for kind, value in sorted(sent.items(), key=lambda item: len(item[1]), reverse=True):
        if value:
            text = text.replace(value, f"<{kind}>")
    for pattern, instead in _VOLATILE:
        text = pattern.sub(instead, text)
    return text
