"""A PDP that remembers what was asked and answered, for those who tell how a decision came about."""

from __future__ import annotations

from dataclasses import dataclass, field

from sidecar.gate.asking import PDP
from sidecar.gate.decision import PdpAnswer, Question


@dataclass
class RecordingPDP:
    """Passes questions on to another PDP. The first is about the request, those after it about the app's answer."""

    pdp: PDP
    questions: list[Question] = field(default_factory=list)
    answers: dict[int, PdpAnswer] = field(default_factory=dict)
    """The answers, by the place of their question."""

    async def check(self, question: Question) -> PdpAnswer:
        """Pass the question on."""
        at = len(self.questions)
        self.questions.append(question)
        answer = self.answers[at] = await self.pdp.check(question)
        return answer

    @property
    def question(self) -> Question | None:
        """The question about the request, None where it did not come so far."""
        return self.questions[0] if self.questions else None

    @property
    def answer(self) -> PdpAnswer | None:
        """Its answer, None where there was none."""
        return self.answers.get(0)
