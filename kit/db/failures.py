"""Engine errors as the platform's own."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DBAPIError, IntegrityError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from kit.errors import PlatformError, Reason

# SQLSTATE classes: insufficient resources, system error, operator intervention, connection exception.
_STORAGE_STATES = ("53", "58")
_AWAY_STATES = ("08", "57P", "28", "3D")
# Primary result codes of SQLite, https://sqlite.org/rescode.html
_SQLITE_STORAGE = {
    5: "the database stays locked",
    8: "the database is read-only",
    10: "the disk does not take the write",
    11: "the database file is damaged",
    13: "the disk is full",
    14: "the database file cannot be opened",
}
_RETRY_AFTER_S = 5.0


@contextmanager
def translated(service: str) -> Iterator[None]:
    """Raise STORAGE_UNAVAILABLE or DEPENDENCY_UNAVAILABLE for what the engine could not do."""
    try:
        yield
    except IntegrityError:
        raise  # the caller knows what the constraint means
    except PoolTimeout as error:
        message = "The database is busy: no connection came free in time."
        raise PlatformError(Reason.STORAGE_UNAVAILABLE, message, retry_after_s=_RETRY_AFTER_S, store=service) from error
    except DBAPIError as error:
        known = _known(error, service)
        if known is None:
            raise
        raise known from error
    except (ConnectionError, OSError, TimeoutError) as error:
        if not _from_driver(error):
            raise
        raise _away(service) from error


def _known(error: DBAPIError, service: str) -> PlatformError | None:
    driver = getattr(error.orig, "__cause__", None) or error.orig
    sqlite_code = getattr(driver, "sqlite_errorcode", None)
    if sqlite_code is not None and (sqlite_code & 0xFF) in _SQLITE_STORAGE:
        return _storage(service, _SQLITE_STORAGE[sqlite_code & 0xFF])
    state = str(getattr(error.orig, "sqlstate", None) or getattr(driver, "sqlstate", None) or "")
    if state.startswith(_STORAGE_STATES):
        return _storage(service, "the server is out of resources")
    if state.startswith(_AWAY_STATES) or error.connection_invalidated:
        return _away(service)
    if isinstance(error, InterfaceError | OperationalError) and not state and sqlite_code is None:
        return _away(service)
    return None


def _storage(service: str, why: str) -> PlatformError:
    message = f"The store cannot take this now: {why}."
    return PlatformError(Reason.STORAGE_UNAVAILABLE, message, retry_after_s=_RETRY_AFTER_S, store=service)


def _away(service: str) -> PlatformError:
    message = "The database cannot be reached."
    return PlatformError(
        Reason.DEPENDENCY_UNAVAILABLE, message, retry_after_s=_RETRY_AFTER_S, dependency=f"{service}.database"
    )


def _from_driver(error: BaseException) -> bool:
    """Whether the error was raised while asyncpg was connecting or talking (it lets OSError and timeouts through)."""
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_globals.get("__name__", "").startswith(("asyncpg", "sqlalchemy.dialects.postgresql")):
            return True
        trace = trace.tb_next
    return False
