"""Records that others made, as ours: the published project's files and lm-eval's samples.

`pieces.py` is what a file is read into, `thoughts.py` finds the thought in a text without token ids, `published.py`,
`harness.py` and `plain.py` read one family of files each, `recognise.py` says which a file is, `evidence.py` writes
directories that `thinkedit analyze` and `thinkedit regrade` read like runs.
"""
