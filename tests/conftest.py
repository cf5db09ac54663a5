"""What holds for all tests: one thread, no cache of decoded images, and no export at the end of each training.

One thread, because tiny tensors are slower on many, and much slower on a busy machine. Folders are made in memory if it
has room: a run waits for the disk 200 times.
"""

from __future__ import annotations

import gc
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from hypothesis import settings

settings.register_profile("house", derandomize=True, deadline=None)  # a red run must be red again when it is repeated
settings.load_profile("house")

os.environ["DDARTS_CACHE"] = "off"  # tests of the cache have one of their own
os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported, and inherited by subprocesses
if "TMPDIR" not in os.environ and os.access("/dev/shm", os.W_OK) and shutil.disk_usage("/dev/shm").free > 2**32:
    tempfile.tempdir = os.environ["TMPDIR"] = "/dev/shm"


def pytest_collection_finish() -> None:
    """Leave what was imported out of later collections of garbage, which tests and PyTorch ask for."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """A test that launched an engine may have left more threads behind."""
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def _brief_latency() -> Iterator[pytest.MonkeyPatch]:
    """Let a training end as one does where onnxruntime is not installed, and time its network for a moment.

    An export takes a hundred times as long as the steps of a training in a test.
    """
    with pytest.MonkeyPatch.context() as patch:
        shorten_latency(patch)
        yield patch


@pytest.fixture
def exported_latency(_brief_latency: pytest.MonkeyPatch) -> Iterator[None]:
    """Measure the latency as users see it: of the exported network too."""
    _brief_latency.undo()
    yield
    shorten_latency(_brief_latency)


def shorten_latency(patch: pytest.MonkeyPatch) -> None:
    """Make the measurement of the latency short, for a process that trains."""
    from ddarts.cost import latency
    from ddarts.deploy import profiling
    from ddarts.deploy.extras import MissingPackageError

    def without_onnxruntime(*_: Any) -> None:
        raise MissingPackageError("onnxruntime is left out of the tests of trainings")

    patch.setattr(profiling, "onnx_latency", without_onnxruntime)
    patch.setattr(latency, "measure_latency", partial(latency.measure_latency, seconds=0.01))
