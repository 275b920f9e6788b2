"""Counting what a run spends: reports on the way, the final sum, and estimates for legs that were lost."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from fastchat.common.v1.usage_pb2 import LegUsage, Usage
from fastchat.integration.v1.model_service_pb2 import ModelCall, ModelResult

_CHARACTERS_PER_TOKEN = 4


def add(total: Usage, usage: Usage) -> None:
    """Adds one leg to a sum. A sum is estimated if any leg is, and its cost known only if every leg's is."""
    total.prompt_tokens += usage.prompt_tokens
    total.completion_tokens += usage.completion_tokens
    total.total_tokens += usage.prompt_tokens + usage.completion_tokens
    total.cached_tokens += usage.cached_tokens
    total.reasoning_tokens += usage.reasoning_tokens
    total.cache_write_tokens += usage.cache_write_tokens
    total.cost_micros += usage.cost_micros
    total.cost_known = total.cost_known and usage.cost_known
    total.estimated = total.estimated or usage.estimated


def total(legs: Iterable[LegUsage]) -> Usage:
    """Sum over legs."""
    result = Usage(cost_known=True)
    for leg in legs:
        add(result, leg.usage)
    return result


def legs_of(result: ModelResult, earlier: Sequence[LegUsage]) -> list[LegUsage]:
    """Every leg of a run once: those that were lost before, and those of the result (which may tell them again)."""
    legs = list(result.legs)
    if not legs:
        legs = [
            LegUsage(
                model_alias=result.alias_resolved,
                provider=result.provider,
                model_resolved=result.model_resolved,
                usage=result.usage,
                latency_ms=result.latency_ms,
                outcome=result.finish_reason,
            )
        ]
    known = list(earlier)
    return legs if legs[: len(known)] == known else known + legs


def estimate(call: ModelCall, prompt_tokens: int, completion_tokens: int, outcome: str) -> LegUsage:
    """A leg whose provider never told its usage."""
    usage = Usage(
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        total_tokens=prompt_tokens + completion_tokens,
        estimated=True,
    )
    return LegUsage(model_alias=call.model_alias, usage=usage, outcome=outcome)


def rough_prompt_tokens(call: ModelCall) -> int:
    """A prompt's tokens when no tokenizer can be asked."""
    texts = [part.text for message in call.messages for part in message.content]
    texts += [tool.parameters_json + tool.description for tool in call.tools]
    return sum(map(rough_tokens, texts))


def rough_tokens(text: str) -> int:
    """A text's tokens when no tokenizer can be asked: four characters each, rounded up."""
    return -(-len(text) // _CHARACTERS_PER_TOKEN)
