"""What the settings file and the environment are turned into."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from control import sources
from control.locals import toggles
from control.registry import MODEL
from kit.config import ConfigError, load


def _models(tmp_path: Path, text: str = "", env: Mapping[str, str] | None = None) -> dict[str, dict[str, Any]]:
    return {item.name: dict(item.body) for item in _wanted(tmp_path, text, env) if item.kind == MODEL}


def _wanted(tmp_path: Path, text: str = "", env: Mapping[str, str] | None = None) -> list[sources.Wanted]:
    path = None
    if text:
        path = tmp_path / "settings.yaml"
        path.write_text(text)
    return sources.wanted(load(path, env or {}, {}), "oss")


def _layer(wanted: list[sources.Wanted], name: str) -> dict[str, Any]:
    return next(dict(item.body) for item in wanted if item.name == name)


def test_offline_is_always_there_and_is_the_default_where_nothing_else_is(tmp_path: Path) -> None:
    assert list(_models(tmp_path)) == ["offline"]
    assert _layer(_wanted(tmp_path), "environment")["preferences"]["default_model"] == "offline"


@pytest.mark.req("PR-003")
def test_openai_appears_from_its_variables_alone(tmp_path: Path) -> None:
    found = _models(tmp_path, env={"OPENAI_API_KEY": "sk", "OPENAI_BASE_URL": "http://host/v1"})
    assert list(found) == ["offline", "gpt-4o", "gpt-4o-mini", "text-embedding-3-small"]
    assert found["gpt-4o"]["litellm"] == {
        "model": "openai/gpt-4o",
        "api_base": "http://host/v1",
        "api_key": "env:OPENAI_API_KEY",
    }
    assert found["text-embedding-3-small"]["mode"] == "embedding"


@pytest.mark.req("PR-005")
def test_a_litellm_proxy_and_a_chain_from_their_variables(tmp_path: Path) -> None:
    env = {
        "LITELLM_BASE_URL": "http://proxy:4000",
        "LITELLM_API_KEY": "sk",
        "OPENAI_API_KEY": "other",
        "DEFAULT_MODEL": "team/best",
        "EMBEDDING_MODEL": "embed",
        "VISION_MODEL": "eyes",
        "MODEL_FALLBACK_CHAIN": "mid, small, offline",
    }
    found = _models(tmp_path, env=env)
    assert list(found) == ["offline", "team/best", "eyes", "mid", "small", "embed"]
    assert found["team/best"]["litellm"] == {
        "model": "openai/team/best",
        "api_base": "http://proxy:4000",
        "api_key": "env:LITELLM_API_KEY",
    }
    assert found["team/best"]["fallbacks"] == ["mid", "small", "offline"]
    assert found["mid"]["fallbacks"] == ["small", "offline"]
    assert _layer(_wanted(tmp_path, env=env), "environment")["preferences"]["default_model"] == "team/best"


def test_a_models_list_replaces_what_the_environment_would_make(tmp_path: Path) -> None:
    text = "models:\n  - alias: mine\n    litellm: {model: openai/x, api_key: 'env:KEY'}\n"
    found = _models(tmp_path, text, {"OPENAI_API_KEY": "sk"})
    assert list(found) == ["offline", "mine"]


@pytest.mark.parametrize(
    ("text", "line", "field"),
    [
        ("models:\n  - alias: a\n    litellm: {model: openai/x}\n    colour: 1\n", 4, "models.0.colour"),
        ("models:\n  - alias: a\n    litellm: {model: ollama/x}\n", 3, "models.0.litellm"),
        ("models:\n  - alias: a\n", 2, "models.0.litellm"),
        ("models: 7\n", 1, "models"),
        ("settings:\n  limits:\n    requests_per_minute: many\n", 3, "settings.limits.requests_per_minute"),
        ("settings:\n  nonsense: {}\n", 2, "settings.nonsense"),
        (
            "models:\n  - {alias: a, litellm: {model: openai/x}}\n  - {alias: a, litellm: {model: openai/x}}\n",
            3,
            "models.1.alias",
        ),
        (
            "models:\n  - {alias: a, litellm: {model: openai/x}, fallbacks: [b]}\n"
            "  - {alias: b, litellm: {model: openai/x}, fallbacks: [a]}\n",
            1,
            "models",
        ),
    ],
)
def test_an_invalid_file_names_line_and_field(tmp_path: Path, text: str, line: int, field: str) -> None:
    with pytest.raises(ConfigError) as caught:
        _wanted(tmp_path, text)
    origin, told, _ = caught.value.problems[0]
    assert (origin.rpartition(":")[2], told) == (str(line), field)


def test_an_unknown_profile_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="profiles are oss, enterprise"):
        sources.wanted(load(None, {}, {}), "deluxe")


def test_profiles_differ_in_how_long_old_settings_are_good_for() -> None:
    from control.profiles import defaults

    assert defaults("oss")["security"]["max_staleness_s"] == 86_400
    assert defaults("enterprise")["security"]["max_staleness_s"] == 900


@pytest.mark.req("PR-002")
def test_local_model_toggles_are_seen_to_be_warned_of() -> None:
    assert toggles({"OLLAMA_HOST": "x", "USE_LOCAL_MODEL": "", "PATH": "/"}) == ["OLLAMA_HOST"]
