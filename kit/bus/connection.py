"""The connection, and everything that is done over it."""

import asyncio
import inspect
import ssl
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import nats
import nats.errors
import nats.js.errors
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js import api

from kit.bus import direct, streams
from kit.bus.bucket import Bucket
from kit.bus.config import BusConfig
from kit.bus.consumer import Consumer
from kit.bus.failures import away, translated
from kit.bus.messages import Stored, StreamSpec
from kit.config import ConfigError, mask_url
from kit.errors import PlatformError, Reason

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

Answer = bytes | None
Handler = Callable[[bytes], Awaitable[Answer] | Answer]
Unsubscribe = Callable[[], Awaitable[None]]

_RECONNECT_WAIT_S = 0.2
_PING_S = 5
# Room that is kept for headers.
_HEADERS_BYTES = 8 * 1024


class Bus:
    """A connected NATS client that reconnects by itself, forever. Make it with `connect`, end it with `close`."""

    def __init__(self, client: Client, config: BusConfig) -> None:
        self._client = client
        self._js = client.jetstream(timeout=config.request_timeout_s)
        self.config = config
        self._connected = asyncio.Event()
        self._connected.set()
        self._streams: dict[str, StreamSpec] = {}
        self._on_reconnect: list[Callable[[], object]] = []

    @classmethod
    async def connect(cls, config: BusConfig, *, name: str = "fastchat") -> "Bus":
        """Connect; DEPENDENCY_UNAVAILABLE when no server answers in `connect_timeout_s`."""
        if not config.servers():
            raise ConfigError("bus.url is not set: name a NATS server, or start the all-in-one, which brings one")
        client = Client()
        bus = cls(client, config)
        try:
            async with asyncio.timeout(config.connect_timeout_s):
                await client.connect(**bus._options(name))
        except (TimeoutError, nats.errors.Error, OSError) as error:
            # the operator reads this, so it tells where was tried
            await client.close()  # it would go on trying
            raise away(f"no answer from {mask_url(config.url)} (bus.url)") from error
        return bus

    @property
    def connected(self) -> bool:
        """Whether the connection stands now."""
        return bool(self._client.is_connected)

    @property
    def max_payload(self) -> int:
        """Bytes that the server takes in one message."""
        return int(self._client.max_payload)

    def on_reconnect(self, callback: Callable[[], object]) -> Callable[[], None]:
        """Call back after every reconnection: core messages may have been missed. Returns the way to stop."""
        self._on_reconnect.append(callback)
        return lambda: self._on_reconnect.remove(callback)

    async def close(self) -> None:
        """Send what is pending and disconnect."""
        if self.connected:
            with translated():
                await self._client.flush(timeout=2)
        await self._client.close()

    async def ping(self) -> None:
        """One round trip; DEPENDENCY_UNAVAILABLE if there is none. For health checks."""
        await self._ready()
        with translated():
            await self._client.flush(timeout=max(1, int(self.config.request_timeout_s)))

    async def publish(self, subject: str, data: bytes, headers: Mapping[str, str] | None = None) -> None:
        """Tell whoever listens now (core NATS: nobody may)."""
        await self._ready()
        self._check_size(data)
        with translated():
            await self._client.publish(subject, data, headers=dict(headers) if headers else None)

    async def subscribe(self, subject: str, handler: Handler, *, queue: str = "") -> Unsubscribe:
        """Hear what is told on a subject. What the handler returns, if anything, answers a request.

        With `queue`, each message goes to one member of the group.
        """

        async def on_message(message: Msg) -> None:
            try:
                answer = handler(message.data)
                if inspect.isawaitable(answer):
                    answer = await answer
                if answer is not None and message.reply:
                    await message.respond(answer)
            except Exception:
                log.exception("bus.handler_failed", subject=subject)

        return await self._subscribe(subject, on_message, queue)

    async def listen(self, subject: str, handler: Callable[[Stored], None]) -> Unsubscribe:
        """Hear a stream's republished messages, with the subject and sequence under which they are stored."""

        async def on_message(message: Msg) -> None:
            handler(direct.stored(message))

        return await self._subscribe(subject, on_message, "")

    async def request_many(self, subject: str, data: bytes, *, timeout_s: float, at_most: int = 0) -> list[bytes]:
        """Ask everybody who listens; returns what was answered in time ([] at once when nobody listens)."""
        await self._ready()
        answers: list[bytes] = []
        with translated():
            inbox = self._client.new_inbox()
            subscription = await self._client.subscribe(inbox)
            try:
                await self._client.publish(subject, data, reply=inbox)
                async with asyncio.timeout(timeout_s):
                    while not at_most or len(answers) < at_most:
                        message = await subscription.next_msg(timeout=None)
                        if message.headers and message.headers.get("Status") == "503":
                            break
                        answers.append(message.data)
            except TimeoutError:
                pass
            finally:
                await subscription.unsubscribe()
        return answers

    async def ensure_stream(self, spec: StreamSpec) -> None:
        """Make the stream, or bring it to the spec. Safe to call often, and from every replica at once."""
        await self._ready()
        with translated():
            if self._streams.get(spec.name) != spec:
                await streams.ensure(self._js, spec, self.config.replicas)
                self._streams[spec.name] = spec

    async def append(
        self,
        subject: str,
        data: bytes,
        *,
        expected_last_subject_seq: int | None = None,
        headers: Mapping[str, str] | None = None,
        message_id: str = "",
        timeout_s: float | None = None,
    ) -> tuple[int, bool]:
        """Store a message; returns (stream sequence, whether it was a duplicate of a stored one).

        WrongSequence when the subject has moved on from `expected_last_subject_seq`; LimitReached when it is full.
        """
        await self._ready(timeout_s)
        self._check_size(data)
        told: dict[str, str] = dict(headers or {})
        if expected_last_subject_seq is not None:
            told[api.Header.EXPECTED_LAST_SUBJECT_SEQUENCE] = str(expected_last_subject_seq)
        if message_id:
            told[api.Header.MSG_ID] = message_id
        with translated():
            timeout_s = timeout_s or self.config.request_timeout_s
            ack = await self._js.publish(subject, data, timeout=timeout_s, headers=told or None)
        return ack.seq, bool(ack.duplicate)

    async def last(self, stream: str, subject: str) -> Stored | None:
        """The subject's last message as the stream's leader knows it, or None."""
        return await self._get(stream, {"last_by_subj": subject})

    async def get(self, stream: str, sequence: int) -> Stored | None:
        """The message with that stream sequence, or None."""
        return await self._get(stream, {"seq": sequence})

    async def read_range(
        self, stream: str, subject: str, *, after: int = 0, up_to: int = 0, at_most: int = 0
    ) -> list[Stored]:
        """The subject's messages with stream sequences in (after, up_to], in order; `subject` may hold wildcards.

        No consumer is made. On a cluster a follower may answer: its newest messages can be missing, never others.
        """
        await self._ready()
        with translated():
            return await direct.read(
                self._client, stream, subject, after, up_to, at_most, self.config.request_timeout_s
            )

    async def purge(self, stream: str, subject: str) -> None:
        """Remove every message of the subject."""
        await self._ready()
        with translated():
            await self._js.purge_stream(stream, subject=subject)

    async def remove(self, stream: str, sequence: int) -> bool:
        """Remove one message; returns whether it was there."""
        await self._ready()
        with translated():
            try:
                return bool(await self._js.delete_msg(stream, sequence))
            except nats.js.errors.APIError as error:
                if error.code == 404 or (error.err_code in streams.NO_MESSAGE and "message" in str(error.description)):
                    return False
                raise

    async def counts(self, stream: str, subject: str = ">") -> dict[str, int]:
        """Messages per subject that the filter matches."""
        await self._ready()
        with translated():
            info = await self._js.stream_info(stream, subjects_filter=subject)
        return dict(info.state.subjects or {})

    async def consumer(
        self, stream: str, name: str, subject: str, *, ack_wait_s: float, max_ack_pending: int = 10_000
    ) -> Consumer:
        """Open (and on first use make) a durable consumer of the subject's messages."""
        await self._ready()
        with translated():
            config = streams.consumer_config(name, subject, ack_wait_s, max_ack_pending)
            await self._js.add_consumer(stream, config)
            return Consumer(await self._js.pull_subscribe_bind(durable=name, stream=stream))

    async def bucket(self, name: str, *, ttl_s: float = 0) -> Bucket:
        """Open (and on first use make) a key-value bucket; entries older than `ttl_s` go."""
        await self._ready()
        with translated():
            config = api.KeyValueConfig(bucket=name, ttl=ttl_s or None, replicas=self.config.replicas)
            return Bucket(await self._js.create_key_value(config=config))

    async def _get(self, stream: str, query: Mapping[str, Any]) -> Stored | None:
        await self._ready()
        with translated():
            return await direct.get_from_leader(self._client, stream, query, self.config.request_timeout_s)

    async def _subscribe(self, subject: str, callback: Callable[[Msg], Awaitable[None]], queue: str) -> Unsubscribe:
        await self._ready()
        with translated():
            subscription = await self._client.subscribe(subject, queue=queue, cb=callback)
            await self._client.flush(timeout=max(1, int(self.config.request_timeout_s)))

        async def unsubscribe() -> None:
            if not self._client.is_closed:
                with translated():
                    await subscription.unsubscribe()

        return unsubscribe

    def _check_size(self, data: bytes) -> None:
        # The client checks the payload alone; the server counts the headers too, and hangs up.
        if len(data) + _HEADERS_BYTES > self.max_payload:
            limit = str(self.max_payload - _HEADERS_BYTES)
            message = "The message is larger than the bus takes."
            raise PlatformError(Reason.PAYLOAD_TOO_LARGE, message, limit_bytes=limit)

    async def _ready(self, timeout_s: float | None = None) -> None:
        """Wait for a connection that is being made anew, within the request's time."""
        if self._client.is_connected:
            return
        if self._client.is_closed:
            raise away("closed")
        try:
            async with asyncio.timeout(timeout_s or self.config.request_timeout_s):
                await self._connected.wait()
        except TimeoutError:
            raise away("not connected") from None  # without a cause: nothing was sent

    def _options(self, name: str) -> dict[str, Any]:
        config = self.config
        options: dict[str, Any] = {
            "servers": config.servers(),
            "name": name,
            "connect_timeout": max(1, int(config.connect_timeout_s)),
            "reconnect_time_wait": _RECONNECT_WAIT_S,
            "max_reconnect_attempts": -1,
            "ping_interval": _PING_S,
            "max_outstanding_pings": 2,
            "error_cb": _on_error,
            "disconnected_cb": self._disconnected,
            "reconnected_cb": self._reconnected,
        }
        if config.user:
            options |= {"user": config.user, "password": config.password.get_secret_value()}
        if config.token.get_secret_value():
            options["token"] = config.token.get_secret_value()
        if config.credentials_file:
            options["user_credentials"] = str(config.credentials_file)
        if config.tls_ca_file:
            options["tls"] = ssl.create_default_context(cafile=str(config.tls_ca_file))
        return options

    async def _disconnected(self) -> None:
        self._connected.clear()
        log.warning("bus.disconnected")

    async def _reconnected(self) -> None:
        self._streams.clear()  # it may be another server, with an empty store
        self._connected.set()
        log.info("bus.reconnected")
        for callback in list(self._on_reconnect):
            callback()


async def _on_error(error: Exception) -> None:
    log.debug("bus.error", why=f"{type(error).__name__}: {error}"[:200])
