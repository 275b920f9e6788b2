"""What a section is made of, and the error that a wrong one gives."""

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """Base of a settings section: frozen, unknown keys refused, fields documented where they are declared."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class ConfigError(Exception):
    """The configuration is wrong and the process must not start.

    The text is for a person: one line per problem, each naming where the value came from.
    `problems` holds (origin, dotted field, message) for callers that print their own.
    """

    def __init__(self, message: str, problems: list[tuple[str, str, str]] | None = None) -> None:
        super().__init__(message)
        self.problems = problems or []

    @classmethod
    def of(cls, problems: list[tuple[str, str, str]]) -> "ConfigError":
        """Build the error from its problems, each (origin, dotted field, message)."""
        lines = [
            f"{origin}: {field}: {message}" if field else f"{origin}: {message}" for origin, field, message in problems
        ]
        return cls("\n".join(lines), problems)
