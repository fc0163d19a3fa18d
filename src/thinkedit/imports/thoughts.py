"""The thought in a text that came without token ids: its status, its length as far as that can be told, and the rest."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from thinkedit.records import THINK_TAGS, Status

if TYPE_CHECKING:
    from thinkedit.chat import Chat

# The published evaluation closed cut thoughts with this, and let the model go on.
FORCED_CUES = (
    "\n</think>\n\nYeah, I think that's right.\n\n**Final Answer**\n",
    "Yeah, I think that's right.\n\n**Final Answer**",
)
ASSISTANT = "<｜Assistant｜>"
ENDS = ("<｜end▁of▁sentence｜>", "<|im_end|>", "<|endoftext|>", "<|eot_id|>", "</s>")


@dataclass(frozen=True, slots=True)
class Reading:
    """`text` is what was sampled, without prompt, forced answer and end tokens; `tokens` None where nobody counted."""

    text: str
    status: Status
    tokens: int | None
    forced: str | None = None


@dataclass(frozen=True, slots=True)
class Reader:
    """How the texts of one file are read.

    `tags` open and close a thought; `opened` says that the prompt opened it; a length of `cap` or more was cut there.
    With a `chat` tokens are counted anew, else a given length is kept.
    """

    tags: tuple[str, str] = THINK_TAGS
    opened: bool = False
    cap: int | None = None
    chat: "Chat | None" = None

    def read(self, text: str | None, length: int | None = None, question: str = "") -> Reading:
        """The reading of one text; without a text (None) only the length speaks."""
        if text is None:
            return self._by_length(length)
        sampled, forced = _without_forced(_without_prompt(text))
        status = self._status(sampled, forced)
        tokens = self._count(sampled, question) if self.chat else None
        if not self.chat and length is not None and length >= 0 and status != "absent":
            tokens = length
        at_cap = self.cap is not None and tokens is not None and tokens >= self.cap
        if status == "unclosed" and at_cap:
            status = "truncated"
        elif status == "closed" and at_cap and not self.chat:
            status, forced = "truncated", forced or sampled.partition(self.tags[1])[2]
        return Reading(sampled, status, tokens, forced)

    def _status(self, text: str, forced: str | None) -> Status:
        if forced is not None:
            return "truncated"
        before, closed, _ = text.partition(self.tags[1])
        if closed:
            return "closed" if self.opened or self.tags[0] in before else "absent"
        return "unclosed" if self.opened or self.tags[0] in text else "absent"

    def _by_length(self, length: int | None) -> Reading:
        if length is None or length < 0:
            return Reading("", "absent", None)
        cut = self.cap is not None and length >= self.cap
        return Reading("", "truncated" if cut else "closed", length)

    def _count(self, text: str, question: str) -> int | None:
        """Tokens of the thought as everywhere: from the first opening tag, in the prompt or not, to the closing one."""
        assert self.chat
        own = self.tags[0] in text.partition(self.tags[1])[0]
        prompt: list[int] = [] if own else self.chat.prompt_ids(question or "?")
        if not own and self.chat.thought(prompt, [], at_cap=False).status == "absent":
            prompt = list(self.chat.opening) if self.opened else []
        return self.chat.thought(prompt, self.chat.encode(text), at_cap=False).tokens


def opened_by_prompt(texts: Iterable[str], tags: tuple[str, str] = THINK_TAGS) -> tuple[bool, str | None]:
    """Whether the prompt opened the thoughts of a file, which shows where they close what they did not open.

    The second value says how that was told, None where all thoughts were opened by the texts themselves.
    """
    lone = own = 0
    for text in texts:
        before, closed, _ = _without_prompt(text).partition(tags[1])
        if closed:
            lone, own = lone + (tags[0] not in before), own + (tags[0] in before)
    if lone == 0:
        return False, None
    return lone > own, f"{lone:,} of {lone + own:,} closed thoughts were opened by the prompt, not by the response"


def _without_prompt(text: str) -> str:
    """Texts that were decoded together with their prompt begin behind it."""
    return text.rpartition(ASSISTANT)[2] if ASSISTANT in text else text


def _without_forced(text: str) -> tuple[str, str | None]:
    for cue in FORCED_CUES:
        before, found, after = text.partition(cue)
        if found:
            return before.removesuffix("\n</think>\n\n"), "**Final Answer**\n" + _without_end(after)
    return _without_end(text), None


def _without_end(text: str) -> str:
    text = text.rstrip()
    for end in ENDS:
        text = text.removesuffix(end)
    return text
