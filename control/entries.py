"""A model entry: the schema of the settings file's `models` and of the registry, and its secrets.

What integration receives as the body of a MODEL resource is exactly this document (only what was told), with literal
secrets sealed for the owner ("sealed:...") and "env:NAME" references as they are, plus `origin` and, from the registry,
`created` (Unix seconds).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit

from pydantic import Field, JsonValue, ValidationError, ValidationInfo, field_validator

from control import fields
from control.locals import LOCAL_MODEL, local_runtime
from kit.config import Section
from kit.config.masking import MASK
from kit.crypto import Keyring, is_sealed
from kit.errors import PlatformError

REFERENCE: Final = "env:"
_LITELLM_REFERENCE: Final = "os.environ/"
_SEALED: Final = "sealed:"
_SECRET = re.compile(r"(^|_)(api_key|key|secret|password|token|credentials?|authorization|private)$", re.IGNORECASE)
# Mappings of which every value is a secret until shown to be a reference.
_SECRET_MAPS: Final = frozenset({"extra_headers", "headers", "default_headers"})
_REFERENCE_NAME = re.compile(r"env:[A-Za-z_][A-Za-z0-9_]*")

TENANT_PARAMETERS: Final = frozenset(
    {
        "model",
        "api_base",
        "api_key",
        "api_version",
        "organization",
        "custom_llm_provider",
        "extra_headers",
        "allowed_openai_params",
        "input_cost_per_token",
        "output_cost_per_token",
    }
)
"""All that an entry of a tenant may tell LiteLLM: nothing that reads the platform's files or environment."""
# Providers that would log in as the platform itself when given no key.
AMBIENT: Final = ("bedrock", "sagemaker", "vertex_ai", "azure_ad", "sap", "watsonx")

Seconds = Annotated[float, Field(gt=0, le=3600)]


class Timeouts(Section):
    """How long one request to the provider may take, seconds."""

    connect_s: Seconds | None = None
    """Until the connection stands."""
    first_token_s: Seconds | None = None
    """Until the first token."""
    idle_s: Seconds | None = None
    """Longest silence between two chunks."""
    total_s: Seconds | None = None
    """The whole request."""


class Cooldown(Section):
    """When an alias is left alone: its breaker."""

    failures: int = Field(default=5, ge=1, le=1000)
    """Failures in a row that open it."""
    seconds: Seconds = 30.0
    """How long it stays open before one request tries again."""


class Entry(Section):
    """One alias."""

    alias: str
    """What clients ask for."""
    litellm: dict[str, JsonValue]
    """Parameters passed to LiteLLM: `model` ("provider/name"), `api_base`, `api_key`, ..."""
    mode: Literal["chat", "responses", "embedding", "chat+embedding"] = "chat"
    """What it is for."""
    context_window: Annotated[int, Field(ge=1, le=100_000_000)] | None = None
    """Tokens of prompt and answer together."""
    max_output_tokens: Annotated[int, Field(ge=1, le=100_000_000)] | None = None
    """Tokens of the longest answer."""
    fallbacks: Annotated[list[str], Field(max_length=20)] = Field(default=[])
    """Aliases tried in order when this one fails."""
    retries: Annotated[int, Field(ge=0, le=10)] | None = None
    """Further tries of this alias before the first fallback."""
    timeouts: Timeouts | None = None
    """How long it may take."""
    cooldown: Cooldown | None = None
    """When it is left alone."""

    @field_validator("alias")
    @classmethod
    def _alias_is_plain(cls, value: str) -> str:
        if not fields.is_alias(value):
            raise ValueError("must be 1 to 128 characters of A-Z, a-z, 0-9 and . _ : / @ + -")
        return value

    @field_validator("fallbacks")
    @classmethod
    def _fallbacks_are_aliases(cls, value: list[str], info: ValidationInfo) -> list[str]:
        for alias in value:
            if not fields.is_alias(alias):
                raise ValueError(f"{alias!r} is not an alias")
        if len(set(value)) != len(value):
            raise ValueError("an alias stands twice")
        if info.data.get("alias") in value:
            raise ValueError("an alias cannot fall back on itself")
        return value

    @field_validator("litellm")
    @classmethod
    def _litellm_is_complete(cls, value: dict[str, JsonValue]) -> dict[str, JsonValue]:
        model = value.get("model")
        if not isinstance(model, str) or not model.strip() or not model.isprintable():
            raise ValueError('needs "model", such as "openai/gpt-4o"')
        runtime = local_runtime(model, value.get("custom_llm_provider"))
        if runtime:
            raise ValueError(LOCAL_MODEL.format(runtime=runtime))
        _check_base(value.get("api_base"))
        for text in _texts(value):
            _check_text(text)
        return value

    def document(self) -> dict[str, Any]:
        """What was told, nothing more: the entry as it is stored and shown."""
        return self.model_dump(mode="json", exclude_unset=True)


def parse(document: Mapping[str, Any]) -> Entry:
    """The entry, checked. INVALID_ARGUMENT with the field's dotted name."""
    try:
        return Entry.model_validate(document)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(str(part) for part in first["loc"]) or "entry"
        raise PlatformError.invalid(field, problem_text(first)) from error


def problem_text(detail: Any) -> str:
    """A pydantic error's text for a person."""
    if detail["type"] == "extra_forbidden":
        return "Unknown field."
    return str(detail["msg"]).removeprefix("Value error, ")


def require_tenants(entry: Entry) -> None:
    """INVALID_ARGUMENT for what only entries of the platform may tell LiteLLM.

    References and ambient credentials are the platform's, and a tenant could send them to a server of its own.
    integration.models.entries refuses the same when it is called.
    """
    for name, value in entry.litellm.items():
        if name not in TENANT_PARAMETERS:
            raise PlatformError.invalid(f"litellm.{name}", "Only entries of the platform may tell this.")
        if any(text.startswith(REFERENCE) for text in _texts(value)):
            message = "Only entries of the platform may refer to the environment; send the secret itself."
            raise PlatformError.invalid(f"litellm.{name}", message)
    provider = str(entry.litellm.get("custom_llm_provider") or entry.litellm["model"]).partition("/")[0]
    if provider.startswith(AMBIENT):
        message = f"Only entries of the platform may use the provider {provider}, which can log in as the platform."
        raise PlatformError.invalid("litellm.model", message)


def sealed(
    document: Mapping[str, Any], keyring: Keyring, owner: str, former: Mapping[str, Any] | None
) -> dict[str, Any]:
    """The document with literal secrets sealed for the owner; a masked one keeps the former, sealed value."""
    before = (former or {}).get("litellm", {})

    def seal(path: tuple[str, ...], text: str) -> str:
        if text == MASK:
            kept = _at(before, path)
            if not isinstance(kept, str):
                raise PlatformError.invalid(".".join(("litellm", *path)), "Masked, but there is no value to keep.")
            return kept
        return text if text.startswith(REFERENCE) or is_sealed(text) else keyring.seal_text(owner, text)

    return {**document, "litellm": _map_secrets(document["litellm"], seal)}


def masked(document: Mapping[str, Any]) -> dict[str, Any]:
    """The document as it is shown: secrets masked, references told."""

    def hide(_: tuple[str, ...], text: str) -> str:
        return text if text.startswith(REFERENCE) else MASK

    return {**document, "litellm": _map_secrets(document.get("litellm", {}), hide)}


def opened(document: Mapping[str, Any], keyring: Keyring, owner: str) -> dict[str, Any]:
    """The document with its secrets in the clear; only to compare, never to show or to store."""
    return {
        **document,
        "litellm": _map_secrets(document.get("litellm", {}), lambda _, text: keyring.open_text(owner, text)),
    }


def cycle(graph: Mapping[str, Sequence[str]]) -> list[str] | None:
    """Aliases of a cycle of fallbacks in order, its first repeated at the end; None if there is none."""
    done: set[str] = set()
    for start in graph:
        path: list[str] = []
        stack: list[tuple[str, bool]] = [(start, False)]
        while stack:
            alias, leaving = stack.pop()
            if leaving:
                done.add(path.pop())
            elif alias in path:
                return [*path[path.index(alias) :], alias]
            elif alias not in done:
                path.append(alias)
                stack.append((alias, True))
                stack.extend((after, False) for after in reversed(graph.get(alias, ())))
    return None


def _map_secrets(value: Any, change: Callable[[tuple[str, ...], str], str], path: tuple[str, ...] = ()) -> Any:
    """A copy in which every non-empty text at a secret place is changed."""
    if isinstance(value, dict):
        return {key: _map_secrets(item, change, (*path, str(key))) for key, item in value.items()}
    if isinstance(value, list):
        return [_map_secrets(item, change, (*path, str(index))) for index, item in enumerate(value)]
    return change(path, value) if isinstance(value, str) and value and _is_secret(path) else value


def _is_secret(path: tuple[str, ...]) -> bool:
    names = [part for part in path if not part.isdigit()]
    return any(part in _SECRET_MAPS or _SECRET.search(part) for part in names)


def _at(value: Any, path: tuple[str, ...]) -> Any:
    for part in path:
        if isinstance(value, Mapping):
            value = value.get(part)
        elif isinstance(value, list) and part.isdigit() and int(part) < len(value):
            value = value[int(part)]
        else:
            return None
    return value


def _texts(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    items = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
    return [text for item in items for text in _texts(item)]


def _check_base(value: Any) -> None:
    if value is None or (isinstance(value, str) and _REFERENCE_NAME.fullmatch(value)):
        return
    if not isinstance(value, str):
        raise ValueError("api_base must be a URL")
    try:
        parts = urlsplit(value)
        _ = parts.port
    except ValueError as error:
        raise ValueError("api_base must be an http:// or https:// URL") from error
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("api_base must be an http:// or https:// URL")
    if parts.username or parts.password:
        raise ValueError("api_base must not hold credentials; use api_key or extra_headers")


def _check_text(text: str) -> None:
    if text.startswith(REFERENCE) and not _REFERENCE_NAME.fullmatch(text):
        raise ValueError(f"{text!r} is not a reference; write env:NAME")
    if text.startswith(_LITELLM_REFERENCE):
        raise ValueError("os.environ/NAME is not understood here; write env:NAME")
    if text.startswith(_SEALED):
        raise ValueError("a sealed text cannot be sent; send the secret, or the mask to keep it")
