"""A control vector, applied by llama.cpp itself, moves the logits as steering the MLPs of layers 1 to L-1 does."""

import ctypes

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM

llama_cpp = pytest.importorskip("llama_cpp", reason="llama.cpp builds for a quarter of an hour: make test-gguf")
gguf = pytest.importorskip("gguf")

PROMPT = [72, 101, 108, 108, 111, 32, 119, 111, 114, 108, 100]
ALPHA = 0.4
NAMES = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def as_gguf(checkpoint, path):
    """The random Qwen2 model in llama.cpp's own format, float32, without a tokenizer: it is asked by token ids."""
    config, tensors = AutoConfig.from_pretrained(checkpoint), load_file(checkpoint / "model.safetensors")
    writer = gguf.GGUFWriter(path, "qwen2")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(512)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("none")
    writer.add_tensor("token_embd.weight", tensors["model.embed_tokens.weight"].numpy())
    writer.add_tensor("output_norm.weight", tensors["model.norm.weight"].numpy())
    for layer in range(config.num_hidden_layers):
        for ours, theirs in NAMES.items():
            for kind in ("weight", "bias"):
                name = f"model.layers.{layer}.{ours}.{kind}"
                if name in tensors:
                    writer.add_tensor(f"blk.{layer}.{theirs}.{kind}", tensors[name].numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


class LlamaCpp:
    """The model in llama.cpp, with a control vector or none."""

    def __init__(self, path):
        llama_cpp.llama_backend_init()
        parameters = llama_cpp.llama_model_default_params()
        self.model = llama_cpp.llama_model_load_from_file(str(path).encode(), parameters)
        assert self.model
        self.vocabulary = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(self.model))

    def logits(self, vectors=None):
        """Logits behind the last token of PROMPT; `vectors` float32 [layers - 1, hidden] in llama.cpp's layout."""
        parameters = llama_cpp.llama_context_default_params()
        parameters.n_ctx, parameters.n_batch = 64, 64
        parameters.type_k = parameters.type_v = llama_cpp.GGML_TYPE_F32  # its cache is float16 by default,
        parameters.flash_attn_type = llama_cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED  # and so is this attention
        context = llama_cpp.llama_init_from_model(self.model, parameters)
        assert context
        if vectors is not None:
            data = np.ascontiguousarray(vectors, dtype=np.float32)
            pointer = data.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
            apply = getattr(llama_cpp, "llama_set_adapter_cvec", None) or llama_cpp.llama_apply_adapter_cvec
            assert apply(context, pointer, data.size, data.shape[1], 1, len(data)) == 0
        tokens = (llama_cpp.llama_token * len(PROMPT))(*PROMPT)
        assert llama_cpp.llama_decode(context, llama_cpp.llama_batch_get_one(tokens, len(PROMPT))) == 0
        found = np.ctypeslib.as_array(llama_cpp.llama_get_logits_ith(context, -1), (self.vocabulary,)).copy()
        llama_cpp.llama_free(context)
        return found


def control_vector(path, layers, hidden):
    """A control vector file in the layout that llama.cpp keeps: direction.N, N from 1, goes to row N - 1."""
    data = np.zeros((layers - 1, hidden), dtype=np.float32)
    for tensor in gguf.GGUFReader(path).tensors:
        data[int(tensor.name.removeprefix("direction.")) - 1] = tensor.data
    return data


def steered(model, vectors, layers):
    """Logits with alpha times the direction added to what the MLPs of `layers` write."""
    hooks = [
        model.model.layers[layer].mlp.register_forward_hook(lambda _m, _a, out, v=vectors[layer]: out + ALPHA * v)
        for layer in layers
    ]
    with torch.no_grad():
        logits = model(torch.tensor([PROMPT])).logits[0, -1].numpy()
    for hook in hooks:
        hook.remove()
    return logits


def test_llama_cpp_steers_with_the_exported_file_as_mlp_steering_does(checkpoint, thinkedit, tmp_path):
    base = checkpoint("qwen2")
    as_gguf(base, tmp_path / "model.gguf")
    llama = LlamaCpp(tmp_path / "model.gguf")
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()
    layers, hidden = model.config.num_hidden_layers, model.config.hidden_size
    torch.manual_seed(1)
    vectors = torch.randn(layers, hidden)
    save_file({"direction": vectors}, tmp_path / "mlp.safetensors", {"control": "mlp"})
    made = thinkedit("export", "--gguf", "--model", base, "--out", tmp_path / "run", "--direction",
                     tmp_path / "mlp.safetensors", "--to", tmp_path / "direction.gguf")  # fmt: skip
    assert made.code == 0, made.error

    plain = llama.logits()
    np.testing.assert_allclose(plain, steered(model, vectors, []), atol=2e-4)  # the two programs agree on the base
    moved = llama.logits(ALPHA * control_vector(tmp_path / "direction.gguf", layers, hidden))
    wanted = steered(model, vectors, range(1, layers))
    np.testing.assert_allclose(moved, wanted, atol=2e-4)
    assert np.abs(wanted - plain).max() > 0.1
    assert np.abs(moved - steered(model, vectors, range(layers))).max() > 0.1  # layer 0 is not among them
