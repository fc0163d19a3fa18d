"""The word-level tokenizer of the embedded model, with a chat template that opens the thought as DeepSeek-R1's does."""

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from thinkedit.tiny.problems import GAINS, LOSSES, MAX_VALUE, NAMES, TOPICS

PAD, UNKNOWN, END, USER, ASSISTANT = "<pad>", "<unk>", "<|end|>", "<|user|>", "<|assistant|>"
WORDS = ("has", "more", "How", "many", "does", "have", "now", "check", "\\boxed{", "}", "+", "-", "=", ".", "?", "\n")
CHAT_TEMPLATE = (
    "{%- for message in messages -%}"
    "{%- if message.role == 'user' -%}<|user|>{{ message.content }}"
    "{%- else -%}<|assistant|>{{ message.content }}<|end|>{%- endif -%}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<|assistant|><think>\n' }}{%- endif -%}"
)


def build_tokenizer() -> PreTrainedTokenizerFast:
    numbers = [str(n) for n in range(MAX_VALUE + 1)]
    specials = [PAD, UNKNOWN, END, USER, ASSISTANT, "<think>", "</think>"]
    words = [*specials, *WORDS, *numbers, *NAMES, *GAINS, *LOSSES, *TOPICS]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r" +"), "removed"),
            pre_tokenizers.Split(Regex(r"\\boxed\{|\n|\d+|[A-Za-z]+|[^\w\s]"), "isolated"),
        ]
    )
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.WordPiece(prefix="##", cleanup=False),  # its clean-up goes through every token eleven times
            decoders.Fuse(),
            decoders.Replace(" .", "."),
            decoders.Replace(" ?", "?"),
            decoders.Replace(" \n ", "\n"),
            decoders.Replace("\\boxed{ ", "\\boxed{"),
            decoders.Replace(" }", "}"),
        ]
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        unk_token=UNKNOWN,
        eos_token=END,
        additional_special_tokens=[USER, ASSISTANT],
        model_max_length=512,
    )
    fast.add_tokens([AddedToken("<think>", special=False), AddedToken("</think>", special=False)])
    fast.chat_template = CHAT_TEMPLATE
    return fast
