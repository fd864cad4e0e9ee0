"""Reads the current WhatsApp Web version from the endpoint's `/sw.js`, for `WHATSAPP_CLIENT_VERSION=auto`."""

from __future__ import annotations

import base64
import http.client
import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urlsplit

from runner.logs import logger
from runner.reconnect.version import parse_client_revision

if TYPE_CHECKING:
    from runner.config import Settings
    from runner.reconnect.version import Version

_LARGEST: Final = 4 * 1024 * 1024
_TIMEOUT_S: Final = 10.0
_HEADERS: Final = {
    "User-Agent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0",
    "Sec-Fetch-Dest": "serviceworker",
    "Accept": "*/*",
}
"""Without a browser's headers the real host answers with a page that has no version."""


def read_version(settings: Settings) -> Version | None:
    """The version that the endpoint serves now; None when it does not say. Blocking, `_TIMEOUT_S` a step."""
    try:
        link = _connection(settings)
        try:
            link.request("GET", "/sw.js", headers=_HEADERS)
            answer = link.getresponse()
            body = answer.read(_LARGEST).decode("utf-8", "replace")
        finally:
            link.close()
    except (OSError, http.client.HTTPException, ValueError) as error:
        logger().warning("client version not read", endpoint=settings.endpoint_host, error=str(error))
        return None
    found = parse_client_revision(body) if answer.status == 200 else None
    if found is None:
        logger().warning("client version not found", endpoint=settings.endpoint_host, status=answer.status)
    return found


def _connection(settings: Settings) -> http.client.HTTPConnection:
    """A connection to the endpoint's web server, through the proxy that its sessions use.

    Errors: ValueError for a proxy that this cannot speak to; going around it would show the wrong address.
    """
    endpoint = urlsplit(settings.endpoint)
    host, is_tls = endpoint.hostname or "", endpoint.scheme == "wss"
    port = endpoint.port or (443 if is_tls else 80)
    proxy = urlsplit(settings.proxy) if settings.proxy else None
    if proxy is not None and proxy.scheme != "http":
        raise ValueError("a SOCKS proxy is set; set WHATSAPP_CLIENT_VERSION to a version")
    at, at_port = (proxy.hostname or "", proxy.port or 8080) if proxy else (host, port)
    link = (
        http.client.HTTPSConnection(at, at_port, timeout=_TIMEOUT_S, context=_tls(settings))
        if is_tls
        else http.client.HTTPConnection(at, at_port, timeout=_TIMEOUT_S)
    )
    if proxy is not None:
        link.set_tunnel(
            host, port, _proxy_headers(unquote(proxy.username or ""), unquote(proxy.password or ""))
        )
    return link


def _tls(settings: Settings) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if settings.tls_ca:
        context.load_verify_locations(cafile=str(Path(settings.tls_ca).expanduser()))
    return context


def _proxy_headers(user: str, password: str) -> dict[str, str]:
    if not user:
        return {}
    return {"Proxy-Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}
