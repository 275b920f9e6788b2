"""Legs of a run that ended without telling their usage: each is counted once, by an estimate."""

from __future__ import annotations

from fastchat.common.v1.usage_pb2 import LegUsage
from fastchat.integration.v1.model_service_pb2 import ModelCall
from kit.errors import PlatformError
from orchestrator.nodes.port import ModelPort, RunContext
from orchestrator.usage import estimate, rough_prompt_tokens, rough_tokens


def open_leg(context: RunContext) -> None:
    """A model call begins."""
    context.leg_open = True
    context.leg_parts = []


async def close_leg(context: RunContext, outcome: str) -> None:
    """Counts the open leg, if there is one, among the lost. ``outcome`` says what ended it."""
    if not context.leg_open:
        return
    context.leg_open = False
    context.legs.append(await lost_leg(context.models, context.call, "".join(context.leg_parts), outcome))


async def lost_leg(models: ModelPort, call: ModelCall, text: str, outcome: str) -> LegUsage:
    """What a leg that delivered ``text`` has spent: by the model's tokenizer, or roughly where that cannot be asked."""
    try:
        prompt, completion = await models.count(call, text)
    except PlatformError:
        prompt, completion = rough_prompt_tokens(call), rough_tokens(text)
    return estimate(call, prompt, completion, outcome)
