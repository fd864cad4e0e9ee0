"""The bodies of the answers that are a success, as JSON Schemas for the OpenAPI description.

Every field is there in every answer, with null for what is not known. Numbers are those of
`metric_definitions`; `tests/e2e/test_api_fuzz.py` holds the answers of a real runner against all of it.
"""

from __future__ import annotations

from typing import Any, Final

from runner.alerts.warnable import Kind, Severity
from runner.metric_definitions import (
    DEFINITIONS,
    ENGINE,
    FLEET,
    HANDING,
    HISTORY,
    PROCESS,
    SESSION,
    STORE,
    SYSTEM,
)
from runner.session import State
from runner.tally import Tally
from runner.tune.finding import Status

Schema = dict[str, Any]

TEXT: Final[Schema] = {"type": "string"}
TEXT_OR_NULL: Final[Schema] = {"type": ["string", "null"]}
WHOLE: Final[Schema] = {"type": "integer"}
WHOLE_OR_NULL: Final[Schema] = {"type": ["integer", "null"]}
NUMBER: Final[Schema] = {"type": "number"}
NUMBER_OR_NULL: Final[Schema] = {"type": ["number", "null"]}
FLAG: Final[Schema] = {"type": "boolean"}
UNIX_MS: Final[Schema] = {"type": "integer", "description": "Unix ms"}
UNIX_MS_OR_NULL: Final[Schema] = {"type": ["integer", "null"], "description": "Unix ms"}


def record(properties: Schema) -> Schema:
    """An object that has all of these."""
    return {"type": "object", "required": list(properties), "properties": properties}


def array(items: Schema) -> Schema:
    """A list."""
    return {"type": "array", "items": items}


def by_name(values: Schema) -> Schema:
    """An object with names as they come."""
    return {"type": "object", "additionalProperties": values}


def ref(name: str) -> Schema:
    """One of `COMPONENTS`."""
    return {"$ref": f"#/components/schemas/{name}"}


def gives(schema: Schema, status: int = 200, description: str = "done") -> dict[int | str, Schema]:
    """The answer that is a success."""
    return {status: {"description": description, "content": {"application/json": {"schema": schema}}}}


def _numbers(section: str, prefix: str = "") -> Schema:
    """The metrics of a section whose JSON name begins so, without what stands in a deeper object."""
    found = {}
    for it in DEFINITIONS:
        name = it.json.removeprefix(prefix)
        if it.section == section and name and it.json.startswith(prefix) and "." not in name:
            found[name] = {**NUMBER_OR_NULL, "description": f"{it.what} [{it.unit}]"}
    return found


_STATE: Final[Schema] = {"type": "string", "enum": [state.value for state in State]}
_COUNTS: Final = {"total": WHOLE, "matched": WHOLE, "next": {**WHOLE_OR_NULL, "description": "next offset"}}
_REVISION: Final[Schema] = {
    **WHOLE,
    "description": "number of the last change; of two views the one with the greater number is the newer",
}
_SESSION: Final = {
    "id": TEXT,
    "linked": {**FLAG, "description": "false as long as no phone has linked it"},
    "state": _STATE,
    "reason": TEXT_OR_NULL,
    "code": WHOLE_OR_NULL,
    "detail": {**TEXT_OR_NULL, "description": "the words of the server; null for who may only read"},
    "connection": WHOLE,
    "since": UNIX_MS,
    "revision": _REVISION,
    "attempt": WHOLE,
    "nextRetryAt": UNIX_MS_OR_NULL,
    "lastDataReceivedAt": UNIX_MS_OR_NULL,
    "lastPongAt": UNIX_MS_OR_NULL,
    "pongRttMs": NUMBER_OR_NULL,
    "breaker": record(
        {
            "state": {"type": "string", "enum": ["closed", "open", "half_open"]},
            "why": TEXT_OR_NULL,
            "openedAt": UNIX_MS_OR_NULL,
            "retryAt": UNIX_MS_OR_NULL,
        }
    ),
    "stableSince": UNIX_MS_OR_NULL,
    "flap5m": WHOLE,
    "flap60m": WHOLE,
    "phase": TEXT_OR_NULL,
    "proxy": {**TEXT_OR_NULL, "description": "scheme, host and port"},
}
_METRICS: Final = {
    **{name: _SESSION[name] for name in ("id", "state", "connection", "since", "revision")},
    **_numbers(SESSION),
}
_RESPONSE_TIMES: Final = ("averageResponseTime", "responseTimeP50", "responseTimeP95", "responseTimeP99")
_FLEET: Final = {
    "states": by_name(WHOLE),
    "revision": _REVISION,
    "waitingForDial": WHOLE,
    "incidents": array(
        record(
            {
                "kind": TEXT,
                "about": TEXT_OR_NULL,
                "severity": {"type": "string", "enum": [it.value for it in Severity]},
                "text": TEXT,
                "openedAt": UNIX_MS,
            }
        )
    ),
}
_DETAILS: Final = {
    "monitoring": FLAG,
    **{name: it for name, it in _numbers(FLEET).items() if name not in _RESPONSE_TIMES[1:]},
    "averageHandlerTime": _numbers(HANDING)["averageHandlerTime"],
    "handlers": record(dict.fromkeys(Tally().handlers, WHOLE)),
    "webhooks": record(dict.fromkeys(Tally().deliveries, WHOLE)),
    "undecryptable": WHOLE,
    "responseTime": record(dict.fromkeys(("averageMs", "p50Ms", "p95Ms", "p99Ms"), NUMBER_OR_NULL)),
    "states": by_name(WHOLE),
    "process": ref("ProcessMetrics"),
    "engine": ref("EngineMetrics"),
    "store": ref("StoreMetrics"),
}
_SILENCE: Final = {"id": TEXT, "alert": TEXT, "about": TEXT_OR_NULL, "until": UNIX_MS, "note": TEXT}
_ALERT: Final = {
    "id": TEXT,
    "alert": TEXT,
    "class": {"type": "string", "enum": [it.value for it in Kind]},
    "severity": {"type": "string", "enum": [it.value for it in Severity]},
    "about": TEXT_OR_NULL,
    "text": TEXT,
    "since": UNIX_MS,
    "firedAt": UNIX_MS_OR_NULL,
    "resolvedAt": UNIX_MS_OR_NULL,
    "value": NUMBER_OR_NULL,
    "threshold": NUMBER_OR_NULL,
    "acknowledgedAt": UNIX_MS_OR_NULL,
    "acknowledgedBy": TEXT_OR_NULL,
    "note": TEXT_OR_NULL,
    "silencedUntil": UNIX_MS_OR_NULL,
    "suppressedBy": TEXT_OR_NULL,
    "remedy": TEXT,
}
_WEBHOOK: Final = {
    "id": TEXT,
    "url": {
        **TEXT,
        "description": "without user, password and query; without the path for who may only read",
    },
    "events": array(TEXT),
    "session": TEXT_OR_NULL,
    "signed": FLAG,
    "headers": {**array(TEXT), "description": "their names"},
    "retries": record({"policy": TEXT, "delaySeconds": NUMBER, "attempts": WHOLE}),
    "source": {"type": "string", "enum": ["api", "settings"]},
    "waiting": WHOLE,
    "undelivered": WHOLE,
    "lastAttempt": {
        "oneOf": [
            record(
                {
                    "at": UNIX_MS,
                    "event": TEXT,
                    "delivered": FLAG,
                    "status": WHOLE_OR_NULL,
                    "problem": TEXT_OR_NULL,
                }
            ),
            {"type": "null"},
        ],
        "description": "since the start",
    },
}
_DEAD_LETTER: Final = {
    "id": TEXT,
    "sink": {**TEXT, "description": "the id of a webhook, or app"},
    "event": TEXT,
    "eventId": {**TEXT, "description": "of a message for the app, the message's id"},
    "session": TEXT_OR_NULL,
    "chatId": {**TEXT_OR_NULL, "description": "null for who may only read"},
    "at": UNIX_MS,
    "diedAt": UNIX_MS,
    "attempts": WHOLE,
    "why": TEXT,
}
_PROCESS: Final = {
    "pid": WHOLE,
    "startedAt": UNIX_MS,
    "uptime": {**NUMBER, "description": "seconds"},
    "restarts": WHOLE,
    "lastRestart": {
        "oneOf": [record({"reason": TEXT, "detail": TEXT, "at": UNIX_MS}), {"type": "null"}],
        "description": "why the process before this one ended, if it passed on to it",
    },
}
_VERSION: Final = {"version": TEXT, "python": TEXT, "core": by_name(TEXT)}
_STATUS: Final = [it.value for it in Status]

COMPONENTS: Final[dict[str, Schema]] = {
    "Session": record(_SESSION),
    "SessionMetrics": record(_METRICS),
    "SystemMetrics": record({**_numbers(SYSTEM), "memoryScope": TEXT, "cpuScope": TEXT}),
    "ProcessMetrics": record(_numbers(PROCESS, "process.")),
    "EngineMetrics": record(_numbers(ENGINE, "engine.")),
    "StoreMetrics": record({**_numbers(STORE, "store."), "diskFull": FLAG}),
    "Series": record({"stepS": WHOLE, "at": array(UNIX_MS), "values": array(NUMBER_OR_NULL)}),
    "Alert": record(_ALERT),
    "Silence": record(_SILENCE),
    "Webhook": record(_WEBHOOK),
    "DeadLetter": record(_DEAD_LETTER),
    "Process": record(_PROCESS),
    "Version": record(_VERSION),
}

SESSIONS: Final = gives(record({"revision": _REVISION, "sessions": array(ref("Session")), **_COUNTS}))
RECONNECTION_STATUS: Final = gives(record({**_FLEET, "sessions": array(ref("Session")), **_COUNTS}))
PERFORMANCE: Final = gives(
    record({"system": ref("SystemMetrics"), **_DETAILS, "sessions": array(ref("SessionMetrics")), **_COUNTS})
)
A_SESSION: Final = gives(ref("Session"))
METRICS_OF_A_SESSION: Final = gives(ref("SessionMetrics"))
RECONNECTS: Final = gives(
    record({"id": TEXT, "connection": WHOLE, "state": _STATE}), 202, "on its way, as this connection"
)
CREATED: Final = gives(record({**_SESSION, "warnings": array(TEXT)}), 201, "taken over")
_SHOWN: Final = {"expiresAt": UNIX_MS, "left": {**WHOLE, "description": "how many codes follow this one"}}
QR_CODE: Final[dict[int | str, Schema]] = {
    200: {
        "description": "the code; for a picture X-Expires-At says until when (Unix ms)",
        "content": {
            "image/png": {"schema": {"type": "string", "format": "binary"}},
            "application/json": {
                "schema": {
                    "oneOf": [
                        record({"value": {**TEXT, "description": "what it says, for format=raw"}, **_SHOWN}),
                        record({"mimetype": TEXT, "data": {**TEXT, "description": "base64"}, **_SHOWN}),
                    ]
                }
            },
        },
    }
}
PAIRING_CODE: Final = gives(record({"code": TEXT, "expiresAt": UNIX_MS}))
SENT: Final = gives(record({"id": TEXT, "chatId": TEXT, "timestamp": UNIX_MS_OR_NULL}))
DELETED: Final = gives(record({"id": TEXT, "deleted": FLAG}))
EXPORTED: Final = gives(
    record(
        {
            "id": TEXT,
            "format": TEXT,
            "files": by_name(TEXT),
            "binary": by_name({**TEXT, "contentEncoding": "base64"}),
            "leftOut": array(TEXT),
            "warnings": array(TEXT),
        }
    )
)
BACKUP: Final = gives(
    record({"file": TEXT, "bytes": WHOLE, "sessions": WHOLE, "at": UNIX_MS, "seconds": NUMBER})
)
TIMELINE: Final = gives(
    record(
        {
            "id": TEXT,
            "states": array(
                record(
                    {
                        "at": UNIX_MS,
                        "state": _STATE,
                        "reason": TEXT_OR_NULL,
                        "code": WHOLE_OR_NULL,
                        "connection": WHOLE,
                    }
                )
            ),
        }
    )
)
CALLER: Final = gives(record({"scopes": array(TEXT), "signedIn": FLAG}))
HISTORY_OR_NAMES: Final = gives(
    {
        "oneOf": [
            record({"metrics": array(record({"name": TEXT, "unit": TEXT, "description": TEXT}))}),
            record(
                {
                    "resolutions": array(record({"stepS": WHOLE, "spanS": WHOLE})),
                    "series": {"type": "object", "properties": dict.fromkeys(HISTORY, ref("Series"))},
                }
            ),
        ]
    }
)
PROMETHEUS: Final[dict[int | str, Schema]] = {
    200: {"description": "done", "content": {"text/plain; version=0.0.4": {"schema": TEXT}}}
}
LOG_LINES: Final[dict[int | str, Schema]] = {
    200: {"description": "one JSON object a line", "content": {"application/x-ndjson": {"schema": TEXT}}}
}
WEBHOOKS: Final = gives(record({"webhooks": array(ref("Webhook"))}))
A_WEBHOOK: Final = gives(ref("Webhook"))
WEBHOOK_ADDED: Final = gives(ref("Webhook"), 201)
WEBHOOK_REMOVED: Final = gives(record({"id": TEXT, "givenUp": WHOLE}))
WEBHOOK_TESTED: Final = gives(
    record(
        {
            "id": TEXT,
            "eventId": TEXT,
            "delivered": FLAG,
            "status": WHOLE_OR_NULL,
            "problem": TEXT_OR_NULL,
        }
    )
)
DEAD_LETTERS: Final = gives(record({"deadLetters": array(ref("DeadLetter")), "next": TEXT_OR_NULL}))
REDRIVEN: Final = gives(record({"messages": WHOLE, "deliveries": WHOLE, "kept": WHOLE}))
DROPPED: Final = gives(record({"dropped": WHOLE}))
_HEALTH: Final = record(
    {
        "live": FLAG,
        "ready": FLAG,
        "checks": array(record({"name": TEXT, "healthy": FLAG, "detail": TEXT})),
        "process": ref("Process"),
    }
)


def _or_503(schema: Schema, otherwise: str) -> dict[int | str, Schema]:
    return gives(schema) | gives(schema, 503, otherwise)


HEALTH: Final = _or_503(_HEALTH, "not ready")
LIVE: Final = _or_503(record({"live": FLAG}), "restart it")
READY: Final = _or_503(record({"ready": FLAG}), "not ready")
VERSION: Final = gives(ref("Version"))
THE_SYSTEM: Final = gives(
    record(
        {
            "version": ref("Version"),
            "system": ref("SystemMetrics"),
            **_DETAILS,
            "fleet": record(_FLEET),
            "settings": by_name(TEXT),
        }
    )
)
DOCTOR: Final = gives(
    record(
        {
            "sessions": WHOLE,
            "sessionsFrom": {"type": "string", "enum": ["asked", "store", "default"]},
            "status": {"type": "string", "enum": _STATUS},
            "container": TEXT_OR_NULL,
            "processId": WHOLE_OR_NULL,
            "needs": record(
                {
                    "fileDescriptors": WHOLE,
                    "memoryBytes": NUMBER,
                    "kernelMemoryBytes": NUMBER,
                    "threads": WHOLE,
                    "cores": NUMBER,
                }
            ),
            "findings": array(
                record(
                    {
                        "name": TEXT,
                        "setting": TEXT,
                        "status": {"type": "string", "enum": _STATUS},
                        "now": TEXT,
                        "advised": TEXT_OR_NULL,
                        "why": TEXT,
                        "effect": TEXT,
                        "how": TEXT_OR_NULL,
                        "source": TEXT,
                        "canChange": FLAG,
                        "whyNot": TEXT_OR_NULL,
                    }
                )
            ),
        }
    )
)
RESTARTS: Final = gives(
    record({"restarting": FLAG, "process": ref("Process")}), 202, "`process` is the one that ends"
)
ALERTS: Final = gives(
    record({"active": array(ref("Alert")), "counts": by_name(WHOLE), "silences": array(ref("Silence"))})
)
AN_ALERT: Final = gives(ref("Alert"))
ALERT_HISTORY: Final = gives(record({"alerts": array(ref("Alert")), "next": TEXT_OR_NULL}))
DEFINITIONS_OF_ALERTS: Final = gives(
    record(
        {
            "definitions": array(
                record(
                    {
                        "alert": TEXT,
                        "class": {"type": "string", "enum": [it.value for it in Kind]},
                        "severity": {"type": "string", "enum": [it.value for it in Severity]},
                        "setting": TEXT_OR_NULL,
                        "threshold": NUMBER_OR_NULL,
                        "unit": TEXT_OR_NULL,
                        "forS": NUMBER,
                        "clearS": NUMBER,
                        "meaning": TEXT,
                        "firstLook": TEXT,
                        "action": TEXT,
                        "dependsOn": array(TEXT),
                    }
                )
            )
        }
    )
)
SILENCES: Final = gives(record({"silences": array(ref("Silence"))}))
A_SILENCE: Final = gives(ref("Silence"))
SILENCED: Final = gives(ref("Silence"), 201)
