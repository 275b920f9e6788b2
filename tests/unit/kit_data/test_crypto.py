"""Encryption at rest."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from kit.config import ConfigError
from kit.crypto import Keyring, MasterKey
from kit.errors import PlatformError, Reason


@pytest.mark.req("PR-028")
def test_what_is_sealed_opens_for_its_tenant_and_place_only(keyring: Keyring) -> None:
    key_id, sealed = keyring.seal("a", b"secret", b"run-1")
    assert b"secret" not in sealed
    assert keyring.open("a", key_id, sealed, b"run-1") == b"secret"
    attempts: list[Callable[[], bytes]] = [
        lambda: keyring.open("b", key_id, sealed, b"run-1"),
        lambda: keyring.open("a", key_id, sealed, b"run-2"),
        lambda: keyring.open("a", key_id, sealed[:-1] + b"x", b"run-1"),
        lambda: keyring.open("a", "unknown", sealed, b"run-1"),
        lambda: keyring.open("a", key_id, b"short", b"run-1"),
    ]
    for attempt in attempts:
        with pytest.raises(PlatformError) as caught:
            attempt()
        assert caught.value.reason is Reason.STORAGE_UNAVAILABLE


def test_after_a_rotation_the_new_key_seals_and_the_old_still_opens() -> None:
    old, new = MasterKey.of(b"o" * 32), MasterKey.of(b"n" * 32)
    key_id, sealed = Keyring([old]).seal("a", b"x")
    rotated = Keyring([new, old])
    assert rotated.open("a", key_id, sealed) == b"x"
    assert rotated.seal("a", b"x")[0] == new.key_id != key_id


def test_texts_are_sealed_as_texts(keyring: Keyring) -> None:
    sealed = keyring.seal_text("a", "sk-123")
    assert sealed.startswith(f"sealed:{keyring.key_id}:")
    assert keyring.open_text("a", sealed) == "sk-123"
    assert keyring.open_text("a", "env:NAME") == "env:NAME"
    with pytest.raises(PlatformError):
        keyring.open_text("a", "sealed:x:***")


def test_the_key_file_is_made_once_and_is_private(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        rings = list(pool.map(lambda _: Keyring.from_home(tmp_path), range(8)))
    assert len({ring.key_id for ring in rings}) == 1
    path = tmp_path / "keys" / "master.key"
    assert path.stat().st_mode & 0o777 == 0o600
    assert [entry.name for entry in path.parent.iterdir()] == ["master.key"]


def test_a_key_file_that_others_may_read_is_refused(tmp_path: Path) -> None:
    Keyring.from_home(tmp_path)
    path = tmp_path / "keys" / "master.key"
    path.chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        Keyring.from_home(tmp_path)


def test_a_key_file_that_is_no_key_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "k"
    for content in ("", "not base64!", "c2hvcnQ="):
        path.write_text(content)
        path.chmod(0o600)
        with pytest.raises(ConfigError):
            Keyring.from_file(path)
