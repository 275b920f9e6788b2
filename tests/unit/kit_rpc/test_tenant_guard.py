"""A request for another tenant is refused, in the same words whatever that tenant is."""

from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
import pytest

from fastchat.common.v1 import scope_service_pb2 as pb
from fastchat.control.v1 import settings_service_pb2 as settings_pb
from fastchat.orchestrator.v1 import run_service_pb2
from kit import principal as pr
from kit.errors import PlatformError, Reason
from kit.interceptors.tenant import check, checked, tenant_paths
from tests.unit.kit_rpc.scripted import MEMBER, PLATFORM, Running

pytestmark = pytest.mark.req("PR-030")


def refusal(request: Any) -> PlatformError:
    with pytest.raises(PlatformError) as caught:
        check(request, MEMBER)
    return caught.value


def test_own_tenant_and_no_tenant_pass() -> None:
    check(settings_pb.GetSettingsRequest(tenant_id="acme"), MEMBER)
    check(settings_pb.GetSettingsRequest(), MEMBER)


def test_other_tenant_is_refused_in_the_same_words() -> None:
    real, absent = (refusal(settings_pb.GetSettingsRequest(tenant_id=name)) for name in ("globex", "no-such"))
    assert real.reason is Reason.POLICY_DENIED
    assert real.to_status() == absent.to_status()
    assert "globex" not in str(real.to_status())


def test_tenant_inside_a_message_is_found() -> None:
    assert tenant_paths(pb.ExportScopeRequest.DESCRIPTOR) == (("scope", "tenant_id"),)
    assert refusal(pb.ExportScopeRequest(scope=pb.Scope(tenant_id="globex"))).reason is Reason.POLICY_DENIED


def test_every_request_of_a_run_is_guarded() -> None:
    for name, message in run_service_pb2.DESCRIPTOR.message_types_by_name.items():
        if name.endswith("Request"):
            assert ("tenant_id",) in tenant_paths(message), name


def test_platform_scope_may_name_any_tenant() -> None:
    check(settings_pb.GetSettingsRequest(tenant_id="globex"), PLATFORM)


async def test_every_message_of_a_client_stream_is_checked() -> None:
    async def requests() -> AsyncIterator[pb.EraseScopeRequest]:
        for tenant in ("acme", "globex"):
            yield pb.EraseScopeRequest(scope=pb.Scope(tenant_id=tenant))

    stream = checked(requests(), MEMBER)
    assert (await anext(stream)).scope.tenant_id == "acme"
    with pytest.raises(PlatformError):
        await anext(stream)


async def test_guard_stands_before_the_handler(mesh: Running) -> None:
    async def erase(request: Any, context: Any) -> Any:
        raise AssertionError("the handler must not run")

    mesh.script.erase = erase
    with pr.acting_as(MEMBER), pytest.raises(grpc.aio.AioRpcError) as caught:
        await mesh.scope.EraseScope(pb.EraseScopeRequest(scope=pb.Scope(tenant_id="globex")))
    assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
