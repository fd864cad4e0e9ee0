"""What FastAPI cannot read off the handlers for the OpenAPI description: bodies, errors, pages."""

from __future__ import annotations

from typing import Any, Final

from runner.admin.backend import BATCH_SESSIONS
from runner.history import MOST_POINTS

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


NOT_FOUND: Final[dict[int | str, dict[str, Any]]] = {404: says("no such session")}
CONFLICT: Final[dict[int | str, dict[str, Any]]] = {**NOT_FOUND, 409: says("refused, with the reason")}
PAGED: Final[dict[str, Any]] = {
    "parameters": [
        {"name": "offset", "in": "query", "schema": {"type": "integer", "minimum": 0, "default": 0}},
        {"name": "limit", "in": "query", "schema": {"type": "integer", "minimum": 0, "default": 1000}},
        {"name": "state", "in": "query", "schema": {"type": "array", "items": {"type": "string"}}},
        {"name": "reason", "in": "query", "schema": {"type": "string"}},
        {"name": "q", "in": "query", "description": "part of the id", "schema": {"type": "string"}},
        {"name": "session", "in": "query", "schema": {"type": "array", "items": {"type": "string"}}},
    ]
}

HISTORY_QUERY: Final[dict[str, Any]] = {
    "parameters": [
        {"name": "metric", "in": "query", "schema": {"type": "array", "items": {"type": "string"}}},
        {"name": "since", "in": "query", "description": "Unix ms", "schema": {"type": "integer"}},
        {"name": "until", "in": "query", "description": "Unix ms", "schema": {"type": "integer"}},
        {"name": "points", "in": "query", "schema": {"type": "integer", "default": MOST_POINTS}},
    ]
}

NEW_SESSION: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["id"],
    "additionalProperties": False,
    "properties": {
        "id": {"type": "string", "description": "how the session will be called"},
        "files": {
            "type": "object",
            "additionalProperties": {"type": "string"},
            "description": "a Baileys useMultiFileAuthState directory: file name to the text of the file; "
            "without it a new session, for a phone to link: with start it shows QR codes at once",
        },
        "binary": {
            "type": "object",
            "additionalProperties": {"type": "string", "contentEncoding": "base64"},
            "description": "files of that directory that are not UTF-8",
        },
        "start": {"type": "boolean", "default": True},
        "proxy": {"type": ["string", "null"]},
    },
}


NEW_SESSIONS: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["sessions"],
    "additionalProperties": False,
    "properties": {"sessions": {"type": "array", "maxItems": BATCH_SESSIONS, "items": NEW_SESSION}},
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

_SHOWN: Final[dict[str, Any]] = {
    "expiresAt": {"type": "integer", "description": "Unix ms"},
    "left": {"type": "integer", "description": "how many codes follow this one"},
}

QR_CODE: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "description": "the code; X-Expires-At says until when (Unix ms)",
        "content": {
            "image/png": {"schema": {"type": "string", "format": "binary"}},
            "application/json": {
                "schema": {
                    "type": "object",
                    "properties": {
                        "value": {"type": "string", "description": "what it says, for format=raw"},
                        "mimetype": {"type": "string"},
                        "data": {"type": "string", "description": "the picture, base64"},
                        **_SHOWN,
                    },
                }
            },
        },
    }
}

PAIRING_PHONE: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["phoneNumber"],
    "additionalProperties": False,
    "properties": {"phoneNumber": {"type": "string", "description": "with the country code"}},
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
