"""Whoever looks on: what every serving process shows of the house, asked again and again while things happen."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby

from tests.support.ledger import Caller, Outcome

LOOK_SECONDS = 0.1


class Onlooker:
    """Asks the same questions over each of some connections, and keeps what changed from one answer to the next.

    Attributes:
        seen: the state of every member by its id, as answers to a path had it, in the order in which they came.
        refused: what was no answer.
        looks: how often everything was asked.
    """

    def __init__(self, callers: Sequence[Caller], paths: Sequence[str]) -> None:
        self.seen: dict[str, list[dict[str, str]]] = {path: [] for path in paths}
        self.refused: list[Outcome] = []
        self.looks = 0
        self._callers = callers
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping.wait(LOOK_SECONDS):
            for caller in self._callers:
                for path, seen in self.seen.items():
                    self._note(caller.call("GET", path), seen)
            self.looks += 1

    def states(self, path: str) -> dict[str, list[str]]:
        """What a path showed of each member, in the order in which that changed; one that is not shown is gone."""
        pictures = list(self.seen[path])
        members = {member for picture in pictures for member in picture}
        shown = {member: [picture.get(member, "gone") for picture in pictures] for member in members}
        return {member: [state for state, _ in groupby(states)] for member, states in shown.items()}

    def _note(self, outcome: Outcome, seen: list[dict[str, str]]) -> None:
        if outcome.status != 200:
            self.refused.append(outcome)
            return
        members = {member["id"]: member["state"] for member in outcome.answer["members"]}
        if seen[-1:] != [members]:
            seen.append(members)


@contextmanager
def looking_on(callers: Sequence[Caller], paths: Sequence[str]) -> Iterator[Onlooker]:
    """An onlooker for as long as the context lasts."""
    onlooker = Onlooker(callers, paths)
    onlooker.start()
    try:
        yield onlooker
    finally:
        onlooker.stop()
