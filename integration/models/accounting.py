"""What a leg spent: tokens as told or estimated, and their price by LiteLLM's list, in millionths of a dollar."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from litellm.types.utils import CompletionTokensDetailsWrapper, PromptTokensDetailsWrapper
from litellm.types.utils import Usage as LiteLLMUsage

from fastchat.common.v1.usage_pb2 import LegUsage, Usage
from integration.models.port import Target, Told
from integration.models.runtime import litellm

_MICROS = 1_000_000
# Above it some models have another price; below it a price per token is all there is to know.
_ONE_TIER = 100_000
_PROBE = 1_000


@dataclass(frozen=True, slots=True)
class Price:
    """Dollars per token."""

    prompt: float
    cached: float
    cache_write: float
    completion: float

    def of(self, used: Told) -> float:
        """Dollars."""
        plain = max(0, used.prompt - used.cached - used.cache_write)
        spent = plain * self.prompt + used.cached * self.cached + used.cache_write * self.cache_write
        return spent + used.completion * self.completion


class Prices:
    """LiteLLM's `cost_per_token`, asked once per model for prompts of one price tier."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str, float | None, float | None], Price | None] = {}

    def micros(self, target: Target, used: Told) -> int | None:
        """Millionths of a dollar; None: no price is known."""
        if target.provider == "offline":
            return 0
        custom = (target.options.get("input_cost_per_token"), target.options.get("output_cost_per_token"))
        key = (target.provider, target.model, *custom)
        if key not in self._known:
            self._known[key] = self._ask(target, *custom)
        price = self._known[key]
        if price is None:
            return None
        if used.prompt > _ONE_TIER and custom == (None, None):
            return round(_listed(target, used) * _MICROS)
        return round(price.of(used) * _MICROS)

    @staticmethod
    def _ask(target: Target, prompt: float | None, completion: float | None) -> Price | None:
        if prompt is not None or completion is not None:
            own = prompt or 0.0
            return Price(own, own, own, completion or 0.0)
        try:
            parts = (
                Told(prompt=_PROBE),
                Told(prompt=_PROBE, cached=_PROBE),
                Told(prompt=_PROBE, cache_write=_PROBE),
                Told(completion=_PROBE),
            )
            return Price(*(_listed(target, part) / _PROBE for part in parts))
        except Exception:
            return None


def _listed(target: Target, used: Told) -> float:
    """Dollars by LiteLLM's price list."""
    usage = LiteLLMUsage(
        prompt_tokens=used.prompt,
        completion_tokens=used.completion,
        total_tokens=used.prompt + used.completion,
        prompt_tokens_details=PromptTokensDetailsWrapper(
            cached_tokens=used.cached, cache_creation_tokens=used.cache_write
        ),
        completion_tokens_details=CompletionTokensDetailsWrapper(reasoning_tokens=used.reasoning),
    )
    prompt, completion = litellm.cost_per_token(
        model=target.model, custom_llm_provider=target.provider, usage_object=usage
    )
    return float(prompt + completion)


def usage_of(target: Target, used: Told, prices: Prices, *, estimated: bool) -> Usage:
    """Counts and cost of one leg."""
    cost = prices.micros(target, used)
    return Usage(
        prompt_tokens=used.prompt,
        completion_tokens=used.completion,
        total_tokens=used.prompt + used.completion,
        cached_tokens=used.cached,
        reasoning_tokens=used.reasoning,
        cache_write_tokens=used.cache_write,
        cost_micros=cost or 0,
        cost_known=cost is not None,
        estimated=estimated,
    )


_COUNTS = (
    "prompt_tokens",
    "completion_tokens",
    "total_tokens",
    "cached_tokens",
    "reasoning_tokens",
    "cache_write_tokens",
    "cost_micros",
)


def total(legs: Iterable[LegUsage]) -> Usage:
    """Sum over legs. The price is known if every leg's is; the sum is estimated if any leg is."""
    legs = list(legs)
    result = Usage(cost_known=all(leg.usage.cost_known for leg in legs))
    for leg in legs:
        for name in _COUNTS:
            setattr(result, name, getattr(result, name) + getattr(leg.usage, name))
        result.estimated = result.estimated or leg.usage.estimated
    return result
