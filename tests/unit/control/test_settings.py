"""Settings layers: GetSettings and UpdateSettings, on both engines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fastchat.control.v1 import settings_service_pb2 as pb
from fastchat.control.v1 import tenant_service_pb2 as tenants_pb
from kit.config import ConfigError
from kit.errors import Reason
from tests.unit.control.running import Control, Stubs, admin_of, refused, serving


async def _update(stubs: Stubs, tenant_id: str, document: dict[str, Any], **more: str) -> pb.UpdateSettingsResponse:
    request = pb.UpdateSettingsRequest(tenant_id=tenant_id, settings_json=json.dumps(document), **more)
    stored: pb.UpdateSettingsResponse = await stubs.settings.UpdateSettings(request)
    return stored


async def _get(stubs: Stubs, tenant_id: str, **more: Any) -> pb.GetSettingsResponse:
    found: pb.GetSettingsResponse = await stubs.settings.GetSettings(pb.GetSettingsRequest(tenant_id=tenant_id, **more))
    return found


@pytest.mark.req("PR-004")
@pytest.mark.req("13.1")
async def test_layers_merge_and_each_field_tells_who_decided_it(control: Control) -> None:
    acme = await control.tenant("acme")
    await _update(acme, "acme", {"limits": {"requests_per_minute": 60, "allowed_models": ["gpt-*"]}})
    await _update(
        acme,
        "acme",
        {"limits": {"requests_per_minute": 600, "allowed_models": ["*-mini"]}, "preferences": {"events": "off"}},
        workspace_id="default",
    )
    found = await _get(acme, "acme", workspace_id="default")
    values, origins = json.loads(found.settings_json), json.loads(found.origins_json)
    assert values["limits"]["requests_per_minute"] == 60
    assert origins["limits.requests_per_minute"] == "tenant"
    assert origins["limits.allowed_models"] == "tenant+workspace"
    assert (values["preferences"]["events"], origins["preferences.events"]) == ("off", "workspace")
    assert origins["security.max_staleness_s"] == "defaults"
    assert (values["preferences"]["default_model"], origins["preferences.default_model"]) == ("offline", "environment")


async def test_a_layer_is_replaced_under_its_version(control: Control) -> None:
    acme = await control.tenant("acme")
    none_yet = await _get(acme, "acme", layer=pb.SETTINGS_LAYER_TENANT)
    assert (none_yet.settings_json, none_yet.etag) == ("{}", "0")
    stored = await _update(acme, "acme", {"limits": {"concurrent_streams": 3}}, etag="0")
    read = await _get(acme, "acme", layer=pb.SETTINGS_LAYER_TENANT)
    assert (json.loads(read.settings_json), read.etag) == ({"limits": {"concurrent_streams": 3}}, stored.etag)
    with refused(Reason.ETAG_MISMATCH, etag=stored.etag):
        await _update(acme, "acme", {}, etag="0")
    await _update(acme, "acme", {}, etag=stored.etag)
    assert (await _get(acme, "acme", layer=pb.SETTINGS_LAYER_TENANT)).settings_json == "{}"


@pytest.mark.parametrize(
    ("document", "field"),
    [
        ({"limits": {"requests_per_minute": "many"}}, "limits.requests_per_minute"),
        ({"limits": {"nonsense": 1}}, "limits.nonsense"),
        ({"preferences": {"events": "loud"}}, "preferences.events"),
        ({"security": {"jwt": [{"issuer": "https://x", "scopes": ["platform"]}]}}, "security.jwt.0.scopes"),
    ],
)
async def test_a_wrong_field_is_named(sqlite_control: Control, document: dict[str, Any], field: str) -> None:
    with refused(Reason.INVALID_ARGUMENT, field=field):
        await _update(sqlite_control.acting(), "default", document)


async def test_a_document_that_is_no_object_or_too_large_is_refused(sqlite_control: Control) -> None:
    settings = sqlite_control.acting().settings
    with refused(Reason.INVALID_ARGUMENT, field="settings"):
        await settings.UpdateSettings(pb.UpdateSettingsRequest(tenant_id="default", settings_json="[1]"))
    with refused(Reason.PAYLOAD_TOO_LARGE):
        await settings.UpdateSettings(pb.UpdateSettingsRequest(tenant_id="default", settings_json=" " * 70_000))


@pytest.mark.req("PR-030")
async def test_a_workspaces_admin_changes_its_own_layer_and_not_the_tenants(control: Control) -> None:
    acme = await control.tenant("acme")
    await acme.tenants.CreateWorkspace(tenants_pb.CreateWorkspaceRequest(tenant_id="acme", id="lab", name="Lab"))
    lab = control.acting(admin_of("acme", workspace_id="lab"))
    await _update(lab, "acme", {"preferences": {"events": "off"}}, workspace_id="lab")
    with refused(Reason.POLICY_DENIED, rule="workspace-bound"):
        await _update(lab, "acme", {"limits": {}})
    with refused(Reason.NOT_FOUND, resource="workspace"):
        await _update(acme, "acme", {}, workspace_id="absent")


async def test_the_profile_is_the_defaults_layer(tmp_path: Path) -> None:
    async with serving(tmp_path, env={"FASTCHAT_MESH__PROFILE": "enterprise"}) as control:
        found = await _get(control.acting(), "default", layer=pb.SETTINGS_LAYER_DEFAULTS)
    assert json.loads(found.settings_json)["security"]["max_staleness_s"] == 900


async def test_file_and_environment_are_one_layer(tmp_path: Path) -> None:
    settings = tmp_path / "settings.yaml"
    settings.write_text("settings:\n  limits: {requests_per_minute: 10}\n")
    env = {"FASTCHAT_SETTINGS__PREFERENCES__EVENTS": "off", "DEFAULT_MODEL": "best", "OPENAI_API_KEY": "sk"}
    async with serving(tmp_path / "home", settings=settings, env=env) as control:
        found = await _get(control.acting(), "default", layer=pb.SETTINGS_LAYER_ENVIRONMENT)
    assert json.loads(found.settings_json) == {
        "limits": {"requests_per_minute": 10},
        "preferences": {"default_model": "best", "events": "off"},
    }


async def test_wrong_sources_keep_control_from_starting(tmp_path: Path) -> None:
    settings = tmp_path / "settings.yaml"
    settings.write_text("settings:\n  limits: {requests_per_minute: lots}\n")
    with pytest.raises(ConfigError, match=r"settings\.yaml:2: settings\.limits\.requests_per_minute"):
        async with serving(tmp_path / "home", settings=settings):
            pass
