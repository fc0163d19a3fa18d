"""Random checkpoints of several architectures with a byte-level tokenizer and DeepSeek's kind of template."""

from pathlib import Path

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

END = "<｜end▁of▁sentence｜>"
OPENED_TEMPLATE = (
    "{% for message in messages %}{% if message['role'] == 'user' %}<｜User｜>{{ message['content'] }}"
    "{% else %}<｜Assistant｜>{{ message['content'].split('</think>')[-1] }}<｜end▁of▁sentence｜>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<｜Assistant｜><think>\n{% endif %}"
)


def byte_tokenizer(think: bool = True, template: str | None = OPENED_TEMPLATE) -> PreTrainedTokenizerFast:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({c: i for i, c in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END, pad_token=END)
    fast.add_special_tokens({"additional_special_tokens": ["<｜User｜>", "<｜Assistant｜>"]})
    if think:
        fast.add_tokens([AddedToken("<think>", special=False), AddedToken("</think>", special=False)])
    fast.chat_template = template
    return fast


SIZES = {
    "vocab_size": 272,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,  # not hidden / heads
    "max_position_embeddings": 16384,
    "initializer_range": 0.15,
    "eos_token_id": 256,
    "bos_token_id": None,
    "pad_token_id": 256,
}
OWN_SIZES = {"qwen2": {"head_dim": 16}}  # hidden / heads, as its configurations have it
ARCHITECTURES = {
    "llama": lambda sizes: LlamaForCausalLM(LlamaConfig(**sizes)),
    "llama-biases": lambda sizes: LlamaForCausalLM(LlamaConfig(**sizes, attention_bias=True, mlp_bias=True)),
    "qwen2": lambda sizes: Qwen2ForCausalLM(Qwen2Config(**sizes, tie_word_embeddings=True)),
    "qwen3": lambda sizes: Qwen3ForCausalLM(Qwen3Config(**sizes, tie_word_embeddings=True)),
    "mistral": lambda sizes: MistralForCausalLM(MistralConfig(**sizes, sliding_window=None)),
}


def make_checkpoint(
    directory: Path, architecture: str = "qwen2", seed: int = 0, dtype=torch.float32, sizes: dict | None = None, **tokenizer
) -> Path:
    torch.manual_seed(seed)
    model = ARCHITECTURES[architecture](SIZES | OWN_SIZES.get(architecture, {}) | (sizes or {}))
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter, std=0.1)
    model.generation_config.eos_token_id = SIZES["eos_token_id"]
    model.to(dtype).save_pretrained(directory)
    byte_tokenizer(**tokenizer).save_pretrained(directory)
    return directory
