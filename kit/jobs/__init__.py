"""Jobs: work queues that survive their workers, and the dead letters of those that never succeed."""

from kit.jobs.dead_letters import DeadLetter, DeadLetterPage, DeadLetters
from kit.jobs.job import Abandon, Job, Retry
from kit.jobs.queue import JobQueue

__all__ = ["Abandon", "DeadLetter", "DeadLetterPage", "DeadLetters", "Job", "JobQueue", "Retry"]
