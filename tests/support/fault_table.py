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
    """What can go wrong, and the proof of what is told of it: first what has to be first for its fleet, then
    the longest."""
    passing, (longest, *lasting), long = map(_rows, (PASSING, LASTING, TAKES_LONG if slowly else ()))
    return [*passing, longest, ("of single sessions", _sessions), ("mends itself", _nothing), *lasting, *long]


def _rows(troubles: Sequence[Trouble]) -> list[Row]:
    return [(it.name, partial(befall, trouble=it)) for it in troubles]


@contextmanager
def fleets_of(
    directory: Path, number: int, n: int, settings: dict[str, str], slowness: float = 1.0
) -> Iterator[list[Watched]]:
    """So many runners of `n` sessions, each heard on its own; none may have had an exception in the end."""
    with ExitStack() as stack:
        made: list[Watched] = []
        for folder in (directory / f"fleet{place}" for place in range(number)):
            letters = stack.enter_context(post())
            simulator = stack.enter_context(simulated(folder, n))
            p = stack.enter_context(running(folder, simulator, n, settings | letters.settings()))
            p.runner.wait_ready(n, 30.0 * slowness)
            made.append(stack.enter_context(watched(p, letters, folder, slowness)))
        yield made
        for w in made:
            assert "Traceback" not in w.p.runner.output()


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
