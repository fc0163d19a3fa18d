"""What will work with a model, found out before a run: its files, how it is asked, room for it, and a proof by trying.

`examine.py` goes through all of it; `weights.py`, `asking.py` and `room.py` look, `proof.py` tries.
"""
