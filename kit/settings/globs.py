"""Allow-lists of globs, and their intersection.

A list means "matches one of these"; a term may join globs with "&": "matches all of these", which is how the
intersection of two lists is written when no single glob says it ("gpt-*&*-mini").
"""

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

Term = frozenset[str]
ALL_OF = "&"


def model_allowed(allowed: Sequence[str] | None, alias: str) -> bool:
    """Whether the allow-list lets the alias through; None lets everything through, [] nothing."""
    if allowed is None:
        return True
    return any(all(fnmatchcase(alias, glob) for glob in term.split(ALL_OF)) for term in allowed)


def intersect(left: Sequence[str], right: Sequence[str]) -> list[str]:
    """Allow-list of what both lists let through, in normal form (sorted, nothing that another term covers).

    Commutative, associative and idempotent: the order in which layers arrive does not matter.
    """
    products = (_terms([f"{one}{ALL_OF}{other}"]) for one in left for other in right)
    return normalize([ALL_OF.join(sorted(term)) for product in products for term in product])


def normalize(globs: Sequence[str]) -> list[str]:
    """The same allow-list in normal form."""
    terms = set(_terms(globs))
    smallest = {term for term in terms if not any(other < term for other in terms)}
    return sorted(ALL_OF.join(sorted(term)) for term in smallest)


def _terms(globs: Iterable[str]) -> list[Term]:
    terms = (_simplify(frozenset(glob.split(ALL_OF))) for glob in globs)
    return [term for term in terms if term is not None]


def _simplify(term: Term) -> Term | None:
    """A term with a name in it is that name, or nothing; "*" says nothing beside others."""
    names = [glob for glob in term if not any(sign in glob for sign in "*?[")]
    if names:
        return frozenset(names[:1]) if all(fnmatchcase(names[0], glob) for glob in term) else None
    return term - {"*"} or frozenset({"*"})
