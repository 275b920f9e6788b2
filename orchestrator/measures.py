"""Metrics of the orchestrator."""

from __future__ import annotations

from kit.telemetry import metrics

RUNS_STARTED = metrics.counter("fastchat_runs_started_total", "Runs begun.", ["path"])
RUNS_ENDED = metrics.counter("fastchat_runs_ended_total", "Runs ended, by outcome.", ["path", "outcome"])
RUNS_ACTIVE = metrics.gauge("fastchat_runs_active", "Runs that this replica executes.", ["path"])
TAKEOVERS = metrics.counter("fastchat_run_takeovers_total", "Durable runs taken over from another owner.")
FENCED = metrics.counter("fastchat_runs_fenced_total", "Executions that another owner fenced.")
FIRST_OUTPUT_SECONDS = metrics.histogram(
    "fastchat_run_first_output_seconds", "From the start of a run to its first output.", ["path"]
)
APPEND_SECONDS = metrics.histogram("fastchat_run_append_seconds", "One acknowledged append to a run's log.")
READERS = metrics.gauge("fastchat_run_readers", "Readers of durable runs attached to this replica.")
