"""One thread for all tests: tiny tensors are slower on many, and much slower on a busy machine."""

from __future__ import annotations

import os
import sys

import pytest
from hypothesis import settings

settings.register_profile("house", derandomize=True, deadline=None)  # a red run must be red again when it is repeated
settings.load_profile("house")

os.environ["DDARTS_CACHE"] = "off"  # tests of the cache have one of their own
os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported, and inherited by subprocesses


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """A test that launched an engine may have left more threads behind."""
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
