"""Outlier ejection: which workers are left out for a while because they fail, hang or have become slow.

What a worker does is counted as it is seen: calls that ended in a lost connection, probes of its health, and how long
it takes beside its like. One that is left out is let in again when a probe succeeds and its time is over, and the time
grows with each ejection in a row. Never more than half are left out: when most look ill, it is not they. Pure but for
what each worker's record remembers; the caller tells the time.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

FAILURES: Final = 2  # in a row, of calls whose connection was lost while it was used
PROBES: Final = 2  # in a row that fail, and no call was answered meanwhile
FIRST_SECONDS: Final = 0.3
LONGEST_SECONDS: Final = 10.0
SLOW_TIMES: Final = 5.0  # the median of the others
SLOW_SECONDS: Final = 0.025  # below it nobody is slow
SLOW_SAMPLES: Final = 20
SHARE: Final = 0.5
_WEIGHT: Final = 0.1  # of a new latency in the running mean


@dataclass(slots=True)
class Record:
    """What is known of one worker.

    Attributes:
        until: monotonic seconds until which it is left out at least; 0 is not at all.
        in_a_row: ejections without a quiet time in between.
        well: whether its last probe succeeded.
        absent: whether its last connection could not be opened: nobody is there, or nobody can get there.
        latency: running mean in seconds of calls that needed no waiting.
    """

    until: float = 0.0
    in_a_row: int = 0
    failures: int = 0
    failed_probes: int = 0
    well: bool = False
    absent: bool = False
    latency: float = 0.0
    samples: int = 0

    def answered(self, seconds: float | None = None) -> None:
        """A call was answered; `seconds` if it says something of the worker's speed."""
        self.failures = self.failed_probes = 0  # who hangs answers nothing at all
        if seconds is not None:
            self.samples += 1
            weight = max(_WEIGHT, 1 / self.samples)
            self.latency += weight * (seconds - self.latency)

    def unreachable(self, now: float) -> None:
        """A connection was refused: nobody is there, and that needs no second opinion."""
        self.well, self.absent = False, True
        self.eject(now)

    def lost(self, now: float) -> None:
        """A call's connection was lost, or had no answer in time."""
        self.failures += 1
        if self.failures >= FAILURES:
            self.eject(now)

    def probed(self, now: float, *, well: bool) -> bool:
        """A probe of its health ended. Answers whether the worker has just been found hanging or gone."""
        if not well:
            self.failed_probes += 1
            if self.failed_probes == PROBES:
                self.well = False
                self.eject(now)
                return True
            return False
        if self.well and now > self.until + LONGEST_SECONDS:
            self.in_a_row = 0
        self.failed_probes, self.well = 0, True
        return False

    @property
    def hangs(self) -> bool:
        """Whether it answers no probe any more."""
        return self.failed_probes >= PROBES

    def eject(self, now: float) -> None:
        """Leave it out for a while, longer each time."""
        if now >= self.until:
            self.until = now + min(FIRST_SECONDS * 2.0 ** min(self.in_a_row, 10), LONGEST_SECONDS)
            self.in_a_row += 1
        self.failures, self.samples, self.latency = 0, 0, 0.0

    def is_out(self, now: float) -> bool:
        """Whether it is left out."""
        return now < self.until or not self.well


def eject_slow(records: Sequence[Record], now: float) -> list[Record]:
    """Eject those that take many times as long as the others; answers them."""
    known = [record for record in records if record.samples >= SLOW_SAMPLES and not record.is_out(now)]
    slow = []
    for record in known:
        others = [other.latency for other in known if other is not record]
        if others and record.latency > max(SLOW_TIMES * median(others), SLOW_SECONDS):
            slow.append(record)
    for record in slow:
        record.eject(now)
    return slow


def is_panic(records: Sequence[Record], now: float) -> bool:
    """Whether so many are out that nobody should be: then all are tried."""
    return sum(record.is_out(now) for record in records) > SHARE * len(records)
