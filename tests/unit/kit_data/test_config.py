"""Layered configuration: who wins, where a value came from, and what an error says."""

from pathlib import Path

import pytest
from pydantic import SecretStr

from kit.config import ConfigError, Loaded, Section, load


class Nested(Section):
    """A section in a section."""

    a: int = 1
    b: int = 2


class Cors(Section):
    """Where the original's CORS_ORIGINS goes."""

    origins: tuple[str, ...] = ()


class Edge(Section):
    """A section as services declare them."""

    host: str = "127.0.0.1"
    port: int = 8080
    cors: Cors = Cors()
    addresses: dict[str, str] = {}  # noqa: RUF012  # pydantic copies it
    nested: Nested = Nested()
    key: SecretStr = SecretStr("hidden")


class Entry(Section):
    """An item of a list section."""

    alias: str


def loaded(tmp_path: Path, text: str, **env: str) -> Loaded:
    path = tmp_path / "fastchat.yaml"
    path.write_text(text)
    return load(path, env, {"edge": Edge, "models": list[Entry]})


def problem(tmp_path: Path, text: str, **env: str) -> str:
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, text, **env)
    return str(caught.value).replace(str(tmp_path), "")


def test_environment_wins_over_file_over_defaults(tmp_path: Path) -> None:
    edge = loaded(tmp_path, "edge: {host: a, port: 1}", FASTCHAT_EDGE__PORT="2").section("edge", Edge)
    assert (edge.host, edge.port, edge.nested.b) == ("a", 2, 2)


def test_origins_name_default_file_line_and_variable(tmp_path: Path) -> None:
    found = loaded(
        tmp_path, "edge:\n  host: a\n  nested:\n    a: 5\n", FASTCHAT_EDGE__ADDRESSES__CONTROL="unix:/x"
    ).origins()
    path = str(tmp_path / "fastchat.yaml")
    assert found["edge.host"] == f"{path}:2"
    assert found["edge.nested.a"] == f"{path}:4"
    assert found["edge.nested.b"] == "default"
    assert found["edge.addresses.control"] == "env:FASTCHAT_EDGE__ADDRESSES__CONTROL"


def test_lists_in_variables_are_json_or_separated_by_commas(tmp_path: Path) -> None:
    for text in ("a, b", '["a", "b"]'):
        edge = loaded(tmp_path, "", FASTCHAT_EDGE__CORS__ORIGINS=text).section("edge", Edge)
        assert edge.cors.origins == ("a", "b")


def test_names_of_the_original_are_honoured(tmp_path: Path) -> None:
    found = loaded(tmp_path, "", CORS_ORIGINS="https://a", DEFAULT_MODEL="gpt-4o", ADMIN_API_KEY="k")
    assert found.section("edge", Edge).cors.origins == ("https://a",)
    assert found.raw("settings") == {"preferences": {"default_model": "gpt-4o"}}
    assert found.env["FASTCHAT_BOOTSTRAP_KEY"] == "k"


def test_new_names_win_over_those_of_the_original(tmp_path: Path) -> None:
    found = loaded(
        tmp_path,
        "",
        CORS_ORIGINS="https://a",
        FASTCHAT_EDGE__CORS__ORIGINS="https://b",
        ADMIN_API_KEY="old",
        FASTCHAT_BOOTSTRAP_KEY="new",
    )
    assert found.section("edge", Edge).cors.origins == ("https://b",)
    assert found.env["FASTCHAT_BOOTSTRAP_KEY"] == "new"


def test_secrets_are_masked_in_what_is_shown(tmp_path: Path) -> None:
    text = "models: [{alias: a}]\nsettings: {api_key: sk-1, url: 'postgresql://me:pw@host/db', ref: 'env:NAME'}"
    path = tmp_path / "fastchat.yaml"
    path.write_text(text)
    shown = load(path, {}, {"edge": Edge}).effective()
    assert shown["edge.key"] == "**********"
    assert shown["settings.api_key"] == "**********"
    assert shown["settings.url"] == "postgresql://me:**********@host/db"
    assert shown["settings.ref"] == "env:NAME"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("edge:\n  prt: 3\n", "/fastchat.yaml:2: edge.prt: unknown setting"),
        ("edge:\n  port: x\n", "/fastchat.yaml:2: edge.port: Input should be a valid integer"),
        ("edge:\n  nested:\n    c: 1\n", "/fastchat.yaml:3: edge.nested.c: unknown setting"),
        ("egde: {}\n", "/fastchat.yaml:1: egde: unknown section; known are edge, models, settings"),
        ("edge:\n  port: 1\n  port: 2\n", "/fastchat.yaml:3: edge.port: is already set on line 2"),
        ("edge: [\n", "/fastchat.yaml:2: not valid YAML"),
        ("- a\n", "/fastchat.yaml:1: the file must be a mapping of sections"),
        ("models:\n  - alias: a\n  - alais: b\n", "/fastchat.yaml:3: models.1.alais: unknown setting"),
        ("models:\n  - alias: a\n  - {}\n", "/fastchat.yaml:3: models.1.alias: Field required"),
        ("a: &x\n  b: *x\n", "/fastchat.yaml:1: an alias may not contain itself"),
    ],
)
def test_an_error_names_file_line_and_field(tmp_path: Path, text: str, expected: str) -> None:
    assert expected in problem(tmp_path, text)


def test_an_error_of_a_variable_names_the_variable(tmp_path: Path) -> None:
    assert problem(tmp_path, "edge: {port: 1}", FASTCHAT_EDGE__PORT="x").startswith(
        "env:FASTCHAT_EDGE__PORT: edge.port: Input should be a valid integer"
    )
    told = problem(tmp_path, "", FASTCHAT_EDGE__NESTE__A="1")
    assert told == "env:FASTCHAT_EDGE__NESTE__A: edge.neste: unknown setting"
    assert "env:FASTCHAT_EGDE__PORT: unknown setting" in problem(tmp_path, "", FASTCHAT_EGDE__PORT="1")


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    assert len(problem(tmp_path, "edge:\n  prt: 1\n  port: x\n").splitlines()) == 2


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot be read: No such file"):
        load(tmp_path / "absent.yaml", {}, {})
