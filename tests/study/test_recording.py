"""`study/recording.py`: what was asked and answered, in its order."""

from __future__ import annotations

import pytest

from sidecar.gate.codes import Code
from sidecar.gate.decision import PdpAnswer, Question
from sidecar.gate.identity import Principal
from sidecar.gate.verdict import Refused
from sidecar.study.recording import RecordingPDP

WHO = Principal("a", (), {}, "i", 0.0, {})


class PDP:
    async def check(self, question: Question) -> PdpAnswer:
        if question.request_id == "down":
            raise Refused(Code.PDP_UNAVAILABLE)
        return PdpAnswer(question.request_id, "call", ())


async def test_it_passes_on_and_remembers() -> None:
    recording = RecordingPDP(PDP())
    assert (recording.question, recording.answer) == (None, None)
    first, second = Question("r", WHO, ()), Question("s", WHO, ())
    assert await recording.check(first) == PdpAnswer("r", "call", ())
    await recording.check(second)
    assert recording.questions == [first, second]
    assert recording.question is first
    assert recording.answer == PdpAnswer("r", "call", ())
    assert recording.answers[1].request_id == "s"


async def test_a_question_without_an_answer_is_remembered_too() -> None:
    recording = RecordingPDP(PDP())
    with pytest.raises(Refused):
        await recording.check(Question("down", WHO, ()))
    assert recording.question is not None
    assert recording.answer is None
