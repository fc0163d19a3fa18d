"""Thoughts are found on token ids, wherever the opening tag stands, with one of four ends."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from random_models import byte_tokenizer

from thinkedit.chat import Chat, find_thought
from thinkedit.errors import ThinkEditError, UsageError

OPEN, CLOSE = 1, 2


def find(prompt, tokens, at_cap=False, opening=(OPEN,), closing=(CLOSE,)):
    return find_thought(prompt, tokens, opening, closing, at_cap)


@pytest.mark.parametrize(
    ("prompt", "tokens", "at_cap", "status", "count", "window"),
    [
        ([9, OPEN], [5, 6, CLOSE, 7], False, "closed", 4, slice(1, 4)),  # opened by the template
        ([9, 8], [OPEN, 5, CLOSE, 7], False, "closed", 3, slice(1, 4)),  # opened by the model
        ([9], [7, OPEN, 5, CLOSE], False, "closed", 3, slice(1, 4)),  # something before it
        ([9, OPEN], [5, 6], True, "truncated", 3, slice(1, 3)),
        ([9, OPEN], [5, 6], False, "unclosed", 3, slice(1, 3)),
        ([9], [5, 6, CLOSE], False, "absent", None, slice(0, 0)),  # closed but never opened
        ([9, OPEN, CLOSE], [5, 6], False, "closed", 2, slice(2, 2)),  # a template that forbids thinking
        ([9, OPEN], [OPEN, 5, CLOSE, CLOSE], False, "closed", 4, slice(1, 4)),  # the first of each counts
    ],
)
def test_status_length_and_window(prompt, tokens, at_cap, status, count, window):
    thought = find(prompt, tokens, at_cap)
    assert (thought.status, thought.tokens) == (status, count)
    if status != "absent":
        assert thought.window(len(prompt)) == window


def test_tags_of_several_tokens():
    thought = find([9, 3], [3, 4, 5, 3, 6, 6, 7, 1], opening=(3, 4), closing=(6, 7))
    assert (thought.status, thought.tokens, thought.start, thought.end) == ("closed", 7, 0, 7)


@given(st.lists(st.integers(0, 5)), st.lists(st.integers(0, 5)), st.booleans())
def test_a_window_predicts_the_sampled_thought(prompt, tokens, at_cap):
    thought = find(prompt, tokens, at_cap)
    ids = prompt + tokens
    if thought.status == "absent":
        assert OPEN not in ids
        return
    window = thought.window(len(prompt))
    predicted = ids[window.start + 1 : window.stop + 1]
    assert predicted == tokens[thought.start : thought.end]
    if thought.status == "closed":
        assert thought.tokens == ids.index(CLOSE, ids.index(OPEN)) - ids.index(OPEN) + 1


def test_the_template_opens_the_thought_and_raw_prompts_do_not():
    chat = Chat(byte_tokenizer())
    assert chat.decode(chat.prompt_ids("Hi")) == "<｜User｜>Hi<｜Assistant｜><think>\n"
    raw = Chat(byte_tokenizer(), "raw")
    assert raw.decode(raw.prompt_ids("Hi")) == "<｜User｜>Hi<｜Assistant｜>"


def test_other_tags_are_used_where_named():
    chat = Chat(byte_tokenizer(think=False), think_tags=("<reason>", "</reason>"))
    assert chat.thought(chat.encode("<reason>\n"), chat.encode("x</reason>y"), False).status == "closed"


@pytest.mark.parametrize(
    ("options", "style", "error", "words"),
    [
        ({"think": False}, "template", ThinkEditError, "no token <think>"),
        ({"template": None}, "template", ThinkEditError, "no chat template"),
        ({"template": "{{ raise_exception('no') }}"}, "template", ThinkEditError, "template fails"),
    ],
)
def test_tokenizers_that_cannot_ask_are_refused(options, style, error, words):
    with pytest.raises(error, match=words):
        Chat(byte_tokenizer(**options), style).prompt_ids("Hi")


def test_raw_prompts_need_deepseeks_markers():
    from thinkedit.tiny.tokenizer import build_tokenizer

    with pytest.raises(UsageError, match="does not have"):
        Chat(build_tokenizer(), "raw")
    with pytest.raises(ThinkEditError, match="empty"):
        Chat(byte_tokenizer()).prompt_ids("  ")
