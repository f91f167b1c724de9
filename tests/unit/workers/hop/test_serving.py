"""The worker's end of the hop: one call that fails unforeseen fails none that came with it."""

import asyncio

import numpy as np
import pytest

from workers.client import ModelUse, ScoreAnswer, ScoreCall
from workers.features import Features
from workers.hop.frames import COLD, AnswerFrames, call_frame, frames
from workers.hop.serving import HopDesk

USE = ModelUse("", 1, 7, 0, None)


class Scripted:
    """A worker with a defect of its own: it cannot bear a certain number."""

    def score_now(self, call):
        value = call.features.cells[0]
        if value == 13.0:
            raise ZeroDivisionError
        return ScoreAnswer(np.array([[value]]), (USE,), {})

    async def score(self, call):
        return self.score_now(call)


class HoldsNothing:
    def get(self, _group, _release):
        return None


def frame(value):
    return call_frame(ScoreCall("g", 7, (("1",),), None, Features(None, cells=[value]), 0, frozenset()))


def test_a_call_that_fails_unforeseen_is_asked_by_itself_and_its_neighbours_are_answered():
    desk = HopDesk(Scripted(), HoldsNothing())
    said = list(frames(desk.answer_now(frame(1.0) + frame(13.0) + frame(3.0))))
    [cold] = frames(COLD)
    assert [bytes(head) == bytes(cold[0]) for head, _ in said] == [False, True, False]
    reader = AnswerFrames()
    assert [float(reader.read(*said[n]).scores[0, 0]) for n in (0, 2)] == [1.0, 3.0]
    with pytest.raises(ZeroDivisionError):
        asyncio.run(desk.answer(frame(13.0), 1.0))
