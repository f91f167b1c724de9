"""What members say beside what their services say: keys of which releases they hold, and of how they do."""

import threading
from collections.abc import Callable, Collection, Mapping
from collections.abc import Set as AbstractSet
from typing import Any, Final

import orjson

from discovery.consul.calls import ConsulCalls

STATS_SECONDS: Final = 5.0  # between two writes of a member's stats: each one goes to every Consul server
SWEEP_SECONDS: Final = 60.0

_HELD: Final = "members"  # the folder of what members hold: a key each, from join to leave
_STATS: Final = "stats"

Held = frozenset[tuple[str, int]]


class MemberKeys:
    """The keys of one house. Safe from any thread; all methods but `note` call Consul and raise DiscoveryAwayError."""

    def __init__(self, calls: ConsulCalls, clock: Callable[[], float], patience: float) -> None:
        """`patience` are the seconds of `clock` after which the keys of a member that nobody sees are swept."""
        self._calls = calls
        self._clock = clock
        self._patience = patience
        self._lock = threading.Lock()
        self._held: dict[str, Held] = {}
        self._said: dict[str, tuple[float, bytes]] = {}
        self._orphans: dict[str, float] = {}
        self._sweep_at = clock() + SWEEP_SECONDS

    def note(self, member: str, held: Held) -> None:
        """Remember what a member of this process holds, for `write_held`."""
        with self._lock:
            self._held[member] = held

    def write_held(self, member: str) -> None:
        """Write what a member holds; where that is not known yet, what was written earlier stays."""
        while True:
            held = self._held.get(member)
            if held is not None or self._calls.get(f"{_HELD}/{member}")[1] is None:
                self._calls.put(f"{_HELD}/{member}", orjson.dumps(sorted(held or ())))
            if self._held.get(member) is held:  # else another thread noted more, and may have written it before us
                return

    def holders(self, group: str, release: int) -> frozenset[str]:
        """Ids of the members that hold a release."""
        wanted = [group, release]
        return frozenset(member for member, held in self._calls.folder(_HELD).items() if wanted in orjson.loads(held))

    def not_left(self) -> AbstractSet[str]:
        """Ids of the members that joined and did not leave."""
        return self._calls.folder(_HELD).keys()

    def say(self, member: str, stats: Mapping[str, Any]) -> None:
        """Write how a member does, now and then."""
        text = orjson.dumps(stats, option=orjson.OPT_NON_STR_KEYS | orjson.OPT_SERIALIZE_NUMPY)
        then, last = self._said.get(member, (-STATS_SECONDS, b""))
        now = self._clock()
        if text != last and now - then >= STATS_SECONDS:
            self._calls.put(f"{_STATS}/{member}", text)
            self._said[member] = now, text

    def stats(self) -> Mapping[str, Mapping[str, Any]]:
        """What members last said, by id."""
        return {member: orjson.loads(said) for member, said in self._calls.folder(_STATS).items()}

    def delete(self, member: str) -> None:
        """Delete all keys of a member."""
        with self._lock:
            self._held.pop(member, None)
            self._said.pop(member, None)
        self._calls.delete(f"{_HELD}/{member}")
        self._calls.delete(f"{_STATS}/{member}")

    def sweep(self, there: Collection[str]) -> None:
        """Delete the keys of members that nobody has seen for a long time, now and then; `there` are those seen now."""
        now = self._clock()
        if now < self._sweep_at:
            return
        self._sweep_at = now + SWEEP_SECONDS
        keys = self._calls.folder(_HELD).keys() | self._calls.folder(_STATS).keys()
        self._orphans = {member: self._orphans.get(member, now) for member in keys - set(there)}
        for member, since in self._orphans.items():
            if now - since >= self._patience:
                self.delete(member)
