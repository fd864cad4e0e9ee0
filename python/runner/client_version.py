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
from runner.socks5 import ProxyRefusedError, open_tunnel

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
    except (OSError, http.client.HTTPException, ValueError, ProxyRefusedError) as error:
        logger().warning("client version not read", endpoint=settings.endpoint_host, error=str(error))
        return None
    found = parse_client_revision(body) if answer.status == 200 else None
    if found is None:
        logger().warning("client version not found", endpoint=settings.endpoint_host, status=answer.status)
    return found


def _connection(settings: Settings) -> http.client.HTTPConnection:
    """A connection to the endpoint's web server, through the proxy that sessions without their own use.

    Errors: ProxyRefusedError, OSError. Nothing ever goes around a proxy: that would show the wrong address.
    """
    endpoint = urlsplit(settings.endpoint)
    host, is_tls = endpoint.hostname or "", endpoint.scheme == "wss"
    port = endpoint.port or (443 if is_tls else 80)
    proxy = urlsplit(settings.proxy) if settings.proxy else None
    if proxy is not None and proxy.scheme == "http":
        link = _plain_or_tls(settings, proxy.hostname or "", proxy.port or 80, is_tls=is_tls)
        link.set_tunnel(
            host, port, _proxy_headers(unquote(proxy.username or ""), unquote(proxy.password or ""))
        )
        return link
    link = _plain_or_tls(settings, host, port, is_tls=is_tls)
    if proxy is not None:
        tunnel = open_tunnel(proxy, host, port, _TIMEOUT_S)
        link.sock = _tls(settings).wrap_socket(tunnel, server_hostname=host) if is_tls else tunnel
        link.auto_open = 0  # without its tunnel it would dial by itself
    return link


def _plain_or_tls(settings: Settings, at: str, port: int, *, is_tls: bool) -> http.client.HTTPConnection:
    if is_tls:
        return http.client.HTTPSConnection(at, port, timeout=_TIMEOUT_S, context=_tls(settings))
    return http.client.HTTPConnection(at, port, timeout=_TIMEOUT_S)


def _tls(settings: Settings) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if settings.tls_ca:
        context.load_verify_locations(cafile=str(Path(settings.tls_ca).expanduser()))
    return context


def _proxy_headers(user: str, password: str) -> dict[str, str]:
    if not user:
        return {}
    return {"Proxy-Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}
