"""Who calls: API keys and bearer tokens become principals. `Authenticator` is the way in."""

from edge.auth.authenticator import Authenticator
from edge.auth.identity import Authenticated, KeyRecord, identity

__all__ = ["Authenticated", "Authenticator", "KeyRecord", "identity"]
