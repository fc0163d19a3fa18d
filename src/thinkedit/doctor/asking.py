"""How a model is asked: think tokens, chat template, context, sampling."""

import re
from collections.abc import Iterator
from typing import Any

from thinkedit.chat import RAW_USER, Chat
from thinkedit.config import Shape
from thinkedit.doctor.check import Check
from thinkedit.pipeline.defaults import Defaults
from thinkedit.records import THINK_TAGS

OPENING = re.compile(r"^[<\[(|｜]+(?!/)[^/<>]*(think|thought|reason)[^/<>]*[>\])|｜]+$", re.IGNORECASE)
QUESTION = "What is 1 + 1?"


def tokens(tokenizer: Any, shape: Shape) -> Iterator[Check]:
    """Whether the model has all tokens that its tokenizer writes."""
    ids = tokenizer.get_vocab()
    beyond = sorted(token for token, number in ids.items() if number >= shape.vocabulary)
    if beyond:
        words = (
            f"{len(beyond):,} of its {len(ids):,} tokens are none of the model's {shape.vocabulary:,}: {', '.join(beyond[:3])}"
        )
        yield Check("tokenizer", "warning", words, "Texts with them cannot be asked. Copy the model's own tokenizer.")
    else:
        yield Check("tokenizer", "ok", f"{len(ids):,} tokens, all of which the model has")


def think_tokens(tokenizer: Any) -> Iterator[Check]:
    """Single tokens that open and close thoughts: none, one pair, or several."""
    pairs = think_pairs(tokenizer.get_vocab())
    named = ", ".join(f"{opening} ... {closing}" for opening, closing in pairs)
    if THINK_TAGS in pairs and len(pairs) == 1:
        yield Check("think tokens", "ok", f"{named}, a token each")
    elif THINK_TAGS in pairs:
        advice = f"{THINK_TAGS[0]} counts; name another pair with --think-tags OPEN CLOSE."
        yield Check("think tokens", "warning", f"{len(pairs)} pairs: {named}", advice)
    elif pairs:
        opening, closing = pairs[0]
        yield Check("think tokens", "fails", f"no {THINK_TAGS[0]}, but {named}", f'Add --think-tags "{opening}" "{closing}".')
    else:
        advice = "This is no reasoning model, or its tags are several tokens long: name them with --think-tags OPEN CLOSE."
        yield Check("think tokens", "fails", f"no {THINK_TAGS[0]} and nothing like it", advice)


def think_pairs(vocabulary: dict[str, int]) -> list[tuple[str, str]]:
    """Opening and closing tokens whose name is that of thinking, <think> first."""
    pairs = []
    for token in vocabulary:
        closing = re.sub(r"^([<\[(|｜]+)", r"\1/", token)
        if OPENING.match(token) and closing in vocabulary:
            pairs.append((token, closing))
    return sorted(pairs, key=lambda pair: (pair != THINK_TAGS, pair))


def template(tokenizer: Any, tags: tuple[str, str] | None, shape: Shape) -> Iterator[Check]:
    """Renders a plain question, and says whether the prompt opens the thought."""
    if not tokenizer.chat_template:
        raw = tokenizer.convert_tokens_to_ids(RAW_USER) not in (None, tokenizer.unk_token_id)
        advice = "Add --prompt raw." if raw else "Copy the template of the model that it was made from."
        yield Check("chat template", "fails", "none", advice)
        return
    known = tags or (THINK_TAGS if THINK_TAGS in think_pairs(tokenizer.get_vocab()) else None)
    if known is None:
        yield Check("chat template", "warning", "there, but without think tokens it cannot be judged")
        return
    chat = Chat(tokenizer, "template", tags, shape.vocabulary)
    prompt = chat.prompt_ids(QUESTION)
    status = chat.thought(prompt, [], at_cap=False).status
    if status == "closed":
        advice = "The model will not think; look for a template that lets it."
        yield Check("chat template", "warning", "it closes the thought before the model writes anything", advice)
    elif "strftime_now" in str(tokenizer.chat_template):
        advice = "Answers of two days are not joined: finish a run on one day, or take the date out of the template."
        yield Check("chat template", "warning", "it may write today's date into the prompt", advice)
    else:
        opened = "opens the thought" if status != "absent" else "leaves it to the model to open the thought"
        yield Check("chat template", "ok", f"a short question takes {len(prompt)} tokens; the prompt {opened}")


def context(shape: Shape, defaults: Defaults) -> Iterator[Check]:
    needed = max(defaults.probe_tokens, defaults.steer_tokens, defaults.evaluate_tokens) + defaults.forced_tokens
    if shape.context is None:
        yield Check("context", "ok", "the config names no limit")
    elif shape.context > needed:
        yield Check("context", "ok", f"{shape.context:,} tokens; the default caps need {needed:,} and the question")
    else:
        words = f"{shape.context:,} tokens, fewer than the default caps ({needed:,}) and the question"
        yield Check("context", "warning", words, "Answers end where the context does; a lower --max-tokens makes it explicit.")


def sampling(config: dict[str, Any]) -> Iterator[Check]:
    names = ("temperature", "top_p", "top_k", "repetition_penalty")
    own = {name: config[name] for name in names if config.get(name) is not None}
    given = ", ".join(f"{name} {value:g}" for name, value in own.items())
    missing = [text for name, text in (("temperature", "temperature 0.6"), ("top_p", "top_p 0.95")) if name not in own]
    words = "; ".join(
        part for part in (given and f"the model suggests {given}", missing and f"ours: {', '.join(missing)}") if part
    )
    sensible = own.get("temperature", 1) >= 0 and 0 < own.get("top_p", 1) <= 1 and own.get("top_k", 0) >= 0
    if sensible and own.get("repetition_penalty", 1) > 0:
        yield Check("sampling", "ok", words)
    else:
        yield Check("sampling", "fails", words, "Give --temperature, --top-p, --top-k, --repetition-penalty that make sense.")
