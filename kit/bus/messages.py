"""What is stored in streams, and how streams are described."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

_UNSAFE = re.compile(r"[^A-Za-z0-9_-]")


def token(text: str) -> str:
    """The text as one token of a subject: other than letters, digits, "_" and "-" become "=XX" (hex of UTF-8).

    Distinct texts give distinct tokens. An empty text is "=".
    """
    return _UNSAFE.sub(lambda match: "".join(f"={byte:02X}" for byte in match[0].encode()), text) or "="


@dataclass(frozen=True, slots=True)
class Stored:
    """A message as a stream holds it. `sequence` is the stream's."""

    subject: str
    sequence: int
    data: bytes
    headers: Mapping[str, str]
    time: datetime | None = None


@dataclass(frozen=True)
class StreamSpec:
    """A stream to be made, or brought to this shape. Zero means no limit."""

    name: str
    subjects: Sequence[str]
    work_queue: bool = False
    """Messages go once they are acknowledged."""
    max_per_subject: int = 0
    """Messages a subject may hold; more are refused."""
    max_age_s: float = 0
    """How long a message is kept."""
    republish_to: str = ""
    """Subject prefix under which every stored message is told, such as "fc.tail."; the rest of the subject stays."""
    republish_from: str = ""
    """Subjects told, such as "fc.run.>"."""
    duplicate_window_s: float = 120.0
    """How long a message id is remembered."""
