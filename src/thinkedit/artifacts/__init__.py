"""What a model is on disk and what goes out of here: checkpoints as bytes, edits, adapters, control vectors, cards, proof."""
