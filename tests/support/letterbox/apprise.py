"""What the runner uses of apprise, where it is not installed: `json://` with the same body."""

from __future__ import annotations

import json
from urllib.request import Request, urlopen


class Apprise:
    def __init__(self) -> None:
        self._urls: list[str] = []

    def add(self, url: str) -> bool:
        self._urls.append(url.replace("json://", "http://", 1))
        return url.startswith("json://")

    def notify(self, *, title: str, body: str, notify_type: str) -> bool:
        letter = json.dumps({"title": title, "message": body, "type": notify_type}).encode()
        for url in self._urls:
            request = Request(url, letter, {"content-type": "application/json"})
            with urlopen(request, timeout=10.0) as answer:
                assert answer.status == 200
        return True
