"""Model aliases -> /v1/models."""

from __future__ import annotations

from typing import Any

from fastchat.integration.v1 import model_service_pb2 as pb

_MODES = {
    pb.MODEL_MODE_CHAT: "chat",
    pb.MODEL_MODE_RESPONSES: "responses",
    pb.MODEL_MODE_EMBEDDING: "embedding",
}


def model_json(model: pb.Model) -> dict[str, Any]:
    """OpenAI's model object; `modes`, `context_window` and `max_output_tokens` (null: not known) are additions."""
    return {
        "id": model.alias,
        "object": "model",
        "created": model.created,
        "owned_by": model.provider or "fastchat",
        "modes": [_MODES[mode] for mode in model.modes if mode in _MODES],
        "context_window": model.context_window or None,
        "max_output_tokens": model.max_output_tokens or None,
    }


def models_json(models: list[pb.Model]) -> dict[str, Any]:
    """The list object of /v1/models."""
    return {"object": "list", "data": [model_json(model) for model in models]}
