"""What the sweep knows of routes: which parameters and properties name things, and one valid body each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from kit.paging import encode_token
from tests.support.isolation.tenants import Ids

KINDS: Mapping[str, str] = {
    # by the parameter's or property's own name, in whichever route
    "tenant_id": "tenant",
    "workspace_id": "workspace",
    "thread_id": "thread",
    "run_id": "run",
    "key_id": "key",
    "job_id": "job",
    "alias": "alias",
    "model": "alias",
    "user_id": "user",
    "user": "user",
    "subject": "subject",
    "resource_id": "key",
    "after": "page",
    "page_token": "page",
    # by the route and the name, where the name says little
    "POST /v1/admin/tenants id": "tenant",
    "POST /v1/admin/workspaces id": "workspace",
    "POST /v1/admin/policies name": "policy",
    "GET /v1/admin/policies/{name} name": "policy",
    "PUT /v1/admin/policies/{name} name": "policy",
    "DELETE /v1/admin/policies/{name} name": "policy",
}
"""Parameters and properties that name things -> kind of id."""

PLAIN = frozenset(
    {
        # parameters
        *("limit", "include_revoked", "action", "start_time", "end_time", "queue", "layer"),
        *("if-match", "if-none-match", "starting_after", "Last-Event-ID", "X-Fastchat-Events"),
        # administration: names to show, grants, documents
        *("title", "is_pinned", "roles", "scopes", "expires_at", "settings", "cedar", "enabled", "description"),
        *("status", "POST /v1/admin/tenants name", "PATCH /v1/admin/tenants/{tenant_id} name"),
        *("POST /v1/admin/workspaces name", "PATCH /v1/admin/workspaces/{workspace_id} name"),
        *("POST /v1/admin/api-keys name", "PATCH /v1/admin/api-keys/{key_id} name"),
        # chat and embeddings: content and sampling
        *("messages", "role", "content", "tool_calls", "tool_call_id", "POST /v1/chat/completions name", "stream"),
        *("stream_options", "include_usage", "include_obfuscation", "include_status", "event_envelope"),
        *("max_completion_tokens", "max_tokens", "temperature", "top_p", "n", "stop", "seed", "presence_penalty"),
        *("frequency_penalty", "logit_bias", "logprobs", "top_logprobs", "response_format", "tools", "tool_choice"),
        *("parallel_tool_calls", "functions", "function_call", "reasoning_effort", "verbosity", "prediction"),
        *("metadata", "store", "service_tier", "prompt_cache_key", "prompt_cache_options"),
        *("prompt_cache_retention", "safety_identifier", "modalities", "input", "dimensions", "encoding_format"),
    }
)
"""Parameters and properties that name nothing of the platform, by their own name or by route and name."""

HEADERS: Mapping[str, str] = {"x-tenant-id": "tenant", "x-workspace": "workspace", "x-user-id": "user"}
"""Request headers that name things, on every route with a caller."""
PLAIN_HEADERS = frozenset({"authorization", "x-admin-key", "x-user-role"})


@dataclass(frozen=True)
class Route:
    """A valid request: its path and query are filled by kind, its body is told here."""

    body: Any = None
    owner: tuple[str, ...] = ("200",)
    """Statuses that the owner of the things gets."""
    page: Callable[[Ids], str] | None = None
    undo: str = ""
    order: int = 0
    owner_order: int = 0
    lively: bool = False
    """Whether the body differs from moment to moment: then it must only tell nothing of tenants."""


_TENANT = {"tenant_id": "{tenant}"}
_LAST = "2100-01-01T00:00:00+00:00"
_MESSAGES = [{"role": "user", "content": "Hello."}]
_LITELLM = {"model": "openai/x"}
_RULE = '@id("r") forbid (principal, action == Action::"run.cancel", resource == Run::"{thread}");'
_SETTINGS = {"preferences": {"include_status": True}}
_REFUSED, _THERE, _FOR_ALL = ("403",), ("409",), Route()

ROUTES: Mapping[str, Route] = {
    "POST /v1/chat/completions": Route({"model": "offline", "messages": _MESSAGES}),
    "GET /v1/models": Route(),
    "GET /v1/models/{model}": Route(),
    "POST /v1/embeddings": Route({"model": "offline", "input": "x"}),
    "GET /v1/threads": Route(page=lambda ids: encode_token(4102444800000000, ids["thread"])),
    "POST /v1/threads": Route({"user_id": "{user}", "title": "t"}, ("201",), order=1),
    "GET /v1/threads/{thread_id}": Route(),
    "PATCH /v1/threads/{thread_id}": Route({"title": "t", "is_pinned": True}),
    "DELETE /v1/threads/{thread_id}": Route(owner_order=5),
    "GET /v1/threads/{thread_id}/messages": Route(page=lambda ids: encode_token(0)),
    "GET /v1/runs/{run_id}": Route(),
    "POST /v1/runs/{run_id}/cancel": Route(owner_order=3),
    "GET /v1/runs/{run_id}/events": Route(),
    "GET /health": _FOR_ALL,
    "GET /health/live": _FOR_ALL,
    "GET /health/ready": _FOR_ALL,
    "GET /metrics": Route(lively=True),
    "POST /v1/admin/tenants": Route({"id": "{tenant}", "name": "n"}, _REFUSED),
    "GET /v1/admin/tenants": Route(page=lambda ids: encode_token(ids["tenant"])),
    "GET /v1/admin/tenants/{tenant_id}": Route(),
    "PATCH /v1/admin/tenants/{tenant_id}": Route({"name": "n"}),
    "DELETE /v1/admin/tenants/{tenant_id}": Route(owner=_REFUSED, owner_order=9),
    "POST /v1/admin/workspaces": Route(
        {**_TENANT, "id": "{workspace}", "name": "n"}, _THERE, undo="/v1/admin/workspaces/{workspace}", order=1
    ),
    "GET /v1/admin/workspaces": Route(page=lambda ids: encode_token(ids["workspace"])),
    "GET /v1/admin/workspaces/{workspace_id}": Route(),
    "PATCH /v1/admin/workspaces/{workspace_id}": Route({"name": "n"}),
    "DELETE /v1/admin/workspaces/{workspace_id}": Route(owner_order=7),
    "POST /v1/admin/api-keys": Route({**_TENANT, "workspace_id": "{workspace}", "name": "n"}, ("201",), order=1),
    "GET /v1/admin/api-keys": Route(page=lambda ids: encode_token(_LAST, ids["key"])),
    "GET /v1/admin/api-keys/{key_id}": Route(),
    "PATCH /v1/admin/api-keys/{key_id}": Route({"name": "n"}),
    "DELETE /v1/admin/api-keys/{key_id}": Route(owner_order=6),
    "POST /v1/admin/model-registry": Route(
        {**_TENANT, "alias": "{alias}", "litellm": _LITELLM, "fallbacks": ["{alias}-2"]},
        _THERE,
        undo="/v1/admin/model-registry/{alias}",
        order=1,
    ),
    "GET /v1/admin/model-registry": Route(page=lambda ids: encode_token(ids["alias"], ids["tenant"])),
    "GET /v1/admin/model-registry/{alias}": Route(),
    "PUT /v1/admin/model-registry/{alias}": Route({"litellm": _LITELLM}),
    "DELETE /v1/admin/model-registry/{alias}": Route(owner_order=6),
    "POST /v1/admin/policies": Route(
        {**_TENANT, "name": "{policy}", "cedar": _RULE}, _THERE, undo="/v1/admin/policies/{policy}", order=1
    ),
    "GET /v1/admin/policies": Route(page=lambda ids: encode_token(ids["policy"], ids["tenant"])),
    "GET /v1/admin/policies/{name}": Route(),
    "PUT /v1/admin/policies/{name}": Route({"cedar": _RULE}),
    "DELETE /v1/admin/policies/{name}": Route(owner_order=6),
    "GET /v1/admin/settings": Route(),
    "PUT /v1/admin/settings": Route({"settings": _SETTINGS}),
    "GET /v1/admin/audit": Route(page=lambda ids: encode_token(_LAST, ids["audit"])),
    "GET /v1/admin/jobs": Route(page=lambda ids: encode_token(0)),
    "POST /v1/admin/jobs/{job_id}/redrive": Route(owner_order=1),
    "DELETE /v1/admin/jobs/{job_id}": Route(owner=("404",), owner_order=2),
}
"""Method and path -> its row. A route without parameters and body names nothing."""
