"""Model entries: schema, secrets, circles of fallbacks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from control import entries
from kit.config.masking import MASK
from kit.crypto import Keyring, is_sealed
from kit.errors import PlatformError, Reason


def _document(**more: Any) -> dict[str, Any]:
    return {"alias": "gpt-4o", "litellm": {"model": "openai/gpt-4o", "api_key": "sk-secret"}, **more}


@pytest.fixture
def keyring(tmp_path: Path) -> Keyring:
    """A keyring of its own."""
    return Keyring.from_home(tmp_path)


@pytest.mark.req("PR-003")
def test_an_entry_keeps_what_was_told_and_nothing_more() -> None:
    document = _document(
        mode="chat", context_window=128_000, fallbacks=["offline"], retries=2, timeouts={"first_token_s": 20}
    )
    assert entries.parse(document).document() == document


@pytest.mark.parametrize(
    ("document", "field"),
    [
        ({"litellm": {"model": "openai/x"}}, "alias"),
        (_document(alias="two words"), "alias"),
        (_document(alias=""), "alias"),
        (_document(litellm={}), "litellm"),
        (_document(litellm={"model": 7}), "litellm"),
        (_document(litellm={"model": "openai/x", "api_base": "ftp://x"}), "litellm"),
        (_document(litellm={"model": "openai/x", "api_base": "http://user:pw@host/v1"}), "litellm"),
        (_document(litellm={"model": "openai/x", "api_key": "env:no name"}), "litellm"),
        (_document(litellm={"model": "openai/x", "api_key": "os.environ/SECRET"}), "litellm"),
        (_document(litellm={"model": "openai/x", "api_key": "sealed:1:abcd"}), "litellm"),
        (_document(mode="speech"), "mode"),
        (_document(context_window=0), "context_window"),
        (_document(retries=11), "retries"),
        (_document(timeouts={"total_s": -1}), "timeouts.total_s"),
        (_document(fallbacks=["gpt-4o"]), "fallbacks"),
        (_document(fallbacks=["a", "a"]), "fallbacks"),
        (_document(colour="blue"), "colour"),
    ],
)
def test_a_wrong_entry_is_refused_with_the_field_that_is_wrong(document: dict[str, Any], field: str) -> None:
    with pytest.raises(PlatformError) as caught:
        entries.parse(document)
    assert caught.value.reason is Reason.INVALID_ARGUMENT
    assert caught.value.metadata["field"] == field


@pytest.mark.req("PR-002")
@pytest.mark.parametrize(
    "litellm",
    [
        {"model": "ollama/llama3"},
        {"model": "ollama_chat/llama3", "api_base": "http://127.0.0.1:11434"},
        {"model": "vllm/mistral"},
        {"model": "llama3", "custom_llm_provider": "Ollama"},
    ],
)
def test_a_local_model_is_refused_with_a_warning_that_names_the_way_out(litellm: dict[str, Any]) -> None:
    with pytest.raises(PlatformError, match=r"deprecated and refused.*PR-002.*openai/<name>"):
        entries.parse(_document(litellm=litellm))


@pytest.mark.req("PR-002")
def test_a_server_that_speaks_openai_is_an_ordinary_provider_wherever_it_runs() -> None:
    litellm = {"model": "openai/llama3", "api_base": "http://127.0.0.1:11434/v1"}
    assert entries.parse(_document(litellm=litellm)).litellm == litellm


def test_secrets_are_sealed_references_stay(keyring: Keyring) -> None:
    litellm = {
        "model": "azure/x",
        "api_key": "env:AZURE_KEY",
        "client_secret": "hidden",
        "extra_headers": {"x-team": "hidden too", "x-other": "env:OTHER"},
        "vertex_credentials": {"inner": "hidden as well"},
        "api_version": "2025-01-01",
    }
    stored = entries.sealed(_document(litellm=litellm), keyring, "acme", None)["litellm"]
    assert stored["api_key"] == "env:AZURE_KEY"
    assert stored["api_version"] == "2025-01-01"
    assert all(
        is_sealed(text)
        for text in (stored["client_secret"], stored["extra_headers"]["x-team"], stored["vertex_credentials"]["inner"])
    )
    assert "hidden" not in str(stored)
    assert entries.opened({"litellm": stored}, keyring, "acme")["litellm"] == litellm
    shown = entries.masked({"litellm": stored})["litellm"]
    assert shown["client_secret"] == shown["extra_headers"]["x-team"] == MASK
    assert shown["extra_headers"]["x-other"] == "env:OTHER"


def test_the_mask_keeps_a_secret_and_means_nothing_where_there_was_none(keyring: Keyring) -> None:
    former = entries.sealed(_document(), keyring, "", None)
    kept = entries.sealed(_document(litellm={"model": "openai/x", "api_key": MASK}), keyring, "", former)
    assert keyring.open_text("", kept["litellm"]["api_key"]) == "sk-secret"
    with pytest.raises(PlatformError) as caught:
        entries.sealed(_document(litellm={"model": "openai/x", "api_key": MASK}), keyring, "", None)
    assert caught.value.metadata["field"] == "litellm.api_key"


@pytest.mark.req("PR-005")
@pytest.mark.parametrize(
    ("graph", "circle"),
    [
        ({}, None),
        ({"a": ["b", "c"], "b": ["c"], "c": []}, None),
        ({"a": ["unknown"]}, None),
        ({"a": ["b"], "b": ["a"]}, ["a", "b", "a"]),
        ({"x": ["a"], "a": ["b"], "b": ["c"], "c": ["a"]}, ["a", "b", "c", "a"]),
    ],
)
def test_circles_of_fallbacks_are_found(graph: dict[str, list[str]], circle: list[str] | None) -> None:
    assert entries.cycle(graph) == circle
