"""The event log of runs: fenced append, takeover, and gapless tails (architecture section 4)."""

from kit.eventlog.log import EventLog, Fenced, RunLogFull
from kit.eventlog.records import LogKey

__all__ = ["EventLog", "Fenced", "LogKey", "RunLogFull"]
