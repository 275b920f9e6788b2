"""The last state that control told, kept on disk so that a service starts and serves without it."""

import hashlib
import os
import struct
from pathlib import Path

import structlog
from google.protobuf.message import DecodeError

from fastchat.control.v1.settings_service_pb2 import WatchSettingsResponse

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

# Magic, time of the last word from control (Unix seconds), SHA-256 of the rest.
_HEAD = struct.Struct(">8sd32s")
_MAGIC = b"fcstate1"


def save(path: Path, state: WatchSettingsResponse, heard_at: float) -> None:
    """Write the state (mode 0600; it holds key hashes), whole at every moment. OSError when it cannot be."""
    body = state.SerializeToString()
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(_HEAD.pack(_MAGIC, heard_at, hashlib.sha256(body).digest()))
        file.write(body)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def load(path: Path) -> tuple[WatchSettingsResponse, float] | None:
    """The state and when control was last heard of; None when there is none, or it is damaged (logged)."""
    try:
        raw = path.read_bytes()
        magic, heard_at, digest = _HEAD.unpack_from(raw)
        body = raw[_HEAD.size :]
        if magic != _MAGIC or hashlib.sha256(body).digest() != digest:
            raise ValueError("checksum")
        return WatchSettingsResponse.FromString(body), heard_at
    except FileNotFoundError:
        return None
    except (OSError, ValueError, struct.error, DecodeError) as error:
        log.warning("settings.last_known_good_unusable", path=str(path), why=type(error).__name__)
        return None
