"""Lanes over a store: order within a lane, nothing twice, nothing forgotten, within bounds."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import settings, stateful
from hypothesis import strategies as st

from runner.lanes import Key, Lanes

PAGE = 5
HELD = 12
PER_LANE = 3


@dataclass(frozen=True)
class Row:
    seq: int
    lane: Key
    size: int = 10


@dataclass
class Store:
    """What survives: rows that wait, by number."""

    waiting: dict[int, Row] = field(default_factory=dict)
    given_up: dict[int, Row] = field(default_factory=dict)
    last: int = 0

    def add(self, lane: Key) -> None:
        self.last += 1
        self.waiting[self.last] = Row(self.last, lane)

    def after(self, seq: int, n: int, lane: Key | None = None) -> list[Row]:
        found = [row for row in self.waiting.values() if row.seq > seq and lane in (None, row.lane)]
        return sorted(found, key=lambda row: row.seq)[:n]


class LanesMachine(stateful.RuleBasedStateMachine):
    """A consumer, with the reads in one task and any number of handlers."""

    def __init__(self) -> None:
        super().__init__()
        self.store = Store()
        self.lanes: Lanes[Row] = Lanes(per_lane=PER_LANE, most_held=HELD, most_bytes=10_000)
        self.now = 0.0
        self.running: dict[int, Row] = {}
        self.finished: list[int] = []
        """Done, and the store does not know yet."""
        self.buried: list[int] = []
        self.taken: set[int] = set()
        """Done with, and not put back: never to be run again."""
        self.until: dict[Key, float] = {}
        self.locked: set[int] = set()
        """Waiting, and not decrypted yet."""
        self.late: set[int] = set()
        """Decrypted after others of their lane were run."""

    @stateful.rule(lane=st.sampled_from("abc"), n=st.integers(1, 40))
    def messages_come(self, lane: str, n: int) -> None:
        for _ in range(n):
            self.store.add(("s", lane))

    @stateful.rule(lane=st.sampled_from("abc"), n=st.integers(1, 5))
    def messages_that_wait_for_keys_come(self, lane: str, n: int) -> None:
        for _ in range(n):
            self.store.add(("s", lane))
            self.locked.add(self.store.last)

    @stateful.precondition(lambda self: self.locked)
    @stateful.rule()
    def keys_come(self) -> None:
        self.late |= self.locked
        self.locked.clear()
        self.lanes.rescan()

    @stateful.rule(finish_meanwhile=st.booleans(), n=st.integers(0, 4))
    def turn(self, finish_meanwhile: bool, n: int) -> None:
        self.read(finish_meanwhile)
        self.start(n)

    def read(self, finish_meanwhile: bool) -> None:
        """One step of the reading task. While it reads, something may end."""
        told, buried = self.finished, self.buried
        self.finished, self.buried = [], []
        for seq in told:
            del self.store.waiting[seq]
        for seq in buried:
            self.store.given_up[seq] = self.store.waiting.pop(seq)
        refills = [
            (key, after, self.store.after(after, PER_LANE, key)) for key, after in self.lanes.wanting(4)
        ]
        page = self.store.after(self.lanes.cursor, PAGE) if self.lanes.has_room else []
        if finish_meanwhile and self.running:
            self.succeed(0)
        for key, after, rows in refills:
            upto = max((row.seq for row in rows), default=after)
            readable = [row for row in rows if row.seq not in self.locked]
            self.lanes.refill(key, readable, upto=upto, is_all=len(rows) < PER_LANE)
        self.lanes.offer([row for row in page if row.seq not in self.locked])
        if page:
            self.lanes.passed(page[-1].seq)
        self.lanes.confirmed([*told, *buried])

    def start(self, n: int) -> None:
        self.lanes.wake(self.now)
        for _ in range(n):
            row = self.lanes.next()
            if row is None:
                return
            assert row.seq not in self.taken, "run after it was done"
            assert row.seq in self.store.waiting
            assert all(other.lane != row.lane for other in self.running.values()), "two of one lane"
            assert self.now >= self.until.get(row.lane, 0.0), "before its time"
            earlier = [
                seq
                for seq, it in self.store.waiting.items()
                if it.lane == row.lane and seq < row.seq and seq not in self.taken | self.locked | self.late
            ]
            assert not earlier, "out of order"
            self.running[row.seq] = row

    def succeed(self, place: int) -> None:
        row = self._ended(place)
        self.taken.add(row.seq)
        self.finished.append(row.seq)
        self.lanes.done(row)

    def _ended(self, place: int) -> Row:
        seqs = sorted(self.running)
        return self.running.pop(seqs[place % len(seqs)])

    def give_up(self, place: int) -> None:
        row = self._ended(place)
        self.taken.add(row.seq)
        self.buried.append(row.seq)
        self.lanes.done(row)

    def fail(self, place: int) -> None:
        row = self._ended(place)
        attempts = self.lanes.attempts(row) + 1
        self.until[row.lane] = self.now + 10
        self.lanes.failed(row, attempts, self.now + 10)

    @stateful.precondition(lambda self: self.running)
    @stateful.rule(
        ends=st.lists(st.tuples(st.integers(0, 3), st.sampled_from("ssgf")), min_size=1, max_size=3)
    )
    def attempts_end(self, ends: list[tuple[int, str]]) -> None:
        for place, how in ends:
            if self.running:
                {"s": self.succeed, "g": self.give_up, "f": self.fail}[how](place)

    @stateful.rule(by=st.integers(1, 30))
    def time_goes_by(self, by: int) -> None:
        self.now += by

    @stateful.rule(receiver_is_back=st.booleans())
    def something_changes(self, receiver_is_back: bool) -> None:
        if receiver_is_back:
            self.until.clear()
            self.lanes.hurry()
        else:
            self.lanes.rescan()

    @stateful.precondition(lambda self: self.store.given_up)
    @stateful.rule(place=st.integers(0, 9))
    def put_back(self, place: int) -> None:
        seqs = sorted(self.store.given_up)
        row = self.store.given_up.pop(seqs[place % len(seqs)])
        self.store.waiting[row.seq] = row
        self.taken.discard(row.seq)
        self.lanes.reopen(row.lane)

    @stateful.invariant()
    def memory_is_bounded(self) -> None:
        assert self.lanes.held <= HELD + max(4 * PER_LANE, PAGE)
        assert self.lanes.running == len(self.running)

    def teardown(self) -> None:
        """Whatever happened: when everything succeeds from now on, all of it is taken."""
        if self.locked:
            self.keys_come()
        for _ in range(3 * (self.store.last + 10)):
            while self.running:
                self.succeed(0)
            self.read(finish_meanwhile=False)
            self.now += 30
            self.start(4)
            if not self.store.waiting and not self.running:
                break
        assert not self.store.waiting


TestLanes = LanesMachine.TestCase
TestLanes.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)
