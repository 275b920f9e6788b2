"""The error table, row by row, over every protocol."""

import grpc
import grpc.aio
import pytest
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, QuotaFailure, RetryInfo
from google.rpc.status_pb2 import Status

from fastchat.common.v1.error_reason_pb2 import ErrorReason
from kit.errors import STATUS_KEY, TABLE, PlatformError, Reason


def rpc_error(code: grpc.StatusCode, status: Status | None = None) -> grpc.aio.AioRpcError:
    trailers = grpc.aio.Metadata()
    if status is not None:
        trailers.add(STATUS_KEY, status.SerializeToString())
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), trailers, details="internal text with 10.0.0.7")


def details(error: PlatformError) -> dict[str, object]:
    found: dict[str, object] = {}
    for packed in error.to_status().details:
        for kind in (ErrorInfo, BadRequest, QuotaFailure, RetryInfo):
            if packed.Is(kind.DESCRIPTOR):
                message = kind()
                packed.Unpack(message)
                found[kind.__name__] = message
    return found


def test_reasons_are_those_of_the_contract() -> None:
    contract = {name.removeprefix("ERROR_REASON_"): number for name, number in ErrorReason.items() if number}
    assert {reason.name: reason.value for reason in Reason} == contract


def test_every_reason_has_a_row() -> None:
    assert set(TABLE) == set(Reason)


@pytest.mark.parametrize("reason", Reason, ids=lambda reason: reason.name)
def test_row_is_an_error_in_every_protocol(reason: Reason) -> None:
    row = TABLE[reason]
    assert row.grpc_code is not grpc.StatusCode.OK
    assert 400 <= row.http_status < 600
    assert row.http_status != 501  # wire.md: never
    assert row.openai_type.endswith("error") or row.openai_type == "insufficient_quota"
    assert row.openai_code == row.openai_code.lower()


@pytest.mark.parametrize("reason", Reason, ids=lambda reason: reason.name)
def test_error_survives_grpc(reason: Reason) -> None:
    error = PlatformError(reason, "No.", retry_after_s=2.5, model="gpt-4o")
    read = PlatformError.from_rpc(rpc_error(error.row.grpc_code, error.to_status()), "integration")
    assert (read.reason, read.message, read.metadata, read.retry_after_s) == (reason, "No.", {"model": "gpt-4o"}, 2.5)


@pytest.mark.parametrize("reason", Reason, ids=lambda reason: reason.name)
def test_error_survives_a_runs_log(reason: Reason) -> None:
    error = PlatformError(reason, "No.", retry_after_s=0.25, a="b")
    read = PlatformError.from_event(error.to_event())
    assert (read.reason, read.message, read.metadata, read.retry_after_s) == (reason, "No.", {"a": "b"}, 0.25)


def test_event_of_a_newer_release_reads_as_internal() -> None:
    payload = PlatformError(Reason.INTERNAL, "new").to_event()
    payload.reason = 9999  # type: ignore[assignment]
    assert PlatformError.from_event(payload).reason is Reason.INTERNAL


def test_field_becomes_a_bad_request() -> None:
    bad = details(PlatformError.invalid("messages[0].role", "Unknown role."))["BadRequest"]
    assert isinstance(bad, BadRequest)
    assert [(v.field, v.description) for v in bad.field_violations] == [("messages[0].role", "Unknown role.")]


def test_limits_become_quota_failure_and_retry_info() -> None:
    found = details(PlatformError(Reason.RATE_LIMITED, "Slow.", retry_after_s=1.5, scope="key"))
    assert isinstance(found["QuotaFailure"], QuotaFailure)
    assert found["QuotaFailure"].violations[0].subject == "key"
    assert isinstance(found["RetryInfo"], RetryInfo)
    assert found["RetryInfo"].retry_delay.ToTimedelta().total_seconds() == 1.5


def test_status_fits_into_grpcs_trailers() -> None:
    error = PlatformError(Reason.UPSTREAM_ERROR, "x" * 100_000, detail="y" * 100_000)
    assert len(error.to_status().SerializeToString()) < 4096


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (grpc.StatusCode.UNAVAILABLE, Reason.DEPENDENCY_UNAVAILABLE),
        (grpc.StatusCode.DEADLINE_EXCEEDED, Reason.DEADLINE_EXCEEDED),
        (grpc.StatusCode.CANCELLED, Reason.CANCELLED),
        (grpc.StatusCode.UNIMPLEMENTED, Reason.NOT_IMPLEMENTED),
        (grpc.StatusCode.DATA_LOSS, Reason.INTERNAL),
    ],
)
def test_bare_code_is_told_without_its_text(code: grpc.StatusCode, reason: Reason) -> None:
    error = PlatformError.from_rpc(rpc_error(code), "integration")
    assert error.reason is reason
    assert error.metadata == {"dependency": "integration"}
    assert "10.0.0.7" not in error.message


def test_details_that_are_not_ours_count_as_bare() -> None:
    status = Status(code=13)
    status.details.add().Pack(ErrorInfo(reason="ERROR_REASON_NOT_FOUND", domain="googleapis.com"))
    assert PlatformError.from_rpc(rpc_error(grpc.StatusCode.INTERNAL, status), "x").reason is Reason.INTERNAL


def test_not_found_names_the_resource() -> None:
    error = PlatformError.not_found("api_key", "key_1")
    assert (error.row.http_status, error.metadata) == (404, {"resource": "api_key", "id": "key_1"})
