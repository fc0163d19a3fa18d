"""From a question to prompt ids, and from sampled ids to the thought inside of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from thinkedit.errors import ThinkEditError, UsageError
from thinkedit.plain_text import is_text
from thinkedit.records import Status
from thinkedit.template_trial import fault

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PromptStyle = Literal["template", "raw"]
RAW_USER, RAW_ASSISTANT = "<｜User｜>", "<｜Assistant｜>"  # the markers of DeepSeek-R1, which the paper wrote by hand
FORCED_CUE = "\n\n**Final Answer**\n\\boxed{"


@dataclass(frozen=True, slots=True)
class Thought:
    """Where a thought is. `tokens` counts it from the opening to the closing tag, both included; None where absent.

    `start` and `end` delimit its sampled part, as indices into the sampled tokens.
    """

    status: Status
    tokens: int | None
    start: int
    end: int

    def window(self, prompt_tokens: int) -> slice:
        """The positions of prompt + sampled tokens that *predict* the sampled part of the thought."""
        return slice(prompt_tokens + self.start - 1, prompt_tokens + self.end - 1)


def find_thought(
    prompt_ids: Sequence[int],
    token_ids: Sequence[int],
    opening: Sequence[int],
    closing: Sequence[int],
    at_cap: bool,
) -> Thought:
    """Finds the thought from the first opening tag, wherever it stands, to the first closing tag behind it.

    `at_cap`: the sampling stopped at its cap, so that a thought that is still open was truncated.
    """
    ids = [*prompt_ids, *token_ids]
    begin = _find(ids, opening, 0)
    if begin is None:
        return Thought("absent", None, 0, 0)
    start = max(0, begin - len(prompt_ids))
    close = _find(ids, closing, begin + len(opening))
    if close is None:
        return Thought("truncated" if at_cap else "unclosed", len(ids) - begin, start, len(token_ids))
    end = close + len(closing)
    return Thought("closed", end - begin, start, max(0, end - len(prompt_ids)))


def _find(ids: Sequence[int], tag: Sequence[int], start: int) -> int | None:
    first, width = tag[0], len(tag)
    while True:
        try:
            start = ids.index(first, start)
        except ValueError:
            return None
        if list(ids[start : start + width]) == list(tag):
            return start
        start += 1


class Chat:
    """A tokenizer with its way of asking and its think tags. Raises ThinkEditError where it has none of them.

    `vocabulary` is how many tokens the model knows: ids from there on belong to another one, and are an error.
    """

    def __init__(
        self,
        tokenizer: "PreTrainedTokenizerBase",
        style: PromptStyle = "template",
        think_tags: tuple[str, str] | None = None,
        vocabulary: int | None = None,
    ) -> None:
        self.tokenizer: Any = tokenizer
        self.style, self.vocabulary = style, vocabulary
        self.think_tags = think_tags or ("<think>", "</think>")
        self.opening, self.closing = (self._tag_ids(tag, named=think_tags is not None) for tag in self.think_tags)
        if style == "raw" and tokenizer.convert_tokens_to_ids(RAW_USER) in (None, tokenizer.unk_token_id):
            raise UsageError(
                f"--prompt raw writes {RAW_USER}...{RAW_ASSISTANT}, which this tokenizer does not have; use --prompt template."
            )
        if style == "template" and not tokenizer.chat_template:
            raise ThinkEditError(
                "The tokenizer has no chat template. Use a checkpoint that has one, or --prompt raw for a "
                f"DeepSeek-R1 distill ({RAW_USER}question{RAW_ASSISTANT})."
            )

    def _tag_ids(self, tag: str, named: bool) -> list[int]:
        single = self.tokenizer.convert_tokens_to_ids(tag)
        if single is not None and single != self.tokenizer.unk_token_id:
            return self._known([single])
        ids = self.tokenizer(tag, add_special_tokens=False).input_ids if named else []
        if not ids or self.tokenizer.unk_token_id in ids:
            raise ThinkEditError(
                f"The tokenizer has no token {tag}: this is no reasoning model, or it writes its thoughts between "
                "other tags. Name them with --think-tags OPEN CLOSE."
            )
        return self._known(ids)

    def _known(self, ids: list[int]) -> list[int]:
        if self.vocabulary is not None and ids and max(ids) >= self.vocabulary:
            token = self.tokenizer.convert_ids_to_tokens(max(ids))
            raise ThinkEditError(
                f"The tokenizer writes {token} as token {max(ids):,}, but the model has {self.vocabulary:,}: it is not this "
                "model's. Copy the files of the tokenizer that it was trained with beside the weights."
            )
        return ids

    def prompt_ids(self, user: str) -> list[int]:
        if not user.strip():
            raise ThinkEditError("The question is empty.")
        if self.style == "raw":
            return self._tokenised(f"{RAW_USER}{user}{RAW_ASSISTANT}")
        messages = [{"role": "user", "content": user}]
        if why := self._template_fault:
            raise ThinkEditError(f"The chat template does not come to an end: {why}. Use a checkpoint with a sound template.")
        try:
            text = self.tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        except Exception as error:  # templates are programs: they fail in every way
            raise ThinkEditError(f"The chat template fails on a plain question: {error}") from None
        return self.encode(text)

    @cached_property
    def _template_fault(self) -> str | None:
        template = self.tokenizer.chat_template
        if isinstance(template, dict):  # several by name; a plain question takes this one
            template = template.get("default", "")
        special = {name: str(token) for name, token in self.tokenizer.special_tokens_map.items() if isinstance(token, str)}
        return fault(template, tuple(sorted(special.items())))

    def encode(self, text: str) -> list[int]:
        return self._tokenised(text, add_special_tokens=False)

    def _tokenised(self, text: str, **how: Any) -> list[int]:
        if not is_text(text):
            raise ThinkEditError("The text holds half of a surrogate pair, which is no character. Mend its file.")
        return self._known(self.tokenizer(text, **how).input_ids)

    def decode(self, ids: Sequence[int]) -> str:
        if self._decodes_plainly:
            return self.tokenizer.backend_tokenizer.decode(ids, skip_special_tokens=False)
        # A list would be looked through number by number; an array is taken as it is.
        return self.tokenizer.decode(np.asarray(ids, dtype=np.int64), skip_special_tokens=False)

    @cached_property
    def _decodes_plainly(self) -> bool:
        """Whether the tokenizer adds nothing to what the tokenizers library makes of ids, but time."""
        return self.tokenizer.is_fast and not self.tokenizer.clean_up_tokenization_spaces

    def thought(self, prompt_ids: Sequence[int], token_ids: Sequence[int], at_cap: bool) -> Thought:
        return find_thought(prompt_ids, token_ids, self.opening, self.closing, at_cap)

    def forced_suffix(self) -> tuple[list[int], str]:
        """What is appended to a truncated thought to force an answer: ids, and the part of the text that answers."""
        cue = self.encode(FORCED_CUE)
        if self.tokenizer.unk_token_id in cue:  # a closed vocabulary: its model answers without being asked
            return list(self.closing), ""
        return [*self.closing, *cue], FORCED_CUE

    @property
    def end_ids(self) -> list[int]:
        return [] if self.tokenizer.eos_token_id is None else [self.tokenizer.eos_token_id]
