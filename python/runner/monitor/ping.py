"""The ping to a watcher elsewhere, as healthchecks.io and its like take it."""

from __future__ import annotations

from urllib.parse import urlsplit, urlunsplit

MAX_URL = 2048


class PingError(Exception):
    """The watcher could not be told; the text says why, without the URL, which is a secret."""


def checked_url(url: str) -> str:
    """The URL, if it can be used. Errors: ValueError with what is wrong."""
    parts = urlsplit(url.strip())
    if parts.scheme not in {"http", "https"} or not parts.hostname or len(url) > MAX_URL:
        raise ValueError("must look like https://hc-ping.com/UUID")
    return url.strip()


def url_of(url: str, *, is_bad: bool) -> str:
    """`URL`, or `URL/fail` with its query kept."""
    if not is_bad:
        return url
    parts = urlsplit(url)
    return urlunsplit(parts._replace(path=parts.path.rstrip("/") + "/fail"))


def ping(url: str, line: str, *, is_bad: bool, timeout_s: float) -> None:
    """Tell the watcher, with the line as the body. Blocking.

    Errors: PingError.
    """
    from urllib import request  # here: 40 ms that only a ping pays for
    from urllib.error import HTTPError, URLError

    # Only HTTP and its proxies: the general opener would follow a redirect to ftp and read files.
    opener = request.OpenerDirector()
    for handler in (request.ProxyHandler, request.HTTPHandler, request.HTTPSHandler,
    request.HTTPErrorProcessor,
                    request.HTTPDefaultErrorHandler):  # fmt: skip
        opener.add_handler(handler())
    wanted = request.Request(url_of(url, is_bad=is_bad), line.encode(), {"user-agent": "wa-runner monitor"})
    try:
        with opener.open(wanted, timeout=timeout_s) as answer:
            answer.read(1024)
    except HTTPError as error:
        with error:
            raise PingError(f"the watcher answered {error.code}") from error
    except (URLError, OSError, ValueError) as error:
        raise PingError(f"the watcher cannot be reached: {getattr(error, 'reason', error)}") from error
