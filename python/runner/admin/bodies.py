"""The body of a request, read as what it should be."""

from __future__ import annotations

import re
from typing import Final, TypeVar

import msgspec

from runner.errors import AdminError

T = TypeVar("T")

_TYPES: Final = {
    "str": "a string",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "object": "an object",
    "array": "a list",
}
_COMPARED: Final = {">=": "at least", "<=": "at most", ">": "more than", "<": "less than"}
_MALFORMED: Final = {"Input data was truncated": "it ends too early"}
_PLACE: Final = re.compile(r" - at `(?:key in )?\$\.?([^`]*)`$")
_BOUND: Final = re.compile(r"`(\w+)`(?: of length)? ([<>]=?) ([0-9.e+]+)")


def decoded(body: bytes, kind: type[T], see: str) -> T:
    """The body. `see` is the operation that describes it.

    Errors: AdminError 422 that names the field and quotes no value: it may be a text or a number of somebody.
    """
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise AdminError(422, "body_wrong", _told(error), f"see {see} in /openapi.json") from error


def _told(error: Exception) -> str:
    """What msgspec says of Python's types, in the words of JSON, the field first."""
    if isinstance(error, UnicodeDecodeError):
        return "the body is not UTF-8"
    if not isinstance(error, msgspec.ValidationError):
        why = str(error).removeprefix("JSON is malformed: ")
        return f"the body is no JSON: {_MALFORMED.get(why, why)}"
    said = str(error)
    place = _PLACE.search(said)
    field = place[1] if place else ""
    said = said[: place.start()] if place else said
    if named := re.fullmatch(r"Object missing required field `(\w+)`", said):
        return f"{_below(field, named[1])} is missing"
    if named := re.fullmatch(r"Object contains unknown field `(.*)`", said, re.DOTALL):
        return f"{_below(field, named[1])} is no field of this body"
    what = field or "the body"
    if bound := _BOUND.search(said):
        kind, sign, limit = bound.groups()
        number = f"{float(limit):g}" if abs(float(limit)) < 1e6 else limit
        if "of length >= 1" in said:
            return f"{what} must not be empty"
        if "of length" in said:
            unit = "characters" if kind == "str" else "entries"
            return f"{what} must have {_COMPARED[sign]} {number} {unit}"
        return f"{what} must be {_COMPARED[sign]} {number}"
    if found := re.fullmatch(r"Expected `([^`]+)`, got `(\w+)`", said):
        return f"{what} must be {_named(found[1])}, and is {_named(found[2])}"
    if value := re.fullmatch(r"Invalid enum value (.*)", said, re.DOTALL):
        return f"{what} may not be {value[1]}"
    return f"{what}: {said[:1].lower()}{said[1:]}"


def _below(field: str, name: str) -> str:
    return f"{field}.{name}" if field else name


def _named(types: str) -> str:
    return " or ".join(_TYPES.get(name, name) for name in types.split(" | "))
