"""Functions of a chat request: `tools`, `tool_choice` and their legacy spellings."""

from __future__ import annotations

from edge.openai.fields import (
    Json,
    array,
    boolean,
    choice,
    dumps,
    function_name,
    missing,
    obj,
    only,
    optional_string,
    unsupported,
    wrong_type,
    wrong_value,
)
from fastchat.common.v1 import message_pb2 as pb

MOST_TOOLS = 128
_MODES = ("none", "auto", "required")


def parse_tools(value: object) -> list[pb.ToolDefinition]:
    """Parse `tools`: function tools, at most 128."""
    return [_tool(item, f"tools[{index}]") for index, item in enumerate(array(value, "tools", most=MOST_TOOLS))]


def parse_functions(value: object) -> list[pb.ToolDefinition]:
    """Parse the legacy `functions`, which become function tools."""
    items = array(value, "functions", fewest=1, most=MOST_TOOLS)
    return [_function(item, f"functions[{index}]") for index, item in enumerate(items)]


def parse_tool_choice(value: object, tools: list[pb.ToolDefinition]) -> str:
    """Parse `tool_choice` -> JSON text."""
    path = "tool_choice"
    if type(value) is str:
        choice(value, path, _MODES)
    elif type(value) is dict:
        _choice_object(value, path, {tool.name for tool in tools})
    else:
        wrong_type(path, "a string or an object", value)
    if not tools and value != "none":
        wrong_value(path, "'tool_choice' is only allowed when 'tools' are specified.")
    return dumps(value)


def parse_function_call(value: object, tools: list[pb.ToolDefinition]) -> str:
    """Parse the legacy `function_call` -> JSON text of the `tool_choice` that means the same."""
    path = "function_call"
    if type(value) is str:
        return dumps(choice(value, path, ("none", "auto")))
    if type(value) is not dict:
        wrong_type(path, "a string or an object", value)
    name = _known(value, path, {tool.name for tool in tools})
    return dumps({"type": "function", "function": {"name": name}})


def _tool(item: object, path: str) -> pb.ToolDefinition:
    source = obj(item, path)
    if "type" not in source:
        missing(f"{path}.type")
    if source["type"] == "custom":
        unsupported(f"{path}.type", "Custom tools are not supported; use function tools.")
    choice(source["type"], f"{path}.type", ("function",))
    only(source, ("type", "function"), path)
    if "function" not in source:
        missing(f"{path}.function")
    return _function(source["function"], f"{path}.function")


def _function(item: object, path: str) -> pb.ToolDefinition:
    source = obj(item, path)
    only(source, ("name", "description", "parameters", "strict"), path)
    if "name" not in source:
        missing(f"{path}.name")
    tool = pb.ToolDefinition(
        name=function_name(source["name"], f"{path}.name"),
        description=optional_string(source, "description", f"{path}.description"),
    )
    parameters = source.get("parameters")
    if parameters is not None:
        tool.parameters_json = dumps(obj(parameters, f"{path}.parameters"))
    strict = boolean(source, "strict", f"{path}.strict")
    if strict is not None:
        tool.strict = strict
    return tool


def _choice_object(source: Json, path: str, names: set[str]) -> None:
    if "type" not in source:
        missing(f"{path}.type")
    kind = choice(source["type"], f"{path}.type", ("function", "allowed_tools", "custom"))
    if kind == "custom":
        unsupported(f"{path}.type", "Custom tools are not supported; use function tools.")
    if kind not in source:
        missing(f"{path}.{kind}")
    only(source, ("type", kind), path)
    if kind == "function":
        _known(obj(source["function"], f"{path}.function"), f"{path}.function", names)
        return
    allowed = obj(source["allowed_tools"], f"{path}.allowed_tools")
    path = f"{path}.allowed_tools"
    only(allowed, ("mode", "tools"), path)
    choice(allowed.get("mode"), f"{path}.mode", ("auto", "required"))
    for index, tool in enumerate(array(allowed.get("tools"), f"{path}.tools", fewest=1)):
        here = f"{path}.tools[{index}]"
        _known(obj(obj(tool, here).get("function"), f"{here}.function"), f"{here}.function", names)


def _known(source: Json, path: str, names: set[str]) -> str:
    if "name" not in source:
        missing(f"{path}.name")
    name = function_name(source["name"], f"{path}.name")
    if name not in names:
        wrong_value(f"{path}.name", f"no function '{name}' is specified.")
    return name
