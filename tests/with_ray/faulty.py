"""Engines with faults, for workers to load."""

import os
import signal
import sys

from thinkedit.engines.transformers import TransformersEngine
from thinkedit.models import find_model

POISON = (7, 7, 7)


class Poisonable(TransformersEngine):
    """Dies of one prompt."""

    def generate(self, requests, sampling):
        if any(request.prompt_ids == POISON for request in requests):
            print("about to swallow the poison", file=sys.stderr, flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        return super().generate(requests, sampling)


class Broken(TransformersEngine):
    def generate(self, requests, sampling):
        raise ZeroDivisionError("a fault of the engine")


def poisonable():
    return Poisonable(find_model("tiny"), [2], device="cpu", batch_size=8)


def broken():
    return Broken(find_model("tiny"), [2], device="cpu", batch_size=8)


def dying():
    os.kill(os.getpid(), signal.SIGKILL)
