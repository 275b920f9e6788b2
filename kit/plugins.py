"""Plugins by entry point: a group of named factories, each loaded when it is asked for.

A plugin whose extra is not installed is absent and says why; the others and the service go on.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from kit.errors import PlatformError, Reason

PREFIX = "fastchat."


@dataclass(frozen=True)
class Absent:
    """A plugin that is registered and cannot be loaded here. `why` is one line for `fastchat doctor`."""

    name: str
    why: str


class Plugins:
    """The plugins of one group, such as "vector_providers" (entry-point group "fastchat.vector_providers")."""

    def __init__(self, group: str, found: Mapping[str, EntryPoint]) -> None:
        self.group = group
        self._found = found
        self._loaded: dict[str, Any] = {}

    @classmethod
    def of(cls, group: str) -> "Plugins":
        """What the installed packages register. Imports nothing."""
        return cls(group, {point.name: point for point in entry_points(group=PREFIX + group)})

    def names(self) -> list[str]:
        """Registered names, sorted; some may turn out absent when loaded."""
        return sorted(self._found)

    def load(self, name: str) -> Any:
        """The object registered under the name. UNSUPPORTED_FEATURE when there is none, or its extra is missing."""
        if name in self._loaded:
            return self._loaded[name]
        point = self._found.get(name)
        if point is None:
            known = ", ".join(self.names()) or "none"
            message = f"There is no {self._noun()} called {name}; there are: {known}."
            raise PlatformError(Reason.UNSUPPORTED_FEATURE, message, feature=name)
        try:
            loaded = self._loaded[name] = point.load()
        except (ImportError, AttributeError) as error:
            message = f"The {self._noun()} {name} is not installed here."
            raise PlatformError(Reason.UNSUPPORTED_FEATURE, message, feature=name) from error
        return loaded

    def examine(self) -> list[Absent]:
        """Try all; the ones that cannot be loaded, with the reason. Imports everything: for `fastchat doctor`."""
        absent = []
        for name in self.names():
            try:
                self.load(name)
            except PlatformError as error:
                absent.append(Absent(name, str(error.__cause__ or error)))
        return absent

    def _noun(self) -> str:
        return self.group.removesuffix("s").replace("_", " ")
