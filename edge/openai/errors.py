"""PlatformError -> OpenAI's error object."""

from __future__ import annotations

from typing import Any

from kit.errors import PlatformError


def error_object(error: PlatformError) -> dict[str, Any]:
    """The `error` member of an OpenAI error body: {message, type, param, code}."""
    row = error.row
    return {
        "message": error.message,
        "type": row.openai_type,
        "param": error.metadata.get("field") or ("model" if "model" in row.openai_code else None),
        "code": row.openai_code,
    }
