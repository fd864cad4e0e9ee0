"""The body of a request, read as what it should be."""

from __future__ import annotations

from typing import TypeVar

import msgspec

from runner.errors import AdminError

T = TypeVar("T")


def decoded(body: bytes, kind: type[T], see: str = "", instead: str | None = None) -> T:
    """The body. `see` is the operation that describes it; `instead` is said when the body may not be quoted.

    Errors: AdminError 422.
    """
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.DecodeError as error:
        described = f"see {see} in /openapi.json" if see else "see /openapi.json"
        raise AdminError(422, "body_wrong", str(error) if instead is None else instead, described) from error
