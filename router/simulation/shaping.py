"""Shapes a simulated answer as the request asks: as a tool call, as JSON, or as it is."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from router.simulation.api import ChatRequest, Tool

MARK = "Answer:"
_TYPES: Mapping[str, Any] = {"boolean": True, "array": [], "object": {}, "null": None}


@dataclass(frozen=True, slots=True, kw_only=True)
class Shaped:
    """A reply's text, or the tool that it calls instead with JSON `arguments`."""

    text: str = ""
    tool: str = ""
    arguments: str = ""

    @property
    def finish_reason(self) -> str:
        """Why it ended, in OpenAI's word."""
        return "tool_calls" if self.tool else "stop"


def shaped(request: ChatRequest, content: str) -> Shaped:
    """The content in the shape that the request asks.

    A tool is called where the request makes it, or the last message is a user's that names
    it or says 'tool': the first of the tools, with arguments made of the message. What a
    tool brought is repeated.
    """
    last = request.messages[-1]
    if last.role == "tool":
        content = f"{MARK} {last.text}"
    elif (tool := _called(request)) is not None:
        arguments = _instance(tool.function.parameters, last.text)
        return Shaped(tool=tool.function.name, arguments=orjson.dumps(arguments).decode())
    asked = request.response_format
    if asked is None or asked.type == "text":
        return Shaped(text=content)
    answer = content.rpartition(MARK)[2].strip()
    schema = (asked.json_schema or {}).get("schema") or {}
    said = _instance(schema, answer) if schema.get("properties") else {"answer": answer}
    return Shaped(text=orjson.dumps(said).decode())


def _called(request: ChatRequest) -> Tool | None:
    if not request.tools or request.tool_choice == "none":
        return None
    if isinstance(request.tool_choice, Mapping):
        wanted = request.tool_choice.get("function", {}).get("name")
        return next((tool for tool in request.tools if tool.function.name == wanted), None)
    text, first = request.messages[-1].text.lower(), request.tools[0]
    named = first.function.name.lower().replace("_", " ") in text.replace("_", " ")
    asked = request.tool_choice == "required" or named or "tool" in text
    return first if asked else None


def _instance(schema: Mapping[str, Any], text: str) -> dict[str, Any]:
    """An object of the schema whose texts are `text` and whose numbers are its first one."""
    return {
        name: _value(each, text)
        for name, each in (schema.get("properties") or {}).items()
        if isinstance(each, Mapping)
    }


def _value(schema: Mapping[str, Any], text: str) -> Any:
    if schema.get("enum"):
        return schema["enum"][0]
    kind = schema.get("type", "string")
    if kind in {"number", "integer"}:
        found = re.search(r"-?\d{1,15}", text)
        return int(found[0]) if found else 0
    if kind == "object" and schema.get("properties"):
        return _instance(schema, text)
    return _TYPES.get(kind, text)
