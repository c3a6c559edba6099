"""A JSON schema as verifier."""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from router.errors import ConfigurationError, InvalidInput
from router.execution.answers import reader
from router.execution.strategy import Caller
from router.execution.verifiers.verdict import Checked, Verdict

MOST_FAULTS, MOST_FAULT_CHARS = 5, 200


class SchemaVerifier:
    """Holds an answer against `verifier_params["schema"]`, or the response format's schema.

    Patterns are not looked at: they come from callers, and one that backtracks would stop
    the whole process. References lead nowhere but within the schema.
    """

    async def verify(self, checked: Checked, caller: Caller) -> Verdict:  # noqa: ARG002
        """As Verifier says. Raises InvalidInput without a schema that holds."""
        text = reader("json").read(checked.said.text)
        if text is None:
            return Verdict(score=0.0, feedback="The answer is no JSON.")
        faults = _faults(json.loads(text), _schema(checked))
        if not faults:
            return Verdict(passed=True, score=1.0)
        return Verdict(score=0.0, feedback="The JSON is not as asked: " + "; ".join(faults))


def _schema(checked: Checked) -> Mapping[str, Any]:
    asked = (checked.task.options.response_format or {}).get("json_schema") or {}
    found = checked.params.get("schema") or asked.get("schema")
    if not isinstance(found, Mapping):
        raise InvalidInput("has no 'schema' to hold answers against", field="verifier_params")
    return found


def _faults(value: Any, schema: Mapping[str, Any]) -> list[str]:
    jsonschema, referencing = _library("jsonschema"), _library("referencing")
    known = jsonschema.validators.validator_for(schema, jsonschema.Draft202012Validator)
    kind = jsonschema.validators.extend(known, {"pattern": None, "patternProperties": None})
    try:
        known.check_schema(schema)
        errors = kind(schema, registry=referencing.Registry()).iter_errors(value)
        return [_told(error) for _, error in zip(range(MOST_FAULTS), errors, strict=False)]
    except (jsonschema.SchemaError, referencing.exceptions.Unresolvable) as error:
        why = type(error).__name__
        raise InvalidInput(f"'schema' does not hold ({why})", field="verifier_params") from None


def _told(error: Any) -> str:
    place = "/".join(map(str, error.absolute_path)) or "the whole"
    return f"{place}: {error.message}"[:MOST_FAULT_CHARS]


def _library(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        raise ConfigurationError(f"JSON schemas need {name}: pip install jsonschema") from None
