"""A phone number as people write it."""

from __future__ import annotations

import re
from typing import Final

from runner.errors import RefusedError

_BETWEEN: Final = r"[\s()./+-]*"
PHONE_NUMBER: Final = f"{_BETWEEN}[1-9](?:{_BETWEEN}[0-9]){{6,14}}{_BETWEEN}"


def checked_phone(text: str) -> int:
    """The number that somebody typed, with the country code: `+55 11 91234-5678` is 5511912345678.

    Errors: RefusedError; it does not repeat the number, which stays out of logs.
    """
    if not re.fullmatch(PHONE_NUMBER, text):
        raise RefusedError(
            "phone_wrong",
            "this is no phone number: 7 to 15 digits, the country code first",
            "for example +55 11 91234-5678",
        )
    return int(re.sub(_BETWEEN, "", text))
