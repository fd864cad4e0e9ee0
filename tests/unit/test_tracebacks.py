"""What Python writes by itself when nobody catches an exception."""

from __future__ import annotations

import io
import sys
import threading

import pytest

from runner.redact import redact_text
from runner.tracebacks import redact_tracebacks


@pytest.fixture(autouse=True)
def hooks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ours for this test; afterwards those of pytest again."""
    for holder, name in ((sys, "excepthook"), (threading, "excepthook"), (sys, "unraisablehook")):
        monkeypatch.setattr(holder, name, getattr(holder, name))
    redact_tracebacks(redact_text)


def fail() -> None:
    try:
        raise ValueError("no proxy at http://user:hunter2@host:80")
    except ValueError as error:
        raise RuntimeError("15550001111@s.whatsapp.net cannot be dialled") from error


def assert_redacted(told: str) -> None:
    assert "ValueError: no proxy at http://***@host:80" in told
    assert "RuntimeError: …11@s.whatsapp.net cannot be dialled" in told
    assert "in fail" in told, "where it happened is what a traceback is for"
    assert "hunter2" not in told
    assert "15550001111" not in told


def test_the_end_of_the_process(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RuntimeError) as caught:
        fail()
    sys.excepthook(caught.type, caught.value, caught.tb)
    assert_redacted(capsys.readouterr().err)


def test_the_end_of_a_thread(capsys: pytest.CaptureFixture[str]) -> None:
    thread = threading.Thread(target=fail, name="of ours")
    thread.start()
    thread.join()
    told = capsys.readouterr().err
    assert told.startswith("Exception in thread of ours:\n")
    assert_redacted(told)


def test_a_thread_that_exits_is_no_error(capsys: pytest.CaptureFixture[str]) -> None:
    thread = threading.Thread(target=sys.exit)
    thread.start()
    thread.join()
    assert capsys.readouterr().err == ""


def test_what_is_collected(capsys: pytest.CaptureFixture[str]) -> None:
    class Left:
        def __del__(self) -> None:
            fail()

    Left()
    told = capsys.readouterr().err
    assert told.startswith("Exception ignored in <function ")
    assert_redacted(told)


@pytest.mark.parametrize("closed", [None, io.StringIO()])
def test_without_a_stderr_nothing_is_raised(
    monkeypatch: pytest.MonkeyPatch, closed: io.StringIO | None
) -> None:
    if closed is not None:
        closed.close()
    with pytest.raises(RuntimeError) as caught:
        fail()
    monkeypatch.setattr(sys, "stderr", closed)
    sys.excepthook(caught.type, caught.value, caught.tb)
