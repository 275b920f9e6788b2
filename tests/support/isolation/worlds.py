"""Two tenants on a running stack, and the sweep over its rpcs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import httpx

from deploy.services import SERVICES
from fastchat.common.v1.principal_pb2 import Principal
from fastchat.common.v1.scope_service_pb2 import ExportScopeRequest, ExportScopeResponse, Scope
from kit.principal import METADATA_KEY, Signer, load_or_create_mesh_key, service_principal
from tests.support.isolation.routes import RouteCase, document, operations
from tests.support.isolation.rpc_table import HOLDS_NOTHING
from tests.support.isolation.rpcs import PARTNER, RpcCase, RpcWorld, methods, served, unserved
from tests.support.isolation.sweep import Case, Swept, sweep, sweep_owner
from tests.support.isolation.tenants import Tenant, absent, make_tenant, remove_tenant, state_of
from tests.support.stack import Stack


@dataclass
class Pair:
    """Tenant A, whose things are named; tenant B, who names them."""

    a: Tenant
    b: Tenant


@contextmanager
def pair_of(stack: Stack) -> Iterator[Pair]:
    """Two new tenants; gone afterwards."""
    a = make_tenant(stack, running=True)
    b = make_tenant(stack, running=False)
    try:
        yield Pair(a, b)
    finally:
        for tenant in (a, b):
            remove_tenant(stack, tenant)


def targets_of(stack: Stack) -> dict[str, str]:
    """gRPC target of every service, and of the partners' port."""
    told = stack.environment("edge")
    mesh = {name: told[f"FASTCHAT_MESH__ADDRESSES__{name.upper()}"] for name in SERVICES}
    return {**mesh, PARTNER: stack.grpc_target}


@dataclass
class Outcome:
    """What came of a sweep."""

    swept: Swept
    before: Any
    after: Any
    """Everything of tenant A."""
    unserved: dict[str, str] = field(default_factory=dict)
    """Code of the rpcs that are not served."""

    def changes(self) -> list[str]:
        """What is not as it was."""
        return list(_changes("", self.before, self.after))


def _changes(path: str, before: Any, after: Any) -> Iterator[str]:
    if isinstance(before, dict) and isinstance(after, dict):
        for name in before.keys() | after.keys():
            yield from _changes(f"{path} / {name}", before.get(name), after.get(name))
    elif before != after:
        yield f"{path}: {before} -> {after}"


def swept_routes(stack: Stack, pair: Pair) -> Outcome:
    """Sweep every route."""
    described, targets = document(), targets_of(stack)
    with httpx.Client(base_url=stack.url, timeout=60) as http:
        cases: list[Case] = [RouteCase(name, described, http, pair.b.api_key) for name in operations(described)]
        before = everything(stack, targets, pair.a)
        swept = sweep(cases, pair.a, pair.b)
        after = everything(stack, targets, pair.a)
        sweep_owner(cases, pair.a, swept)
    return Outcome(swept, before, after)


def swept_rpcs(stack: Stack, pair: Pair) -> Outcome:
    """Sweep every rpc."""
    signer = Signer(load_or_create_mesh_key(stack.home / "keys" / "mesh.pem"))
    targets = targets_of(stack)
    principals = {tenant.api_key: signer.sign(_administrator(tenant)) for tenant in (pair.a, pair.b)}

    def undo(path: str) -> None:
        stack.request("DELETE", path, key=pair.b.api_key)

    world = RpcWorld(targets, principals, pair.b.api_key, absent(pair.a.ids), undo)
    cases: list[Case] = [RpcCase(method, world) for method in served(methods())]
    try:
        before = everything(stack, targets, pair.a)
        swept = sweep(cases, pair.a, pair.b)
        after = everything(stack, targets, pair.a)
        sweep_owner(cases, pair.a, swept)
        others = [RpcCase(method, world) for method in unserved(methods())]
        codes = {case.name: case.send(pair.b.api_key, pair.b.ids).status for case in others}
    finally:
        world.close()
    return Outcome(swept, before, after, codes)


def everything(stack: Stack, targets: dict[str, str], tenant: Tenant) -> dict[str, Any]:
    """All that the platform holds about the tenant: over HTTP, and by ExportScope of every service."""
    signer = Signer(load_or_create_mesh_key(Path(stack.home) / "keys" / "mesh.pem"))
    metadata = ((METADATA_KEY, signer.sign(service_principal("tests"))),)
    held = state_of(stack, tenant)
    request = ExportScopeRequest(scope=Scope(tenant_id=tenant.ids["tenant"]))
    for service in set(SERVICES) - HOLDS_NOTHING:
        with grpc.insecure_channel(targets[service]) as channel:
            export = channel.unary_stream(
                "/fastchat.common.v1.ScopeService/ExportScope",
                request_serializer=ExportScopeRequest.SerializeToString,
                response_deserializer=ExportScopeResponse.FromString,
            )
            rows = export(request, metadata=metadata, timeout=30)
            held[service] = {f"{row.table} {row.row_id}": _still(row.row_json) for row in rows}
    return held


def _still(row_json: str) -> dict[str, Any]:
    """The row without what a running run changes by itself."""
    row: dict[str, Any] = json.loads(row_json)
    for name in ("touched_at", "logged_sequence"):
        row.pop(name, None)
    return row


def _administrator(tenant: Tenant) -> Principal:
    return Principal(
        tenant_id=tenant.ids["tenant"], subject="user:administrator", roles=["admin"], scopes=["chat", "admin"]
    )
