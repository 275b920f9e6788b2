"""Local-model toggles (PR-002, spec 13.3): what they are called, and the warning that refuses them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

RUNTIMES: Final = frozenset(
    {
        "ollama",
        "ollama_chat",
        "vllm",
        "llamafile",
        "lm_studio",
        "docker_model_runner",
        "oobabooga",
        "petals",
        "xinference",
        "lemonade",
    }
)
"""LiteLLM's providers that are runtimes on the own machine. (`hosted_vllm` is a server elsewhere, and stays.)"""

TOGGLES: Final = (
    "USE_LOCAL_MODEL",
    "USE_LOCAL_MODELS",
    "LOCAL_MODEL",
    "LOCAL_LLM",
    "USE_OLLAMA",
    "OLLAMA_HOST",
    "OLLAMA_BASE_URL",
    "OLLAMA_API_BASE",
    "OLLAMA_MODEL",
    "VLLM_API_BASE",
    "VLLM_BASE_URL",
    "LM_STUDIO_API_BASE",
    "LLAMAFILE_API_BASE",
)
"""Environment names by which the original, or LiteLLM, switched to a local model. None of them does anything here."""

LOCAL_MODEL: Final = (
    "Local-model toggles are deprecated and refused: the provider {runtime} is not available (spec 13.3, PR-002). "
    'A server that speaks the OpenAI API stays usable: model "openai/<name>" with its api_base.'
)


def local_runtime(model: str, provider: Any = None) -> str | None:
    """The local runtime that an entry names, or None."""
    told = provider.lower() if isinstance(provider, str) else ""
    prefix = model.partition("/")[0].lower() if "/" in model else ""
    return next((name for name in (told, prefix) if name in RUNTIMES), None)


def toggles(env: Mapping[str, str]) -> list[str]:
    """Local-model toggles that are set in the environment, to warn of."""
    return [name for name in TOGGLES if env.get(name)]
