"""Settings of the memory service: section ``memory``."""

from kit.config import Section


class MemoryConfig(Section):
    """What the service can be told; so far nothing beyond what every service can be told."""
