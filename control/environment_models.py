"""Model entries that appear by themselves: `offline` always, others from the environment."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

OFFLINE: Final[Mapping[str, Any]] = {
    "alias": "offline",
    "litellm": {"model": "offline/offline"},
    "mode": "chat+embedding",
    "context_window": 128_000,
    "max_output_tokens": 16_384,
}
"""The deterministic stand-in of integration: works without a key, and says what it is in its answers."""

_CHAT: Final = ("gpt-4o", "gpt-4o-mini")
_EMBEDDING: Final = "text-embedding-3-small"
_OPENAI: Final = "openai"


def entries(env: Mapping[str, str]) -> list[dict[str, Any]]:
    """Entries for what the environment tells, in order of preference; [] when it tells of no provider.

    OPENAI_API_KEY / OPENAI_BASE_URL name OpenAI or a server like it, LITELLM_BASE_URL / LITELLM_API_KEY a LiteLLM proxy
    (which then serves everything). DEFAULT_MODEL, VISION_MODEL, EMBEDDING_MODEL and MODEL_FALLBACK_CHAIN (aliases
    separated by commas) name the models; without them, OpenAI's usual ones.
    """
    if not any(env.get(name) for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "LITELLM_BASE_URL")):
        return []
    target = _target(env)
    chain = _names(env.get("MODEL_FALLBACK_CHAIN", ""))
    chat = [*_names(env.get("DEFAULT_MODEL", "")), *_names(env.get("VISION_MODEL", "")), *chain]
    made = {name: _entry(name, target, fallbacks=_after(name, chain)) for name in chat or _CHAT if name != "offline"}
    for name in _names(env.get("EMBEDDING_MODEL", "")) or [_EMBEDDING]:
        if name != "offline":
            made.setdefault(name, _entry(name, target, mode="embedding"))
    return list(made.values())


def _entry(name: str, target: Mapping[str, str], **more: Any) -> dict[str, Any]:
    # A proxy or a server of one's own has its own names: "a/b" is one of them there, a provider's elsewhere.
    model = name if "/" in name and "api_base" not in target else f"{_OPENAI}/{name.removeprefix('openai/')}"
    told = {key: value for key, value in more.items() if value}
    return {"alias": name, "litellm": {"model": model, **target}, **told}


def _target(env: Mapping[str, str]) -> dict[str, str]:
    """Address and key: of the LiteLLM proxy if there is one. The key stays a reference."""
    if env.get("LITELLM_BASE_URL"):
        found = {"api_base": env["LITELLM_BASE_URL"]}
        names: tuple[str, ...] = ("LITELLM_API_KEY", "OPENAI_API_KEY")
    else:
        found = {"api_base": env["OPENAI_BASE_URL"]} if env.get("OPENAI_BASE_URL") else {}
        names = ("OPENAI_API_KEY",)
    key = next((name for name in names if env.get(name)), "")
    return {**found, "api_key": f"env:{key}"} if key else found


def _after(name: str, chain: list[str]) -> list[str]:
    """Fallbacks of an alias: what follows it in the chain; the whole chain for one that is not in it."""
    return chain[chain.index(name) + 1 :] if name in chain else chain


def _names(text: str) -> list[str]:
    return list(dict.fromkeys(_parts(text)))


def _parts(text: str) -> Iterator[str]:
    for part in text.strip().strip("[]").split(","):
        name = part.strip().strip("\"'")
        if name:
            yield name
