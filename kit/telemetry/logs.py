"""Structured logs: one line an event, with trace and request ids. Prompts and answers never go through here."""

import logging
import sys
from collections.abc import Callable, MutableMapping
from contextlib import suppress
from typing import Any, TextIO, cast

import orjson
import structlog
from opentelemetry import trace

from kit.telemetry import metrics
from kit.telemetry.config import TelemetryConfig
from kit.telemetry.context import current_request_id

Event = MutableMapping[str, Any]

_lost = metrics.counter("fastchat_log_lines_lost_total", "Log lines that could not be written.")

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
# Both formats tell frames without their local variables: those hold prompts and secrets.
_TRACEBACKS = structlog.processors.ExceptionRenderer(structlog.tracebacks.ExceptionDictTransformer(show_locals=False))
# Libraries that log a line per request or per retry; their errors still show.
_CHATTY = (
    "httpx",
    "httpcore",
    "nats",
    "grpc",
    "uvicorn.access",
    "uvicorn.error",
    "asyncio",
    "opentelemetry",
    "LiteLLM",
)


class _Unfailing:
    """Where lines go. A full disk or a closed pipe costs lines, never the request that wrote them."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write, or count the line as lost."""
        try:
            self._stream.write(text)
        except OSError:
            _lost.inc()
        return len(text)

    def flush(self) -> None:
        """Flush what can be."""
        with suppress(OSError):
            self._stream.flush()

    def isatty(self) -> bool:
        """Whether a person looks on."""
        return self._stream.isatty()


def get_logger(name: str) -> structlog.typing.FilteringBoundLogger:
    """A logger: `log.info("run ended", run_id=...)`. Works before `configure`, with structlog's defaults."""
    return cast(structlog.typing.FilteringBoundLogger, structlog.get_logger(logger_name=name))


def configure(config: TelemetryConfig, service: str, stream: TextIO | None = None) -> None:
    """Route structlog and the standard library's logging to one stream (standard error) in one format."""
    out = _Unfailing(stream or sys.stderr)
    as_json = config.log_format == "json" or (config.log_format == "auto" and not out.isatty())
    shared: list[Any] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _ids(service),
    ]
    ending: list[Any] = (
        [_TRACEBACKS, structlog.processors.JSONRenderer(serializer=_json)]
        if as_json
        else [structlog.dev.ConsoleRenderer(colors=out.isatty(), exception_formatter=structlog.dev.plain_traceback)]
    )
    structlog.configure(
        processors=[*shared, *ending],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[config.log_level]),
        logger_factory=structlog.PrintLoggerFactory(cast(TextIO, out)),
        cache_logger_on_first_use=False,  # modules hold loggers from before this call
    )
    handler = logging.StreamHandler(cast(TextIO, out))
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[_stdlib_name, *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *ending],
        )
    )
    logging.basicConfig(handlers=[handler], level=_LEVELS[config.log_level], force=True)
    for name in _CHATTY:
        logging.getLogger(name).setLevel(max(logging.WARNING, _LEVELS[config.log_level]))


def _ids(service: str) -> Callable[[Any, str, Event], Event]:
    def add(_: Any, __: str, event: Event) -> Event:
        event["service"] = service
        if "logger_name" in event:
            event["logger"] = event.pop("logger_name")
        span = trace.get_current_span().get_span_context()
        if span.trace_id:
            event["trace_id"] = f"{span.trace_id:032x}"
            event["span_id"] = f"{span.span_id:016x}"
        request_id = current_request_id()
        if request_id:
            event["request_id"] = request_id
        return event

    return add


def _stdlib_name(_: Any, __: str, event: Event) -> Event:
    record = event.get("_record")
    if record is not None:
        event["logger"] = record.name
    return event


def _json(value: Any, **_: Any) -> str:
    return orjson.dumps(value, default=repr).decode()
