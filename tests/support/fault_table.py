"""Every fault of `support.troubles` against fleets that are heard on every channel."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING

from support.pair import running, simulated
from support.troubles import (
    LASTING,
    NOTHING_TO_TELL,
    PASSING,
    TAKES_LONG,
    do_nothing_to_tell,
    forgive,
    of_one_session,
)
from support.watch import all_at_once, exactly, post, watched

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from support.troubles import Trouble
    from support.watch import Watched

Row = tuple[str, "Callable[[Watched], None]"]


def table(*, slowly: bool = False) -> list[Row]:
    """What can go wrong, and the proof of what is told of it.

    First what has to be first for its fleet: for a while after many were dropped nothing is held against a
    single session, and what passes by itself is hidden by what was there before. Then the longest.
    """
    first, rest = _rows(PASSING), _rows([*LASTING, *(TAKES_LONG if slowly else ())])
    return [("of single sessions", _sessions), *first, *rest[:1], ("mends itself", _nothing), *rest[1:]]


def _rows(troubles: Sequence[Trouble]) -> list[Row]:
    return [(it.name, partial(befall, trouble=it)) for it in troubles]


@contextmanager
def fleet_of(directory: Path, n: int, settings: dict[str, str], slowness: float = 1.0) -> Iterator[Watched]:
    """A runner of `n` sessions that is heard on every channel; it may have had no exception in the end."""
    with (
        post() as letters,
        simulated(directory, n) as simulator,
        running(directory, simulator, n, settings | letters.settings()) as p,
    ):
        p.runner.wait_ready(n, 60.0)
        with watched(p, letters, directory, slowness) as w:
            yield w
        assert "Traceback" not in p.runner.output()


@contextmanager
def fleets_of(
    directory: Path, number: int, n: int, settings: dict[str, str], slowness: float = 1.0
) -> Iterator[list[Watched]]:
    """So many of them, started at the same time."""
    made = [fleet_of(directory / f"fleet{place}", n, settings, slowness) for place in range(number)]
    with ExitStack() as stack, ThreadPoolExecutor(number) as pool:
        started = [pool.submit(fleet.__enter__) for fleet in made]
        for fleet, start in zip(made, started, strict=True):
            if start.exception() is None:
                stack.push(fleet)
        yield [start.result() for start in started]


def _sessions(w: Watched) -> None:
    all_at_once(w, of_one_session(w))


def _nothing(w: Watched) -> None:
    with exactly(w):
        some = w.p.ids()[: len(NOTHING_TO_TELL)]
        for session_id, it in zip(some, NOTHING_TO_TELL, strict=True):
            do_nothing_to_tell(w, it, session_id)


def go_through(rows: Sequence[Row], fleets: Sequence[Watched]) -> None:
    """Each fleet takes the next row when it is well again: faults of a fleet would hide one another."""
    waiting = iter(rows)

    def work(w: Watched) -> None:
        for name, row in waiting:
            try:
                row(w)
            except BaseException as error:
                error.add_note(f"while this was wrong: {name}")
                raise

    with ThreadPoolExecutor(len(fleets)) as pool:
        for done in [pool.submit(work, w) for w in fleets]:
            done.result()


def befall(w: Watched, trouble: Trouble) -> None:
    """It happens, it is over, all are back, and this is told of it."""
    with exactly(w, (trouble.alert, trouble.about(w))):
        trouble.happen(w)
        w.p.runner.wait_ready(w.p.n, 30.0 * w.slowness)
    forgive(w, *w.p.ids())
