"""The first start, and the key that follows FASTCHAT_BOOTSTRAP_KEY."""

from __future__ import annotations

import asyncio
import hashlib
import stat
from pathlib import Path

import pytest

from control.bootstrap import bootstrap, key_file
from control.changes import Changes
from control.store import Store
from fastchat.control.v1 import api_key_service_pb2 as pb
from kit.config import ConfigError
from kit.db import Database
from kit.db.migrate import upgrade
from kit.errors import Reason
from tests.unit.control.running import EDGE, Control, refused, serving


async def _record(control: Control, key: str) -> pb.ApiKey:
    key_hash = hashlib.sha256(key.encode()).hexdigest()
    found = await control.acting(EDGE).keys.LookupApiKey(pb.LookupApiKeyRequest(key_hash=key_hash))
    assert isinstance(found.api_key, pb.ApiKey)
    return found.api_key


async def test_a_generated_key_is_kept_for_the_owner_alone_and_stays(tmp_path: Path, database_url: str) -> None:
    keys = []
    for _ in range(2):
        async with serving(tmp_path, url=database_url) as control:
            keys.append(key_file(tmp_path).read_text().strip())
            record = await _record(control, keys[-1])
            assert list(record.scopes) == ["chat", "admin", "platform"]
            assert not record.HasField("revoke_time")
    assert keys[0] == keys[1]
    assert stat.S_IMODE(key_file(tmp_path).stat().st_mode) == 0o600


async def test_a_told_key_is_valid_and_writes_no_file(tmp_path: Path) -> None:
    async with serving(tmp_path, env={"ADMIN_API_KEY": "fc-told-by-the-operator"}) as control:
        record = await _record(control, "fc-told-by-the-operator")
        assert (record.tenant_id, list(record.roles)) == ("default", ["admin"])
        assert record.prefix == "fc-to"
    assert not key_file(tmp_path).exists()


async def test_a_new_value_replaces_the_former_key_and_may_come_back(tmp_path: Path, database_url: str) -> None:
    first, second = "fc-first-key-of-the-operator", "fc-second-key-of-the-operator"
    for valid, revoked in ((first, None), (second, first), (first, second)):
        async with serving(tmp_path, url=database_url, env={"FASTCHAT_BOOTSTRAP_KEY": valid}) as control:
            assert not (await _record(control, valid)).HasField("revoke_time")
            if revoked:
                assert (await _record(control, revoked)).HasField("revoke_time")


async def test_a_told_key_that_was_revoked_stays_revoked(tmp_path: Path) -> None:
    env = {"FASTCHAT_BOOTSTRAP_KEY": "fc-told-by-the-operator"}
    async with serving(tmp_path, env=env) as control:
        record = await _record(control, env["FASTCHAT_BOOTSTRAP_KEY"])
        await control.acting().keys.RevokeApiKey(pb.RevokeApiKeyRequest(tenant_id="default", id=record.id))
    async with serving(tmp_path, env=env) as control:
        assert (await _record(control, env["FASTCHAT_BOOTSTRAP_KEY"])).HasField("revoke_time")


@pytest.mark.parametrize("key", ["two words", "line\nbreak", "ünïcode", "x" * 600])
async def test_a_key_that_cannot_be_sent_is_refused(tmp_path: Path, key: str) -> None:
    with pytest.raises(ConfigError, match="FASTCHAT_BOOTSTRAP_KEY"):
        async with serving(tmp_path, env={"FASTCHAT_BOOTSTRAP_KEY": key}):
            pass


async def test_replicas_that_start_at_once_agree_on_one_key(tmp_path: Path, postgres_dsn: str) -> None:
    await upgrade("control", postgres_dsn)
    async with await Database.open(postgres_dsn, "control", home=tmp_path) as database:
        changes = Changes(Store(database), lambda _: None)
        results = await asyncio.gather(*(bootstrap(changes, tmp_path, {}) for _ in range(4)))
    assert [result.first_start for result in results].count(True) == 1
    assert [result.key for result in results if result.key] == [key_file(tmp_path).read_text().strip()]


async def test_a_crash_after_the_file_was_written_leaves_the_key_usable(tmp_path: Path) -> None:
    key_file(tmp_path).parent.mkdir(parents=True, exist_ok=True)
    key_file(tmp_path).write_text("fc-" + "a" * 43 + "\n")
    key_file(tmp_path).chmod(0o600)
    async with serving(tmp_path) as control:
        assert not (await _record(control, "fc-" + "a" * 43)).HasField("revoke_time")
        with refused(Reason.NOT_FOUND):
            await _record(control, "fc-" + "b" * 43)
