"""What the sweep knows of rpcs: which fields name things, and one valid request each."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from kit.paging import encode_token
from tests.support.isolation.tenants import Ids

_TIME = "2020-01-01T00:00:00+00:00"

KINDS: Mapping[str, str] = {
    # by the field's own name, wherever it stands
    "tenant_id": "tenant",
    "workspace_id": "workspace",
    "thread_id": "thread",
    "run_id": "run",
    "user_id": "user",
    "alias": "alias",
    "model_alias": "alias",
    "key_hash": "key_hash",
    "lease_id": "lease",
    "tool_id": "tool",
    "file_id": "file",
    "collections": "collection",
    "parent_message_id": "message",
    "response_message_id": "message",
    "public_id": "public",
    "event_id": "audit",
    "resource_id": "key",
    "subject": "subject",
    "act_for": "user",
    "page_token": "page",
    # by the whole name, where the field's own says little
    "fastchat.gateway.v1.Chat.model": "alias",
    "fastchat.common.v1.RunStarted.model": "alias",
    "fastchat.common.v1.ChatMessage.id": "message",
    "fastchat.integration.v1.ModelOptions.user": "user",
    **{f"fastchat.control.v1.{verb}TenantRequest.id": "tenant" for verb in ("Create", "Get", "Update", "Delete")},
    **{f"fastchat.control.v1.{verb}WorkspaceRequest.id": "workspace" for verb in ("Create", "Get", "Update", "Delete")},
    **{f"fastchat.control.v1.{verb}ApiKeyRequest.id": "key" for verb in ("Get", "Update", "Revoke")},
    **{f"fastchat.control.v1.{verb}PolicyRequest.name": "policy" for verb in ("Get", "Delete")},
    "fastchat.control.v1.Policy.name": "policy",
}
"""Fields that name things -> kind of id."""

PLAIN = frozenset(
    {
        # content, names to show, versions, and words of closed sets
        *("action", "args_json", "arguments_json", "cause", "cedar", "continue_from", "data", "description", "detail"),
        *("details_json", "entry_json", "etag", "extra_json", "file_data", "filename", "filters_json", "format"),
        *("graph", "idempotency_key", "input", "input_hash", "logit_bias_json", "metadata", "model_resolved"),
        *("outcome", "output_hash", "parameters_json", "projection_json", "provider", "query", "reasoning"),
        *("reasoning_effort", "refusal", "request_id", "resource_type", "response_format_json", "roles", "rule_ids"),
        *("scopes", "service", "settings_json", "stop", "text", "title", "tool_choice_json", "trace_id", "url"),
        # a caller's own, told back to it and looked up nowhere
        *("holder", "tool_call_id", "watcher", "fastchat.common.v1.ToolCall.id"),
        *(f"fastchat.common.v1.{message}.name" for message in ("ChatMessage", "ToolCall", "ToolDefinition")),
        *(f"fastchat.control.v1.{verb}TenantRequest.name" for verb in ("Create", "Update")),
        *(f"fastchat.control.v1.{verb}WorkspaceRequest.name" for verb in ("Create", "Update")),
        *(f"fastchat.control.v1.{verb}ApiKeyRequest.name" for verb in ("Create", "Update")),
    }
)  # fmt: skip
"""Text fields that name nothing of the platform, by their own or their whole name."""

HOLDS_NOTHING = frozenset({"integration"})
"""Services without a table: they serve no ScopeService."""

NOT_SERVED = frozenset(
    {
        "control.LedgerService/LeaseBudget",
        "control.LedgerService/SettleBudget",
        "integration.ToolService/InvokeTool",
        "knowledge.RetrievalService/Retrieve",
    }
)
"""Declared, and served from a later release on: UNIMPLEMENTED. Each gets a row below when it is served."""


@dataclass(frozen=True)
class Rpc:
    """A valid request, and what becomes of it."""

    request: Mapping[str, Any]
    owner: tuple[str, ...] = ("OK",)
    """Codes that the owner of the things gets."""
    page: Callable[[Ids], str] | None = None
    """A page token that names a thing."""
    undo: str = ""
    """Route that takes away what the request makes."""
    order: int = 0
    owner_order: int = 0


_TENANT = {"tenant_id": "{tenant}"}
_KEY = {**_TENANT, "id": "{key}"}
_ALIAS = {**_TENANT, "alias": "{alias}"}
_SERVICES_ONLY = ("PERMISSION_DENIED",)
_PLATFORM_ONLY = ("PERMISSION_DENIED",)
_THERE = ("ALREADY_EXISTS",)
_MESSAGES = [{"role": "ROLE_USER", "content": [{"text": "Hello."}]}]
_CALL = {**_TENANT, "model_alias": "offline", "mode": "MODEL_MODE_CHAT", "messages": _MESSAGES}
_ENTRY = json.dumps({"alias": "{alias}", "litellm": {"model": "openai/x"}, "fallbacks": ["offline", "{alias}-2"]})
_RULE = '@id("r") forbid (principal, action == Action::"run.cancel", resource == Run::"{thread}");'
_SETTINGS = json.dumps({"preferences": {"include_status": True}})
_CHAT = {"model": "offline", "messages": _MESSAGES}


RPCS: Mapping[str, Rpc] = {
    # what a service holds about a tenant
    "common.ScopeService/ExportScope": Rpc({"scope": {**_TENANT, "subject": "{subject}"}}, owner=("OK",)),
    "common.ScopeService/EraseScope": Rpc({"scope": {**_TENANT, "subject": "{subject}"}}, owner_order=8),
    # control
    "control.TenantService/CreateTenant": Rpc({"id": "{tenant}", "name": "n"}, _PLATFORM_ONLY),
    "control.TenantService/GetTenant": Rpc({"id": "{tenant}"}),
    "control.TenantService/ListTenants": Rpc({}, page=lambda ids: encode_token(ids["tenant"])),
    "control.TenantService/UpdateTenant": Rpc({"id": "{tenant}", "name": "n"}),
    "control.TenantService/DeleteTenant": Rpc({"id": "{tenant}"}, _PLATFORM_ONLY, owner_order=9),
    "control.TenantService/CreateWorkspace": Rpc(
        {**_TENANT, "id": "{workspace}", "name": "n"}, _THERE, undo="/v1/admin/workspaces/{workspace}", order=1
    ),
    "control.TenantService/GetWorkspace": Rpc({**_TENANT, "id": "{workspace}"}),
    "control.TenantService/ListWorkspaces": Rpc(_TENANT, page=lambda ids: encode_token(ids["workspace"])),
    "control.TenantService/UpdateWorkspace": Rpc({**_TENANT, "id": "{workspace}", "name": "n"}),
    "control.TenantService/DeleteWorkspace": Rpc({**_TENANT, "id": "{workspace}"}, owner_order=7),
    "control.ApiKeyService/CreateApiKey": Rpc({**_TENANT, "workspace_id": "{workspace}", "name": "n"}, order=1),
    "control.ApiKeyService/GetApiKey": Rpc(_KEY),
    "control.ApiKeyService/ListApiKeys": Rpc(
        {**_TENANT, "workspace_id": "{workspace}"}, page=lambda ids: encode_token(_TIME, ids["key"])
    ),
    "control.ApiKeyService/UpdateApiKey": Rpc({**_KEY, "name": "n"}),
    "control.ApiKeyService/RevokeApiKey": Rpc(_KEY, owner_order=6),
    "control.ApiKeyService/LookupApiKey": Rpc({"key_hash": "{key_hash}"}, _SERVICES_ONLY),
    "control.ModelRegistryService/CreateModelEntry": Rpc(
        {**_TENANT, "entry_json": _ENTRY}, _THERE, undo="/v1/admin/model-registry/{alias}", order=1
    ),
    "control.ModelRegistryService/GetModelEntry": Rpc(_ALIAS),
    "control.ModelRegistryService/ListModelEntries": Rpc(
        _TENANT, page=lambda ids: encode_token(ids["alias"], ids["tenant"])
    ),
    "control.ModelRegistryService/UpdateModelEntry": Rpc({**_ALIAS, "entry_json": _ENTRY}),
    "control.ModelRegistryService/DeleteModelEntry": Rpc(_ALIAS, owner_order=6),
    "control.PolicyService/CreatePolicy": Rpc(
        {"policy": {**_TENANT, "name": "{policy}", "cedar": _RULE}}, _THERE, undo="/v1/admin/policies/{policy}", order=1
    ),
    "control.PolicyService/GetPolicy": Rpc({**_TENANT, "name": "{policy}"}),
    "control.PolicyService/ListPolicies": Rpc(_TENANT, page=lambda ids: encode_token(ids["policy"], ids["tenant"])),
    "control.PolicyService/UpdatePolicy": Rpc({"policy": {**_TENANT, "name": "{policy}", "cedar": _RULE}}),
    "control.PolicyService/DeletePolicy": Rpc({**_TENANT, "name": "{policy}"}, owner_order=6),
    "control.SettingsService/WatchSettings": Rpc({"watcher": "edge/h0"}, _SERVICES_ONLY),
    "control.SettingsService/GetSettings": Rpc({**_TENANT, "workspace_id": "{workspace}"}),
    "control.SettingsService/UpdateSettings": Rpc(
        {**_TENANT, "workspace_id": "{workspace}", "settings_json": _SETTINGS}
    ),
    "control.AuditService/AppendAuditEvents": Rpc(
        {"events": [{"event_id": "{audit}", "time": _TIME, **_TENANT, "subject": "{subject}", "action": "x"}]},
        _SERVICES_ONLY,
    ),
    "control.AuditService/ListAuditEvents": Rpc(
        {**_TENANT, "subject": "{subject}", "resource_id": "{key}"},
        page=lambda ids: encode_token("2100-01-01T00:00:00+00:00", ids["audit"]),
    ),
    # orchestrator
    "orchestrator.RunService/StartRun": Rpc(
        {
            **_TENANT,
            "run_id": "{fresh}",
            "call": _CALL,
            "started": {"public_id": "chatcmpl-1", "created": "1", "model": "offline", "mode": "RUN_MODE_CHAT"},
            "durable": True,
        },
        order=2,
    ),
    "orchestrator.RunService/AttachRun": Rpc({**_TENANT, "run_id": "{run}"}),
    "orchestrator.RunService/GetRun": Rpc({**_TENANT, "run_id": "{run}"}),
    "orchestrator.RunService/ListRuns": Rpc(
        {**_TENANT, "thread_id": "{thread}"}, page=lambda ids: encode_token("2100-01-01T00:00:00+00:00", ids["run"])
    ),
    "orchestrator.RunService/CancelRun": Rpc({**_TENANT, "run_id": "{run}"}, owner_order=3),
    # integration
    "integration.ModelService/CallModel": Rpc({"call": _CALL}),
    "integration.ModelService/StreamModel": Rpc({"call": _CALL}),
    "integration.ModelService/ListModels": Rpc(_TENANT),
    "integration.ModelService/CountTokens": Rpc({**_TENANT, "model_alias": "{alias}", "input": ["x"]}),
    # partners
    "gateway.ChatService/StreamChat": Rpc({"chat": _CHAT}),
    "gateway.ChatService/CompleteChat": Rpc({"chat": _CHAT}),
    "gateway.ChatService/ListModels": Rpc({}),
    "gateway.RunService/WatchRun": Rpc({"run_id": "{run}"}),
    "gateway.RunService/GetRun": Rpc({"run_id": "{run}"}),
    "gateway.RunService/ListRuns": Rpc(
        {"thread_id": "{thread}"}, page=lambda ids: encode_token("2100-01-01T00:00:00+00:00", ids["run"])
    ),
    "gateway.RunService/CancelRun": Rpc({"run_id": "{run}"}, ("FAILED_PRECONDITION",), owner_order=4),
    "gateway.ThreadService/CreateThread": Rpc({"user_id": "{user}", "title": "t"}, order=1),
    "gateway.ThreadService/GetThread": Rpc({"thread_id": "{thread}"}),
    "gateway.ThreadService/ListThreads": Rpc({}, page=lambda ids: encode_token(4102444800000000, ids["thread"])),
    "gateway.ThreadService/UpdateThread": Rpc({"thread_id": "{thread}", "title": "t"}),
    "gateway.ThreadService/DeleteThread": Rpc({"thread_id": "{thread}"}, owner_order=5),
    "gateway.ThreadService/ListMessages": Rpc({"thread_id": "{thread}"}, page=lambda ids: encode_token(0)),
}
"""Package and service / rpc -> its row."""
