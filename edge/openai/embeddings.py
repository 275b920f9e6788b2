"""POST /v1/embeddings: request -> ModelCall, result -> JSON."""

from __future__ import annotations

import sys
from array import array as packed
from base64 import b64encode
from typing import Any

from edge.openai.fields import (
    array,
    choice,
    integer,
    missing,
    only,
    optional_string,
    parse_object,
    string,
    unsupported,
    wrong_type,
    wrong_value,
)
from fastchat.integration.v1 import model_service_pb2 as pb

MOST_INPUTS = 2048
_KNOWN = ("input", "model", "dimensions", "encoding_format", "user")


def parse_embeddings(body: bytes) -> tuple[pb.ModelCall, str]:
    """Parse -> (call without tenant, encoding: "float" | "base64"). Token arrays are UNSUPPORTED_FEATURE."""
    source = parse_object(body)
    only(source, _KNOWN)
    if source.get("input") is None:
        missing("input")
    call = pb.ModelCall(
        mode=pb.MODEL_MODE_EMBEDDING,
        model_alias=optional_string(source, "model", longest=256),
        input=_inputs(source["input"]),
    )
    dimensions = integer(source, "dimensions", 1, 65536)
    if dimensions is not None:
        call.options.dimensions = dimensions
    call.options.user = optional_string(source, "user", longest=512)
    encoding = source.get("encoding_format")
    return call, "float" if encoding is None else choice(encoding, "encoding_format", ("float", "base64"))


def embeddings_json(result: pb.ModelResult, model: str, encoding: str) -> dict[str, Any]:
    """The list object of an embeddings answer; base64 is of little-endian 32-bit floats."""
    render = _base64 if encoding == "base64" else list
    return {
        "object": "list",
        "data": [
            {"object": "embedding", "index": index, "embedding": render(vector.values)}
            for index, vector in enumerate(result.embeddings)
        ],
        "model": model,
        "usage": {"prompt_tokens": result.usage.prompt_tokens, "total_tokens": result.usage.total_tokens},
    }


def _inputs(value: object) -> list[str]:
    if type(value) is str:
        return [string(value, "input", empty=False)]
    if type(value) is not list:
        wrong_type("input", "a string or an array", value)
    items = array(value, "input", fewest=1, most=MOST_INPUTS)
    if type(items[0]) in (int, list):
        unsupported("input", "Token arrays are not supported, because tokens differ by model; send the text instead.")
    texts = [string(item, f"input[{index}]") for index, item in enumerate(items)]
    for index, text in enumerate(texts):
        if not text:
            wrong_value(f"input[{index}]", "it must not be empty.")
    return texts


def _base64(values: Any) -> str:
    floats = packed("f", values)
    if sys.byteorder == "big":
        floats.byteswap()
    return b64encode(floats.tobytes()).decode()
