"""What a model call leaves behind: spans by the GenAI semantic conventions, metrics, an audit record."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from opentelemetry.trace import Span, SpanKind, Status, StatusCode

from fastchat.common.v1.usage_pb2 import LegUsage
from integration.models.chain import Switched
from integration.models.legs import Leg
from kit.telemetry import get_logger, metrics, tenant_label, tracer

log = get_logger(__name__)
_tracer = tracer(__name__)
_WHERE = ("provider", "model", "tenant")
_TOKENS = metrics.counter("fastchat_model_tokens_total", "Tokens of model calls.", (*_WHERE, "direction"))
_COST = metrics.counter("fastchat_model_cost_micros_total", "Cost of model calls, millionths of a US dollar.", _WHERE)
_LATENCY = metrics.histogram(
    "fastchat_model_latency_seconds", "Wall time of requests to providers.", (*_WHERE, "outcome")
)
_FIRST = metrics.histogram("fastchat_model_first_token_seconds", "Time to a provider's first output.", _WHERE)
_FALLBACKS = metrics.counter(
    "fastchat_model_fallbacks_total", "Legs that took over from one that failed.", ("before", "after", "mid_answer")
)
_GOOD = frozenset({"stop", "length", "tool_calls", "content_filter"})


@contextmanager
def span(operation: str, alias: str) -> Iterator[Span]:
    """The span of a call. `operation`: chat or embeddings. Exceptions are told by class only, never by text."""
    attributes = {"gen_ai.operation.name": operation, "gen_ai.request.model": alias}
    with _tracer.start_as_current_span(
        f"{operation} {alias}",
        kind=SpanKind.CLIENT,
        attributes=attributes,
        record_exception=False,
        set_status_on_exception=False,
    ) as current:
        try:
            yield current
        except BaseException as error:
            if current.is_recording():
                current.set_attribute("error.type", type(error).__name__)
                current.set_status(Status(StatusCode.ERROR))
            raise


def told(current: Span, legs: Sequence[LegUsage]) -> None:
    """Put what a call spent on its span, one event for each leg."""
    if not current.is_recording() or not legs:
        return
    last = legs[-1]
    current.set_attributes(
        {
            "gen_ai.provider.name": last.provider,
            "gen_ai.response.model": last.model_resolved,
            "gen_ai.response.finish_reasons": [last.outcome],
            "gen_ai.usage.input_tokens": sum(leg.usage.prompt_tokens for leg in legs),
            "gen_ai.usage.output_tokens": sum(leg.usage.completion_tokens for leg in legs),
            "fastchat.cost_micros": sum(leg.usage.cost_micros for leg in legs),
        }
    )
    for leg in legs:
        current.add_event("leg", {"model": leg.model_alias, "provider": leg.provider, "outcome": leg.outcome})


def counted(tenant_id: str, leg: Leg, record: LegUsage) -> None:
    """Count a leg."""
    where = (record.provider, leg.deployment.label, tenant_label(tenant_id))
    _TOKENS.labels(*where, "input").inc(record.usage.prompt_tokens)
    _TOKENS.labels(*where, "output").inc(record.usage.completion_tokens)
    _COST.labels(*where).inc(record.usage.cost_micros)
    outcome = "ok" if record.outcome in _GOOD else record.outcome
    _LATENCY.labels(*where, outcome).observe(leg.latency_s)
    if leg.first_output_s is not None:
        _FIRST.labels(*where).observe(leg.first_output_s)
    if outcome not in ("ok", "cancelled"):
        log.warning("model.leg_failed", model=leg.deployment.label, provider=record.provider, outcome=outcome)


def switched(switch: Switched) -> None:
    """Count a fallback."""
    _FALLBACKS.labels(switch.before.label, switch.after.label, str(switch.mid_answer).lower()).inc()
    log.warning(
        "model.fallback",
        before=switch.before.label,
        after=switch.after.label,
        outcome=switch.outcome,
        mid_answer=switch.mid_answer,
    )
