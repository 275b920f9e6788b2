"""What a service knows about its dependencies: what is degraded, and what still works."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DependencyState:
    """One dependency as last seen. `critical`: without it the service is not ready."""

    name: str
    ok: bool
    detail: str = ""
    impact: str = ""
    critical: bool = False


class Health:
    """Dependency states of one service. A critical dependency counts as missing until it was first reported."""

    def __init__(self, critical: Iterable[str] = ()) -> None:
        self._states = {name: DependencyState(name, False, "not checked yet", "", True) for name in critical}
        self._draining = False
        self._listeners: list[Callable[[], None]] = []

    def set(self, dependency: str, ok: bool, detail: str = "", impact: str = "") -> None:
        """Report a dependency. `detail`: what is wrong, in one line; `impact`: what still works without it."""
        before = self._states.get(dependency)
        state = DependencyState(dependency, ok, detail, impact, before.critical if before else False)
        if state != before:
            self._states[dependency] = state
            self._changed()

    def drain(self) -> None:
        """Report not ready from now on: the service is about to stop."""
        self._draining = True
        self._changed()

    def snapshot(self) -> list[DependencyState]:
        """All dependencies, by name."""
        return [self._states[name] for name in sorted(self._states)]

    @property
    def draining(self) -> bool:
        """Whether the service is about to stop."""
        return self._draining

    @property
    def ready(self) -> bool:
        """Whether new work is welcome: not draining, and every critical dependency is there."""
        return not self._draining and all(state.ok for state in self._states.values() if state.critical)

    @property
    def degraded(self) -> bool:
        """Whether some dependency is away, critical or not."""
        return any(not state.ok for state in self._states.values())

    def on_change(self, listener: Callable[[], None]) -> None:
        """Call `listener` whenever a state changed. It must not block."""
        self._listeners.append(listener)

    def _changed(self) -> None:
        for listener in self._listeners:
            listener()
