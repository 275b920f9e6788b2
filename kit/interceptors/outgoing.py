"""What goes with every call that a service makes: its principal, its deadline, its trace and class of work."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from kit import principal as principals
from kit.admission import INTERACTIVE, current_class
from kit.admission import METADATA_KEY as WORK_CLASS
from kit.deadline import timeout_for
from kit.telemetry import inject

Pair = tuple[str, str | bytes]


@dataclass(frozen=True)
class Outgoing:
    """Makes metadata and timeout of a call. `unary_s`: limit of calls with one answer that state none; 0: none."""

    signer: principals.Signer | None
    unary_s: float = 0.0

    def metadata(self, told: Iterable[Pair] | None) -> Sequence[Pair]:
        """The caller's pairs, then principal (unless told), trace, request id and class of work."""
        pairs = list(told or ())
        principal = principals.current_or_none()
        if (
            self.signer is not None
            and principal is not None
            and not any(key == principals.METADATA_KEY for key, _ in pairs)
        ):
            pairs.append((principals.METADATA_KEY, self.signer.sign(principal)))
        pairs.extend(inject().items())
        work_class = current_class()
        if work_class != INTERACTIVE:
            pairs.append((WORK_CLASS, work_class))
        return pairs

    def timeout(self, told: float | None, *, streaming: bool) -> float | None:
        """The smallest of what the caller says (else the default for its kind) and what is left of the deadline."""
        return timeout_for(told if told is not None or streaming or not self.unary_s else self.unary_s)
