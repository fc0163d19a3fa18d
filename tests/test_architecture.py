"""Support is decided by what the numbers do, not by a name."""

import pytest
import torch
from transformers import (
    CohereConfig,
    CohereForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    GraniteConfig,
    GraniteForCausalLM,
    Olmo2Config,
    Olmo2ForCausalLM,
)

from thinkedit.architecture import Decoder
from thinkedit.errors import ThinkEditError

SIZES = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 16,
    "pad_token_id": 0,
}


@pytest.mark.parametrize(
    "make",
    [
        lambda: Gemma2ForCausalLM(Gemma2Config(**SIZES)),
        lambda: Olmo2ForCausalLM(Olmo2Config(**SIZES)),
        lambda: GraniteForCausalLM(GraniteConfig(**SIZES, residual_multiplier=0.5)),
        lambda: CohereForCausalLM(CohereConfig(**SIZES)),
    ],
    ids=["norm behind o_proj", "norm behind o_proj, no norm before", "residual multiplier", "parallel blocks"],
)
def test_decoders_that_the_method_does_not_fit_are_refused(make):
    torch.manual_seed(0)
    with pytest.raises(ThinkEditError, match=r"cannot be steered|built differently"):
        Decoder(make().eval())
