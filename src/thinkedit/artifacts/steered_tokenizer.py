"""The tokenizer of a checkpoint whose model type changes: `AutoTokenizer` must go on giving the same ids.

`AutoTokenizer` looks at the model type: for some types it builds that type's own tokenizer around the vocabulary,
whatever tokenizer.json says. So what it gives for the base under the new type is tried out, and written down where it
differs.
"""

import shutil
import tempfile
from pathlib import Path
from typing import Any

from thinkedit.config import read_config
from thinkedit.errors import ThinkEditError
from thinkedit.files import as_json, read_object
from thinkedit.loading import load_tokenizer
from thinkedit.models import ModelSource

CONFIG_FILE, FILE = "tokenizer_config.json", "tokenizer.json"
PROBES = (
    "What is 12345 + 6,789? Let's think step by step.\n\n\\boxed{19134}",
    "  leading and trailing spaces  \t tab\r\nnew line\n\n\n",
    "Ünïcödé naïve café — “quotes” … 你好,世界 こんにちは Привет 🙂👍🏽",
    "def f(x):\n    return x ** 2  # it's 1e-5 I'm you'll THEY'RE",
    "<think>\nhm</think>\n\n<｜User｜>a<｜Assistant｜>b<|im_start|>user\nc<|im_end|>[INST]d[/INST]<s></s>",
    "".join(map(chr, range(32, 127))),
    "e\u0301 \u00e9 \ufb01 \u2460 \u3000 \u200b x",
)


def tokenizer_files(source: ModelSource, model_type: str = "llama") -> dict[str, bytes]:
    """Files that must stand in place of the base's for the same ids under `model_type`; none where they are right as they are.

    Raises ThinkEditError where no form of the tokenizer gives the base's ids.
    """
    base = load_tokenizer(source)
    settings_file = source.path / CONFIG_FILE
    settings = read_object(settings_file) if settings_file.is_file() else {}
    plain = {**settings, "tokenizer_class": "PreTrainedTokenizerFast"}
    plain.pop("auto_map", None)
    candidates: list[dict[str, bytes]] = [{}, {CONFIG_FILE: as_json(plain)}]
    backend = getattr(base, "backend_tokenizer", None)
    if backend is not None:
        candidates.append({CONFIG_FILE: as_json(plain), FILE: backend.to_str(pretty=True).encode()})
    for files in candidates:
        if same_ids(base, _loaded(source, files, model_type)):
            return files
    raise ThinkEditError(
        f"The tokenizer of {source.name} gives other ids once the checkpoint is of the type {model_type}, in every form tried; "
        "a steered checkpoint of it would be silently wrong.\nSteer it while it runs: thinkedit steer."
    )


def same_ids(one: Any, other: Any) -> bool:
    """Whether two tokenizers are the same: in every rule, or at least on the probes and in what they render and end with."""
    if other is None or one.chat_template != other.chat_template or one.eos_token_id != other.eos_token_id:
        return False
    return all(
        one.encode(text, add_special_tokens=special) == other.encode(text, add_special_tokens=special)
        and one.decode(one.encode(text)) == other.decode(one.encode(text))
        for text in PROBES
        for special in (True, False)
    )


def _loaded(source: ModelSource, files: dict[str, bytes], model_type: str) -> Any:
    """The tokenizer that a checkpoint of `model_type` with these files has; None where it cannot be loaded."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        for path in source.path.iterdir():
            if path.is_file() and path.suffix in {".json", ".jinja", ".model", ".txt"} and path.name not in files:
                shutil.copyfile(path, directory / path.name)
        for file, content in files.items():
            (directory / file).write_bytes(content)
        config = read_config(source.path)
        kind = {"model_type": model_type, "architectures": ["LlamaForCausalLM"]}
        (directory / "config.json").write_bytes(as_json({**config, **kind}))
        try:
            return load_tokenizer(ModelSource(source.name, directory))
        except ThinkEditError:
            return None
