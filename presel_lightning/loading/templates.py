"""Conversations written out as prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from presel_lightning.data.conversation import IMAGE, without_image_token
from presel_lightning.records import Turn, image_place, system_prompt


@dataclass(frozen=True, slots=True)
class Rendered:
    """A prompt and where in it the answers stand.

    Attributes:
        answer_spans: (start, end) in characters of each answer with the stop mark behind it.
    """

    text: str
    answer_spans: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Template:
    """Writes conversations out as the language model was tuned to read them.

    Attributes:
        system: system prompt of conversations that bring none.
        frame: what stands before the first question, around the system prompt; empty where a
            template has none.
        stop: what ends an answer.
        user: what stands before a question.
        assistant: what stands before an answer.
        joint: between all of these.
    """

    system: str
    stop: str = "</s>"
    user: str = "USER:"
    assistant: str = "ASSISTANT:"
    joint: str = " "
    frame: str = "{}"

    @property
    def has_system(self) -> bool:
        """Whether a conversation's own system prompt has a place."""
        return bool(self.system and self.frame)

    def render(self, turns: Sequence[Turn], *, with_question: bool, image: bool = True) -> Rendered:
        r"""Write a conversation out: `SYSTEM USER: <image>\nQ ASSISTANT: A</s>USER: Q2 ...`.

        Without questions it is `SYSTEM USER: <image> ASSISTANT: R</s>`, R being all answers
        joined by one space (the second input of the IRS). A text-only conversation has no `image`.
        A system prompt of the conversation stands in the place of the template's own.
        """
        text = self._opening(system_prompt(turns))
        if not with_question:
            turns = (Turn("", " ".join(turn.answer for turn in turns)),)
        place = image_place(turns)
        spans = []
        for number, turn in enumerate(turns):
            text += self._ask(turn.question, image=image and number == place) + self.joint
            start = len(text)
            text += turn.answer + self.stop
            spans.append((start, len(text)))
        return Rendered(text, tuple(spans))

    def prompt(self, turns_before: Sequence[Turn], question: str) -> str:
        """Write out what the model is to continue with its answer; no space at the end."""
        before = self.render(turns_before, with_question=True).text
        return before + self._ask(without_image_token(question), image=not turns_before)

    def _opening(self, system: str) -> str:
        if not self.has_system:
            return ""
        return self.frame.replace("{}", system or self.system) + self.joint

    def _ask(self, question: str, *, image: bool) -> str:
        shown = f"{IMAGE}\n{question}".strip() if image else question
        return self.joint.join(part for part in (self.user, shown, self.assistant) if part)


AUTO = "auto"
"""`vicuna_v1` for LLaVA-1.5; any other model's own chat template; see `auto_template`."""


def _header(role: str) -> str:
    return f"<|start_header_id|>{role}<|end_header_id|>\n\n"


TEMPLATES = {
    "vicuna_v1": Template(
        "A chat between a curious user and an artificial intelligence assistant. The assistant "
        "gives helpful, detailed, and polite answers to the user's questions."
    ),
    "vicuna_bare": Template(""),
    # Llama-3's turns with the system sentence that LLaVA gave it; the tokenizer adds what begins
    # the text
    "llama_3": Template(
        system="You are a helpful language and vision assistant. You are able to understand the "
        "visual content that the user provides, and assist the user with a variety of tasks using "
        "natural language.",
        frame=_header("system") + "{}<|eot_id|>",
        stop="<|eot_id|>",
        user=_header("user"),
        assistant="<|eot_id|>" + _header("assistant"),
        joint="",
    ),
}
