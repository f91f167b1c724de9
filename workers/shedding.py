"""Load shedding: how much work may lie before a request until it is refused, and how much goes together.

More is asked than can be answered: then a queue that takes everything serves, after a while, only callers who have
left. So a request before which too much work lies is refused at once, which costs far less than its answer. A rush may
queue for a while; once something had to be refused, more comes than can be done, a long queue only delays whatever is
answered, and until the queue was empty once only little may lie before a request (the idea of CoDel and of B. Maurer,
Fail at Scale, ACM Queue 13/8, 2015). Nothing that was taken is refused later. Pure but for what is remembered; the
caller tells the time, in monotonic seconds.
"""

from collections import deque
from statistics import median
from typing import Final

SHORT_SECONDS: Final = 0.02  # of work before a request while more comes than can be done
TURN_SECONDS: Final = 0.01  # of work that goes together: what comes next waits for it
_FIRST_SECONDS: Final = 0.001  # a call, before one was answered
_KEPT: Final = 0.9  # of the mean, at each answer
_SAMPLES: Final = 51
_LEAST_SAMPLES: Final = 5
_FORGOTTEN_SECONDS: Final = 2.0  # after the last of them
_MOST_WORK: Final = 0.05  # seconds that one request may seem to take
_LEAP: Final = 64.0  # an answer counts in the mean at most as so many times what was known


class Patience:
    """How much work may lie before a request of one queue. Its owner keeps other threads out."""

    __slots__ = ("_longest", "_overloaded")

    def __init__(self, seconds: float) -> None:
        """`seconds` of work may lie before a request of a rush."""
        self._longest = seconds
        self._overloaded = False

    def admits(self, ahead: float) -> bool:
        """Whether a request is taken before which so many seconds of work lie."""
        if ahead > (SHORT_SECONDS if self._overloaded else max(self._longest, SHORT_SECONDS)):
            self._overloaded = True
            return False
        return True

    def calm(self) -> None:
        """The queue was empty: what comes next may be a rush."""
        self._overloaded = False


class Pace:
    """How long a call takes one who answers them in turn. Its owner keeps other threads out.

    Two things are known. The mean of all answers is quick to tell that models have become slow, and only decides how
    many calls go together. The median of the answers behind which others waited says how much work lies before a call:
    without others behind it a call takes mostly the way there and back, and a pause of the machine is long but seldom.

    Attributes:
        mean: seconds a call.
    """

    __slots__ = ("_busy", "_calls", "_known_until", "_spent", "_usual", "mean")

    def __init__(self) -> None:
        self.mean = _FIRST_SECONDS
        self._calls = 1 / (1 - _KEPT)
        self._spent = self.mean * self._calls
        self._busy: deque[float] = deque(maxlen=_SAMPLES)  # seconds a call
        self._known_until = float("-inf")
        self._usual = 0.0

    def answered(self, now: float, seconds: float, calls: int, *, behind: int) -> None:
        """So many calls were answered in so many seconds, and others wait behind them."""
        self._spent = _KEPT * self._spent + min(seconds, _LEAP * calls * self.mean)
        self._calls = _KEPT * self._calls + calls
        self.mean = max(self._spent / self._calls, 1e-7)
        if behind:
            if now - seconds > self._known_until:
                self._busy.clear()
            self._known_until = now + seconds + _FORGOTTEN_SECONDS
            self._busy.append(seconds / calls)
            self._usual = median(self._busy) if len(self._busy) >= _LEAST_SAMPLES else 0.0

    def together(self, most: int) -> int:
        """How many calls may go together."""
        return max(1, min(most, int(TURN_SECONDS / self.mean)))

    def work(self, now: float, calls: int) -> float:
        """Seconds that so many calls take; 0 while that is not known."""
        return calls * self._usual if now <= self._known_until else 0.0


class Gate:
    """Who is let into one queue, and how many of it go together, by how long its calls take.

    Its owner keeps the queue itself, and other threads out.
    """

    __slots__ = ("_pace", "_patience")

    def __init__(self, seconds: float) -> None:
        """`seconds` of work may lie before a call of a rush."""
        self._pace = Pace()
        self._patience = Patience(seconds)

    def admits(self, now: float, before: int, *, busy: bool = False) -> bool:
        """Whether a call is taken before which so many wait; `busy` if others are done meanwhile."""
        if not before and not busy:
            self._patience.calm()
        return self._patience.admits(self._pace.work(now, before))

    def answered(self, now: float, seconds: float, calls: int, *, behind: int) -> None:
        """See `Pace.answered`."""
        self._pace.answered(now, seconds, calls, behind=behind)

    def together(self, most: int) -> int:
        """See `Pace.together`."""
        return self._pace.together(most)


class Step:
    """How long one thread has been at work since it last looked at what came: what comes last has waited so long.

    A long pause between two requests is none of their work, and counts little. After a step that hardly kept anybody
    waiting, the next may be a rush.

    Attributes:
        worked: seconds in this step, before its last request.
        was_short: whether the step before it hardly kept anybody waiting.
    """

    __slots__ = ("_is_open", "_last", "_patience", "was_short", "worked")

    def __init__(self, seconds: float) -> None:
        """`seconds` of work may lie before a request of a rush."""
        self._patience = Patience(seconds)
        self.worked = 0.0
        self.was_short = True
        self._is_open = False
        self._last = 0.0

    def came(self, now: float) -> bool:
        """A request comes to its turn; whether it is the first of a step."""
        first = not self._is_open
        self.worked = 0.0 if first else self.worked + min(now - self._last, _MOST_WORK)
        self._last, self._is_open = now, True
        return first

    def admits(self) -> bool:
        """Whether what came last is taken."""
        return self._patience.admits(self.worked)

    def over(self) -> None:
        """The thread looks at what came meanwhile."""
        self._is_open = False
        self.was_short = self.worked <= SHORT_SECONDS
        if self.was_short:
            self._patience.calm()
