r"""Grading: the final answer out of a text, and whether it equals the gold one.

>>> with Grader() as grader:
...     grader.grade([(r"She has \boxed{\$18}.", "18", "number", ())])
[Verdict(answer='\\$18', correct=True, reason='correct')]
"""

from thinkedit.grading.answers import final_answer
from thinkedit.grading.grader import Grader, Item, Verdict

__all__ = ["Grader", "Item", "Verdict", "final_answer"]
