"""Reading streams without a consumer: JetStream's get and batched direct get (nats-server 2.11)."""

import asyncio
import base64
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import nats.js.errors
from nats.aio.client import Client
from nats.aio.msg import Msg

from kit.bus.messages import Stored

_BATCH = 512
_BATCH_BYTES = 4 * 1024 * 1024
_NO_MESSAGE = 10037

# Headers of republished messages and of answers to a direct get.
_SUBJECT, _SEQUENCE, _TIME, _PENDING = "Nats-Subject", "Nats-Sequence", "Nats-Time-Stamp", "Nats-Num-Pending"


def stored(message: Msg) -> Stored:
    """A republished message, or one of a direct get."""
    headers = message.headers or {}
    return Stored(
        headers.get(_SUBJECT, message.subject), int(headers.get(_SEQUENCE, 0)), message.data, headers, _time(headers)
    )


async def get_from_leader(client: Client, stream: str, query: Mapping[str, Any], timeout_s: float) -> Stored | None:
    """One message, by {"seq": n} or {"last_by_subj": subject}, from the leader: never stale."""
    answer = await client.request(f"$JS.API.STREAM.MSG.GET.{stream}", json.dumps(query).encode(), timeout=timeout_s)
    told = json.loads(answer.data)
    if "error" in told:
        if told["error"].get("err_code") == _NO_MESSAGE:
            return None
        raise nats.js.errors.APIError(**told["error"])
    message = told["message"]
    raw_headers = base64.b64decode(message.get("hdrs", ""))
    data = base64.b64decode(message.get("data", ""))
    return Stored(message["subject"], message["seq"], data, _parse_headers(raw_headers), _parse_time(message["time"]))


async def read(
    client: Client, stream: str, subject: str, after: int, up_to: int, at_most: int, timeout_s: float
) -> list[Stored]:
    """Messages of the subject in (after, up_to], at most so many (0: all), in batches."""
    found: list[Stored] = []
    position = after
    while True:
        batch = min(_BATCH, at_most - len(found)) if at_most else _BATCH
        messages, pending = await _batch(client, stream, subject, position + 1, batch, timeout_s)
        for message in messages:
            if up_to and message.sequence > up_to:
                return found
            found.append(message)
        if not messages or not pending or (at_most and len(found) >= at_most):
            return found
        position = messages[-1].sequence


async def _batch(
    client: Client, stream: str, subject: str, start: int, count: int, timeout_s: float
) -> tuple[list[Stored], int]:
    """One batch from stream sequence `start`, and how many messages are left after it."""
    inbox = client.new_inbox()
    subscription = await client.subscribe(inbox, pending_msgs_limit=0, pending_bytes_limit=0)
    query = {"seq": start, "next_by_subj": subject, "batch": count, "max_bytes": _BATCH_BYTES}
    found: list[Stored] = []
    try:
        await client.publish(f"$JS.API.DIRECT.GET.{stream}", json.dumps(query).encode(), reply=inbox)
        async with asyncio.timeout(timeout_s):
            while True:
                message = await subscription.next_msg(timeout=None)
                headers = message.headers or {}
                status = headers.get("Status")
                if status is None:
                    found.append(stored(message))
                elif status == "204":  # end of batch
                    return found, int(headers.get(_PENDING, 0))
                elif status == "404":
                    return found, 0
                else:
                    raise nats.js.errors.APIError(code=int(status), description=headers.get("Description"))
    finally:
        await subscription.unsubscribe()


def _parse_headers(raw: bytes) -> dict[str, str]:
    lines = raw.decode().split("\r\n")[1:]
    return {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}


def _time(headers: Mapping[str, str]) -> datetime | None:
    text = headers.get(_TIME)
    return _parse_time(text) if text else None


def _parse_time(text: str) -> datetime:
    """RFC 3339 with nanoseconds, which Python reads to the microsecond."""
    whole, _, fraction = text.rstrip("Z").partition(".")
    return datetime.fromisoformat(f"{whole}.{fraction[:6]:0<6}").replace(tzinfo=UTC)
