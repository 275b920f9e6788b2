"""A guard tries again what may pass, gives up on what will not, and leaves alone what keeps failing."""

import asyncio
from collections.abc import Awaitable, Callable

import grpc
import grpc.aio
import pytest

from kit import deadline
from kit.errors import PlatformError, Reason
from kit.mesh import MeshConfig
from kit.resilience import BreakerPolicy, BreakerState, Bulkhead, BulkheadPolicy, Guard, Policy
from tests.unit.kit_rpc.scripted import Clock, until

pytestmark = pytest.mark.req("PR-033")

AT_ONCE = Policy(retries=2, backoff_s=0, backoff_max_s=1, jitter_s=0, breaker=BreakerPolicy(failures=0))
AWAY = PlatformError(Reason.DEPENDENCY_UNAVAILABLE, "Away.")


class Flaky:
    """Fails with the errors given, one a call, then answers."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.calls = 0

    async def __call__(self) -> str:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return "answer"


async def reason_of(awaitable: Awaitable[object]) -> Reason:
    with pytest.raises(PlatformError) as caught:
        await awaitable
    return caught.value.reason


async def test_answer_passes_through() -> None:
    assert await Guard("d", AT_ONCE).call(Flaky()) == "answer"


async def test_passing_error_is_tried_again() -> None:
    flaky = Flaky(AWAY, AWAY)
    assert await Guard("d", AT_ONCE).call(flaky) == "answer"
    assert flaky.calls == 3


async def test_retries_end() -> None:
    flaky = Flaky(*[AWAY] * 9)
    assert await reason_of(Guard("d", AT_ONCE).call(flaky)) is Reason.DEPENDENCY_UNAVAILABLE
    assert flaky.calls == 3


@pytest.mark.parametrize(
    "error",
    [
        PlatformError.invalid("model", "No."),
        PlatformError(Reason.BUDGET_EXCEEDED, "No money."),
        PlatformError(Reason.UPSTREAM_RATE_LIMITED, "Later.", retry_after_s=60),
    ],
    ids=lambda error: error.reason.name,
)
async def test_lasting_error_is_told_at_once(error: PlatformError) -> None:
    flaky = Flaky(error)
    assert await reason_of(Guard("d", AT_ONCE).call(flaky)) is error.reason
    assert flaky.calls == 1


async def test_short_retry_after_is_waited_for() -> None:
    flaky = Flaky(PlatformError(Reason.OVERLOADED, "Busy.", retry_after_s=0.01))
    assert await Guard("d", AT_ONCE).call(flaky) == "answer"


async def test_what_must_not_happen_twice_does_not() -> None:
    flaky = Flaky(AWAY)
    assert await reason_of(Guard("d", AT_ONCE).call(flaky, retry=False)) is Reason.DEPENDENCY_UNAVAILABLE
    assert flaky.calls == 1


async def test_grpc_error_comes_out_as_the_platforms_own() -> None:
    bare = grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, grpc.aio.Metadata(), grpc.aio.Metadata())
    flaky = Flaky(bare)
    assert await Guard("d", AT_ONCE).call(flaky) == "answer"
    assert flaky.calls == 2


async def test_foreign_exception_is_not_tried_again() -> None:
    flaky = Flaky(ValueError("a defect"))
    with pytest.raises(ValueError, match="a defect"):
        await Guard("d", AT_ONCE).call(flaky)
    assert flaky.calls == 1


async def never() -> None:
    await asyncio.Event().wait()


async def test_attempt_has_a_timeout() -> None:
    guard = Guard("d", Policy(timeout_s=0.01, retries=0))
    assert await reason_of(guard.call(never)) is Reason.DEADLINE_EXCEEDED


async def test_attempt_has_at_most_what_the_request_has_left() -> None:
    guard = Guard("d", Policy(timeout_s=60, retries=0))
    with deadline.within(0.02):
        assert await reason_of(guard.call(never)) is Reason.DEADLINE_EXCEEDED


def breaking(clock: Callable[[], float], failures: int = 2) -> Guard:
    return Guard("d", Policy(retries=0, breaker=BreakerPolicy(failures=failures, cooldown_s=10)), clock)


async def test_breaker_opens_after_failures_in_a_row(clock: Clock) -> None:
    guard, flaky = breaking(clock), Flaky(AWAY, AWAY)
    for _ in range(2):
        await reason_of(guard.call(flaky))
    assert guard.breaker.state is BreakerState.OPEN
    with pytest.raises(PlatformError) as caught:
        await guard.call(flaky)
    assert (caught.value.reason, caught.value.retry_after_s) == (Reason.CIRCUIT_OPEN, 10)
    assert flaky.calls == 2


async def test_success_between_failures_keeps_it_closed(clock: Clock) -> None:
    guard = breaking(clock)
    for _ in range(3):
        await reason_of(guard.call(Flaky(AWAY)))
        await guard.call(Flaky())
    assert guard.breaker.state is BreakerState.CLOSED


async def test_requests_fault_is_not_the_dependencys(clock: Clock) -> None:
    guard = breaking(clock, failures=1)
    await reason_of(guard.call(Flaky(PlatformError.invalid("x", "No."))))
    assert guard.breaker.state is BreakerState.CLOSED


async def test_breaker_closes_after_a_good_probe(clock: Clock) -> None:
    guard = breaking(clock, failures=1)
    await reason_of(guard.call(Flaky(AWAY)))
    clock.forward(11)
    assert guard.breaker.state is BreakerState.HALF_OPEN
    await guard.call(Flaky())
    assert guard.breaker.state is BreakerState.CLOSED


async def test_breaker_opens_again_after_a_bad_probe(clock: Clock) -> None:
    guard = breaking(clock, failures=3)
    for _ in range(3):
        await reason_of(guard.call(Flaky(AWAY)))
    clock.forward(11)
    await reason_of(guard.call(Flaky(AWAY)))
    assert guard.breaker.state is BreakerState.OPEN


async def test_only_one_probe_at_a_time(clock: Clock) -> None:
    guard = breaking(clock, failures=1)
    await reason_of(guard.call(Flaky(AWAY)))
    clock.forward(11)
    async with guard.slot():
        assert await reason_of(guard.call(Flaky())) is Reason.CIRCUIT_OPEN


async def test_cancelled_probe_lets_the_next_one_try(clock: Clock) -> None:
    guard = breaking(clock, failures=1)
    await reason_of(guard.call(Flaky(AWAY)))
    clock.forward(11)
    probe = asyncio.create_task(guard.call(never))
    await asyncio.sleep(0)
    probe.cancel()
    with pytest.raises(asyncio.CancelledError):
        await probe
    assert await guard.call(Flaky()) == "answer"


async def test_stream_that_breaks_counts(clock: Clock) -> None:
    guard = breaking(clock, failures=1)
    with pytest.raises(PlatformError):
        async with guard.slot():
            raise PlatformError(Reason.UPSTREAM_INTERRUPTED, "Cut.")
    assert guard.breaker.state is BreakerState.OPEN


async def test_full_bulkhead_refuses() -> None:
    bulkhead = Bulkhead("d", BulkheadPolicy(limit=1, queue=0))
    async with bulkhead.place():
        assert await reason_of(bulkhead.place().__aenter__()) is Reason.OVERLOADED
    async with bulkhead.place():
        pass


async def test_queue_waits_in_turn_and_has_an_end() -> None:
    bulkhead = Bulkhead("d", BulkheadPolicy(limit=1, queue=1))
    entered = asyncio.Event()

    async def waiting() -> None:
        async with bulkhead.place():
            entered.set()

    async with bulkhead.place():
        queued = asyncio.create_task(waiting())
        await until(lambda: bulkhead.waiting == 1)
        assert await reason_of(bulkhead.place().__aenter__()) is Reason.OVERLOADED
        assert not entered.is_set()
    await queued
    assert entered.is_set()


async def test_wait_in_the_queue_is_bounded() -> None:
    bulkhead = Bulkhead("d", BulkheadPolicy(limit=1, queue=5))
    async with bulkhead.place():
        assert await reason_of(bulkhead.place(0.01).__aenter__()) is Reason.OVERLOADED
    assert bulkhead.waiting == 0


def test_policies_come_from_settings_per_dependency() -> None:
    config = MeshConfig.model_validate(
        {"resilience": {"default": {"retries": 1}, "integration": {"timeout_s": 5, "breaker": {"failures": 9}}}}
    )
    assert config.policy("integration").breaker.failures == 9
    assert config.policy("memory").retries == 1
    assert MeshConfig().policy("memory") == Policy()
