"""What FastAPI cannot read off the handlers for the OpenAPI description: bodies, errors, pages."""

from __future__ import annotations

from typing import Any, Final

from runner.admin.backend import BATCH_SESSIONS, PHONE_CHARS
from runner.admin.events import KNOWN
from runner.admin.lists import DEFAULT_LIMIT, MOST_LIMIT, MOST_UNIX_MS, MOST_WHOLE
from runner.history import MOST_POINTS
from runner.intake import SESSION_ID
from runner.metric_definitions import HISTORY
from runner.phone_number import PHONE_NUMBER
from runner.sending import CHAT, MESSAGE_ID, MOST_CHARS, PERSON
from runner.session import State

Responses = dict[int | str, dict[str, Any]]
"""What an operation may answer, by status."""

ERROR_SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["error", "message"],
    "properties": {
        "error": {"type": "string", "description": "stable slug"},
        "message": {"type": "string"},
        "reason": {"type": "string", "description": "what stands in the way, for refused"},
        "remedy": {"type": "string", "description": "what the operator can do"},
    },
}


def says(description: str) -> dict[str, Any]:
    """An answer that is an error."""
    return {
        "description": description,
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
    }


def a_body(schema: dict[str, Any], *, required: bool = True) -> dict[str, Any]:
    """What an operation takes."""
    return {"requestBody": {"required": required, "content": {"application/json": {"schema": schema}}}}


def _words(name: str, values: list[str] | None, what: str) -> dict[str, Any]:
    """A parameter that may be repeated; as one value with commas it is taken, too."""
    items = {"type": "string"} if values is None else {"type": "string", "enum": values}
    return {"name": name, "in": "query", "description": what, "schema": {"type": "array", "items": items}}


def _whole(name: str, what: str, most: int = MOST_WHOLE, **more: int) -> dict[str, Any]:
    schema = {"type": "integer", "minimum": 0, "maximum": most, **more}
    return {"name": name, "in": "query", "description": what, "schema": schema}


ANY_CALL: Final[Responses] = {
    401: says("no token, or a wrong one")
    | {"headers": {"WWW-Authenticate": {"schema": {"type": "string", "enum": ["Bearer"]}}}},
    403: says("the token has not the scope for it, or the call comes from another host or web page"),
    422: says("a parameter or a body that is wrong"),
    429: says("too many wrong tokens came from there; this one was not looked at")
    | {"headers": {"Retry-After": {"description": "seconds", "schema": {"type": "integer"}}}},
    500: says("the runner failed here; its log says why"),
}
SECURITY_SCHEMES: Final[dict[str, dict[str, Any]]] = {
    "token": {"type": "apiKey", "in": "header", "name": "X-Api-Key"},
    "bearer": {"type": "http", "scheme": "bearer", "description": "the same token"},
}
"""On a loopback bind the runner's own user and root need none of them; browsers have a cookie."""
NOT_FOUND: Final[Responses] = {404: says("no such session")}
CONFLICT: Final[Responses] = {**NOT_FOUND, 409: says("refused, with the reason")}
PAGED: Final[dict[str, Any]] = {
    "parameters": [
        _whole("offset", "how many to leave out", default=0),
        _whole("limit", f"how many; at most {MOST_LIMIT:,} are given", default=DEFAULT_LIMIT),
        _words("state", [state.value for state in State], "in one of these states"),
        {"name": "reason", "in": "query", "schema": {"type": "string"}},
        {"name": "q", "in": "query", "description": "part of the id", "schema": {"type": "string"}},
        _words("session", None, "these, by their ids"),
    ]
}

EVENTS_QUERY: Final[dict[str, Any]] = {
    "parameters": [
        {"name": "session", "in": "query", "schema": {"type": "array", "items": {"type": "string"}}},
        _words("events", [*KNOWN, "session.*", "*"], "these; `session.*` means all that begin so"),
    ]
}

HISTORY_QUERY: Final[dict[str, Any]] = {
    "parameters": [
        _words("metric", list(HISTORY), "these; without any the answer is the names"),
        _whole("since", "Unix ms; an hour before `until` if not given", MOST_UNIX_MS),
        _whole("until", "Unix ms; now if not given", MOST_UNIX_MS),
        _whole("points", f"at most {MOST_POINTS:,} are given", default=MOST_POINTS),
    ]
}

_BASE64: Final = "^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$"
NEW_TEXT: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["session", "chatId", "text"],
    "additionalProperties": False,
    "properties": {
        "session": {"type": "string"},
        "chatId": {
            "type": "string",
            "pattern": f"^{CHAT}$",
            "maxLength": 64,
            "description": "a person (15551234567, …@c.us, …@s.whatsapp.net, …@lid) or a group (…@g.us)",
        },
        "text": {"type": "string", "minLength": 1, "maxLength": MOST_CHARS},
        "reply_to": {
            "type": ["string", "null"],
            "minLength": 1,
            "maxLength": 128,
            "description": "the id of their message that it answers; quoted with its words while known",
        },
        "reply_to_sender": {
            "type": ["string", "null"],
            "pattern": f"^{PERSON}$",
            "maxLength": 64,
            "description": "in a group, who wrote the message that it answers",
        },
        "id": {
            "type": ["string", "null"],
            "pattern": f"^{MESSAGE_ID}$",
            "description": "the message's id; sent again under it, it stays one message to whoever gets it",
        },
    },
}
NEW_SESSION: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["id"],
    "additionalProperties": False,
    "properties": {
        "id": {
            "type": "string",
            "pattern": f"^{SESSION_ID}$",
            "description": "how the session will be called",
        },
        "files": {
            "type": ["object", "null"],
            "additionalProperties": {"type": "string"},
            "description": "a Baileys useMultiFileAuthState directory: file name to the text of the file; "
            "without it a new session, for a phone to link: with start it shows QR codes at once",
        },
        "binary": {
            "type": "object",
            "additionalProperties": {"type": "string", "contentEncoding": "base64", "pattern": _BASE64},
            "description": "files of that directory that are not UTF-8",
        },
        "start": {"type": "boolean", "default": True},
        "proxy": {
            "type": ["string", "null"],
            "description": "socks5://[user:password@]host:port or http://…; null: the one of WHATSAPP_PROXY",
        },
    },
}

_ONE_OF_MANY: Final[dict[str, Any]] = {
    **NEW_SESSION,
    "properties": {
        **NEW_SESSION["properties"],
        "id": {"type": "string", "description": "one that cannot be an id is refused alone"},
    },
}
NEW_SESSIONS: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["sessions"],
    "additionalProperties": False,
    "properties": {"sessions": {"type": "array", "maxItems": BATCH_SESSIONS, "items": _ONE_OF_MANY}},
}

OUTCOMES: Final[dict[str, Any]] = {
    "description": "what became of each, in the order of the request",
    "content": {
        "application/json": {
            "schema": {
                "type": "object",
                "required": ["outcomes"],
                "properties": {
                    "outcomes": {
                        "type": "array",
                        "items": {
                            "type": "object",
                            "required": ["id"],
                            "properties": {
                                "id": {"type": "string"},
                                "imported": {
                                    "type": "boolean",
                                    "description": "true, or there is an `error`",
                                },
                                "warnings": {"type": "array", "items": {"type": "string"}},
                                **ERROR_SCHEMA["properties"],
                            },
                        },
                    }
                },
            }
        }
    },
}

PAIRING_PHONE: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["phoneNumber"],
    "additionalProperties": False,
    "properties": {
        "phoneNumber": {
            "type": "string",
            "pattern": f"^{PHONE_NUMBER}$",
            "maxLength": PHONE_CHARS,
            "description": "with the country code, as people write it: +55 11 91234-5678",
        }
    },
}

NEW_EXPORT: Final[dict[str, Any]] = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "format": {"type": "string", "enum": ["baileys"], "default": "baileys"},
        "force": {"type": "boolean", "default": False, "description": "stop the session first, if it runs"},
    },
}

NEW_BACKUP: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["file"],
    "additionalProperties": False,
    "properties": {
        "file": {
            "type": "string",
            "pattern": "^/",
            "description": "an absolute path on the runner's machine, of a file that does not exist",
        }
    },
}

CHANGED_SESSION: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["proxy"],
    "additionalProperties": False,
    "properties": {
        "proxy": {
            "type": ["string", "null"],
            "description": "socks5://[user:password@]host:port or http://…; null: the one of WHATSAPP_PROXY",
        },
    },
}
