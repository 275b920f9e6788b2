"""Embeddings of the offline model: wordllama's static vectors, from files in its wheel, loaded on first use."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from kit.errors import PlatformError, Reason

DIMENSIONS = (64, 128, 256)


async def embed(texts: Sequence[str], dimensions: int | None = None) -> list[list[float]]:
    """Vectors of length 1. UNSUPPORTED_FEATURE for other dimensions than 64, 128 and 256."""
    size = dimensions or DIMENSIONS[-1]
    if size not in DIMENSIONS:
        message = f"The offline model's vectors have {', '.join(map(str, DIMENSIONS))} dimensions."
        raise PlatformError(Reason.UNSUPPORTED_FEATURE, message, field="dimensions", feature="dimensions")
    return await asyncio.to_thread(_embed, list(texts), size)


def _embed(texts: list[str], size: int) -> list[list[float]]:
    vectors = _model().embed(texts)[:, :size]
    lengths = (vectors**2).sum(axis=1, keepdims=True) ** 0.5
    lengths[lengths == 0] = 1.0
    result: list[list[float]] = (vectors / lengths).tolist()
    return result


@cache
def _model() -> Any:
    # imported here: 60 MB that only those who embed offline should pay
    import wordllama

    # The wheel holds both files, but the loader looks for the tokenizer in its cache folder only.
    return wordllama.WordLlama.load(disable_download=True, cache_dir=Path(wordllama.__file__).parent)
