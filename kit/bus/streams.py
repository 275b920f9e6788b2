"""Streams and consumers, made or brought to shape."""

import nats.js.errors
from nats.js import JetStreamContext, api

from kit.bus.messages import StreamSpec

_NAME_IN_USE = 10058
NO_MESSAGE = (10037, 10043, 10057)

# Pull requests that may wait at once: each replica has one a queue.
_MAX_WAITING = 2048


async def ensure(js: JetStreamContext, spec: StreamSpec, replicas: int) -> None:
    """Make the stream, or update it when it exists in another shape."""
    config = _stream_config(spec, replicas)
    try:
        await js.add_stream(config)
    except nats.js.errors.APIError as error:
        if error.err_code != _NAME_IN_USE:
            raise
        await js.update_stream(config)


def _stream_config(spec: StreamSpec, replicas: int) -> api.StreamConfig:
    republish = api.RePublish(src=spec.republish_from, dest=spec.republish_to) if spec.republish_to else None
    return api.StreamConfig(
        name=spec.name,
        subjects=list(spec.subjects),
        retention=api.RetentionPolicy.WORK_QUEUE if spec.work_queue else api.RetentionPolicy.LIMITS,
        discard=api.DiscardPolicy.NEW,
        max_msgs_per_subject=spec.max_per_subject or -1,
        discard_new_per_subject=bool(spec.max_per_subject),
        max_age=spec.max_age_s or None,
        storage=api.StorageType.FILE,
        num_replicas=replicas,
        duplicate_window=spec.duplicate_window_s,
        republish=republish,
        allow_direct=True,
    )


def consumer_config(name: str, subject: str, ack_wait_s: float, max_ack_pending: int) -> api.ConsumerConfig:
    """A durable pull consumer without a limit on deliveries: kit.jobs counts them, so that it can say why."""
    return api.ConsumerConfig(
        durable_name=name,
        filter_subject=subject,
        ack_policy=api.AckPolicy.EXPLICIT,
        ack_wait=ack_wait_s,
        max_deliver=-1,
        max_ack_pending=max_ack_pending,
        max_waiting=_MAX_WAITING,
    )
