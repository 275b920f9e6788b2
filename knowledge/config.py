"""Settings of the knowledge service: section ``knowledge``."""

from kit.config import Section


class KnowledgeConfig(Section):
    """What the service can be told; so far nothing beyond what every service can be told."""
