"""Engines run a model. All of them speak the protocol of `base.py`; nothing else knows which one is at work."""
