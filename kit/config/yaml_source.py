"""The YAML layer: the document, and the line on which each of its keys stands."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from kit.config.section import ConfigError

KeyPath = tuple[str | int, ...]


@dataclass(frozen=True)
class YamlDocument:
    """A parsed settings file. `lines` maps a path such as ("models", 0, "alias") to its line, from 1."""

    name: str
    data: dict[str, Any]
    lines: dict[KeyPath, int] = field(default_factory=dict)

    def line(self, path: KeyPath) -> int:
        """Line of the path, or of its nearest parent that is in the file."""
        for length in range(len(path), 0, -1):
            if path[:length] in self.lines:
                return self.lines[path[:length]]
        return 1


def read_yaml(path: Path) -> YamlDocument:
    """Parse the file. ConfigError when it is missing, is not YAML, repeats a key or is not a mapping."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {_reason(error)}") from error
    return parse_yaml(text, str(path))


def parse_yaml(text: str, name: str) -> YamlDocument:
    """Parse the text of a settings file called `name`."""
    try:
        loader = yaml.SafeLoader(text)  # SafeLoader by hand: its nodes carry the lines that safe_load drops
        node = loader.get_single_node()
        if node is None:
            return YamlDocument(name, {})
        if not isinstance(node, yaml.MappingNode):
            raise ConfigError.of([(f"{name}:1", "", "the file must be a mapping of sections")])
        lines: dict[KeyPath, int] = {}
        _walk(node, (), lines, name, ())
        data = loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        raise ConfigError.of([(f"{name}:{line}", "", f"not valid YAML: {error.problem}")]) from error
    except yaml.YAMLError as error:
        raise ConfigError.of([(f"{name}:1", "", f"not valid YAML: {error}")]) from error
    return YamlDocument(name, data, lines)


def _walk(node: yaml.Node, path: KeyPath, lines: dict[KeyPath, int], name: str, above: tuple[int, ...]) -> None:
    if id(node) in above:
        raise ConfigError.of([(f"{name}:{node.start_mark.line + 1}", "", "an alias may not contain itself")])
    above = (*above, id(node))
    if isinstance(node, yaml.MappingNode):
        for key_node, value_node in node.value:
            key = str(key_node.value)
            here = (*path, key)
            line = key_node.start_mark.line + 1
            if here in lines and key != "<<":
                dotted = ".".join(str(part) for part in here)
                raise ConfigError.of([(f"{name}:{line}", dotted, f"is already set on line {lines[here]}")])
            lines[here] = line
            _walk(value_node, here, lines, name, above)
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            lines[(*path, index)] = item.start_mark.line + 1
            _walk(item, (*path, index), lines, name, above)


def _reason(error: OSError | UnicodeDecodeError) -> str:
    return (error.strerror or str(error)) if isinstance(error, OSError) else "not UTF-8 text"
