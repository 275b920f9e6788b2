"""Audit: what was done or refused, told to control and never dropped."""

from kit.audit.client import STREAM, Audit, audit_queue, events_of

__all__ = ["STREAM", "Audit", "audit_queue", "events_of"]
