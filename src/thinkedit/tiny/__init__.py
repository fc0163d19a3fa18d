"""The embedded reasoning model: its task, its tokenizer, its training and its weights (see docs/tiny-model.md)."""

from pathlib import Path

MODEL_DIR = Path(__file__).parent / "model"
