"""ModelRegistryService, on both engines, and the reload of the settings file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fastchat.control.v1 import model_registry_service_pb2 as pb
from fastchat.control.v1.settings_service_pb2 import ResourceKind
from kit.config.masking import MASK
from kit.crypto import is_sealed
from kit.errors import PlatformError, Reason
from kit.settings import SettingsCache, watch_settings
from tests.unit.control.running import Control, refused, serving, watching
from tests.unit.control.waiting import until

_MODEL = ResourceKind.RESOURCE_KIND_MODEL


def _entry(alias: str, **litellm: Any) -> str:
    return json.dumps({"alias": alias, "litellm": {"model": f"openai/{alias}", **litellm}})


async def _aliases(control: Control, tenant_id: str = "") -> dict[str, pb.ModelEntry]:
    found = await control.acting().models.ListModelEntries(pb.ListModelEntriesRequest(tenant_id=tenant_id))
    return {entry.alias: entry for entry in found.entries}


@pytest.mark.req("PR-003")
async def test_an_entry_is_made_read_changed_and_removed(control: Control) -> None:
    models = control.acting().models
    made = (await models.CreateModelEntry(pb.CreateModelEntryRequest(entry_json=_entry("best", api_key="sk-1")))).entry
    assert made.origin == pb.ENTRY_ORIGIN_REGISTRY
    assert json.loads(made.entry_json)["litellm"] == {"model": "openai/best", "api_key": MASK}
    assert (await models.GetModelEntry(pb.GetModelEntryRequest(alias="best"))).entry == made
    with refused(Reason.ALREADY_EXISTS, resource="model_entry", id="best"):
        await models.CreateModelEntry(pb.CreateModelEntryRequest(entry_json=_entry("best")))
    changed = await models.UpdateModelEntry(
        pb.UpdateModelEntryRequest(alias="best", entry_json=_entry("best", api_key="env:KEY"), etag=made.etag)
    )
    assert json.loads(changed.entry.entry_json)["litellm"]["api_key"] == "env:KEY"
    with refused(Reason.ETAG_MISMATCH, etag=changed.entry.etag):
        await models.DeleteModelEntry(pb.DeleteModelEntryRequest(alias="best", etag=made.etag))
    await models.DeleteModelEntry(pb.DeleteModelEntryRequest(alias="best", etag=changed.entry.etag))
    with refused(Reason.NOT_FOUND, resource="model_entry", id="best"):
        await models.GetModelEntry(pb.GetModelEntryRequest(alias="best"))


@pytest.mark.req("PR-028")
async def test_a_secret_is_told_to_services_sealed_and_kept_by_its_mask(control: Control) -> None:
    models = control.acting().models
    await models.CreateModelEntry(pb.CreateModelEntryRequest(entry_json=_entry("best", api_key="sk-1")))
    await models.UpdateModelEntry(
        pb.UpdateModelEntryRequest(alias="best", entry_json=_entry("best", api_key=MASK, timeout=5))
    )
    async with watching(control, watch_settings, SettingsCache()) as cache:
        await until(lambda: cache.get(_MODEL, "", "best") is not None)
        resource = cache.get(_MODEL, "", "best")
        assert resource is not None
        body = json.loads(resource.body_json)
    assert body["origin"] == "registry"
    assert body["litellm"]["timeout"] == 5
    assert is_sealed(body["litellm"]["api_key"])
    assert control.mesh.keyring.open_text("", body["litellm"]["api_key"]) == "sk-1"


@pytest.mark.parametrize(
    ("document", "field"),
    [
        ("[]", "entry"),
        ('{"alias": "x"}', "litellm"),
        ('{"alias": "x", "litellm": {"model": "ollama/y"}}', "litellm"),
        ('{"alias": "x", "litellm": {"model": "openai/y", "api_key": "**********"}}', "litellm.api_key"),
    ],
)
async def test_a_wrong_entry_is_refused(sqlite_control: Control, document: str, field: str) -> None:
    with refused(Reason.INVALID_ARGUMENT, field=field):
        await sqlite_control.acting().models.CreateModelEntry(pb.CreateModelEntryRequest(entry_json=document))


@pytest.mark.req("PR-005")
async def test_fallbacks_may_name_what_comes_later_but_never_a_circle(control: Control) -> None:
    await control.model("", "a", fallbacks=["b"])
    with refused(Reason.INVALID_ARGUMENT, field="fallbacks"):
        await control.model("", "b", fallbacks=["a"])
    await control.model("", "b", fallbacks=["offline"])
    await control.tenant("acme")
    with refused(Reason.INVALID_ARGUMENT, field="fallbacks"):
        await control.model("acme", "b", fallbacks=["a"])


@pytest.mark.req("PR-030")
async def test_a_tenant_has_entries_of_its_own_and_sees_little_of_the_platforms(control: Control) -> None:
    acme, rival = await control.tenant("acme"), await control.tenant("rival")
    await control.acting().models.CreateModelEntry(
        pb.CreateModelEntryRequest(entry_json=_entry("shared", api_base="http://inside:1/v1", api_key="sk"))
    )
    await acme.models.CreateModelEntry(pb.CreateModelEntryRequest(tenant_id="acme", entry_json=_entry("own")))
    mine = await acme.models.ListModelEntries(pb.ListModelEntriesRequest(tenant_id="acme"))
    assert [entry.alias for entry in mine.entries] == ["offline", "own", "shared"]
    shared = await acme.models.GetModelEntry(pb.GetModelEntryRequest(tenant_id="acme", alias="shared"))
    assert json.loads(shared.entry.entry_json)["litellm"] == {"model": "openai/shared"}
    theirs = await rival.models.ListModelEntries(pb.ListModelEntriesRequest(tenant_id="rival"))
    assert "own" not in [entry.alias for entry in theirs.entries]
    for verb, request in (
        ("GetModelEntry", pb.GetModelEntryRequest(tenant_id="rival", alias="*")),
        ("DeleteModelEntry", pb.DeleteModelEntryRequest(tenant_id="rival", alias="*")),
    ):
        answers = []
        for alias in ("own", "absent"):
            request.alias = alias
            with pytest.raises(PlatformError) as caught:
                await getattr(rival.models, verb)(request)
            answers.append((caught.value.reason, caught.value.message.replace(alias, "*")))
        assert answers[0] == answers[1]
    with refused(Reason.MISSING_SCOPE, scope="platform"):
        await acme.models.CreateModelEntry(pb.CreateModelEntryRequest(entry_json=_entry("everybodys")))


@pytest.mark.req("PR-030")
@pytest.mark.parametrize(
    ("litellm", "field"),
    [
        ({"api_base": "http://evil/v1", "api_key": "env:OPENAI_API_KEY"}, "litellm.api_key"),
        ({"extra_headers": {"x": "env:HOME"}}, "litellm.extra_headers"),
        ({"vertex_credentials": "/etc/passwd"}, "litellm.vertex_credentials"),
        ({"model": "bedrock/claude"}, "litellm.model"),
    ],
)
async def test_a_tenants_entry_cannot_use_what_is_the_platforms(
    sqlite_control: Control, litellm: dict[str, Any], field: str
) -> None:
    acme = await sqlite_control.tenant("acme")
    with refused(Reason.INVALID_ARGUMENT, field=field):
        await acme.models.CreateModelEntry(
            pb.CreateModelEntryRequest(tenant_id="acme", entry_json=_entry("x", **litellm))
        )


async def test_entries_are_listed_by_pages_in_order_of_alias(control: Control) -> None:
    for alias in ("c", "a", "b"):
        await control.model("", alias)
    models, token, found = control.acting().models, "", []
    while True:
        page = await models.ListModelEntries(pb.ListModelEntriesRequest(page_size=2, page_token=token))
        found += [entry.alias for entry in page.entries]
        token = page.next_page_token
        if not token:
            break
    assert found == ["a", "b", "c", "offline"]


async def test_what_file_and_environment_tell_is_shown_and_read_only(tmp_path: Path, database_url: str) -> None:
    settings = tmp_path / "settings.yaml"
    settings.write_text("models:\n  - {alias: mine, litellm: {model: openai/x, api_key: sk-literal}}\n")
    async with serving(tmp_path / "home", url=database_url, settings=settings) as control:
        found = await _aliases(control)
        assert {alias: entry.origin for alias, entry in found.items()} == {
            "mine": pb.ENTRY_ORIGIN_FILE,
            "offline": pb.ENTRY_ORIGIN_ENVIRONMENT,
        }
        assert json.loads(found["mine"].entry_json)["litellm"]["api_key"] == MASK
        for alias in ("mine", "offline"):
            with refused(Reason.CONFLICT, id=alias):
                await control.acting().models.DeleteModelEntry(pb.DeleteModelEntryRequest(alias=alias))
            with refused(Reason.ALREADY_EXISTS, id=alias):
                await control.model("", alias)


@pytest.mark.req("PR-003")
async def test_a_changed_file_counts_without_a_restart_and_an_invalid_one_does_not(tmp_path: Path) -> None:
    settings = tmp_path / "settings.yaml"
    one, two = (f"models:\n  - {{alias: {alias}, litellm: {{model: openai/x}}}}\n" for alias in ("one", "two"))
    settings.write_text(one)
    env = {"FASTCHAT_CONTROL__RELOAD_S": "0.02"}
    async with serving(tmp_path / "home", settings=settings, env=env) as control:
        before = await _aliases(control)
        settings.write_text("models:\n  - {alias: bad}\n")
        await until(lambda: not control.health["settings file"].ok)
        assert "settings.yaml:2: models.0.litellm: Field required" in control.health["settings file"].detail
        assert await _aliases(control) == before
        settings.write_text(two)
        await until(lambda: control.health["settings file"].ok)
        assert sorted(await _aliases(control)) == ["offline", "two"]


async def test_a_restart_with_the_same_file_changes_nothing(tmp_path: Path) -> None:
    settings = tmp_path / "settings.yaml"
    settings.write_text("models:\n  - {alias: mine, litellm: {model: openai/x, api_key: sk-literal}}\n")
    etags = []
    for _ in range(2):
        async with serving(tmp_path / "home", settings=settings) as control:
            etags.append({alias: entry.etag for alias, entry in (await _aliases(control)).items()})
    assert etags[0] == etags[1]


async def test_the_registry_hides_a_files_entry_until_its_own_is_removed(tmp_path: Path) -> None:
    settings = tmp_path / "settings.yaml"
    settings.write_text("models: []\n")
    env = {"FASTCHAT_CONTROL__RELOAD_S": "0.02"}
    async with serving(tmp_path / "home", settings=settings, env=env) as control:
        await control.model("", "mine")
        settings.write_text(
            "models:\n  - {alias: mine, litellm: {model: openai/file}}\n  - {alias: b, litellm: {model: x}}\n"
        )
        await _until_listed(control, "b")
        assert (await _aliases(control))["mine"].origin == pb.ENTRY_ORIGIN_REGISTRY
        await control.acting().models.DeleteModelEntry(pb.DeleteModelEntryRequest(alias="mine"))
        await _until_listed(control, "mine", "file")
        assert (await _aliases(control))["mine"].origin == pb.ENTRY_ORIGIN_FILE


async def _until_listed(control: Control, alias: str, origin: str = "") -> None:
    def listed() -> bool:
        found = cache.get(_MODEL, "", alias)
        return found is not None and (not origin or json.loads(found.body_json)["origin"] == origin)

    async with watching(control, watch_settings, SettingsCache()) as cache:
        await until(listed)
