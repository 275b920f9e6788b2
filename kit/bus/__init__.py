"""NATS: one connection a process, with the JetStream primitives that the event log and the jobs stand on.

The only package that imports nats. A server that is away gives DEPENDENCY_UNAVAILABLE within the request timeout;
nothing here waits without a deadline.
"""

from kit.bus.bucket import Bucket
from kit.bus.config import BusConfig
from kit.bus.connection import Bus
from kit.bus.consumer import Consumer, Delivery
from kit.bus.failures import LimitReached, WrongSequence
from kit.bus.messages import Stored, StreamSpec, token

__all__ = [
    "Bucket",
    "Bus",
    "BusConfig",
    "Consumer",
    "Delivery",
    "LimitReached",
    "Stored",
    "StreamSpec",
    "WrongSequence",
    "token",
]
