"""What a process of tests/processes.py has imported before it is forked, and the brief latency of tests/conftest.py."""

from __future__ import annotations

import matplotlib.figure  # noqa: F401
import pytest

import ddarts.data
import ddarts.pipeline
import ddarts.reporting.page
import ddarts.searching.loop
import ddarts.training.loop  # noqa: F401
from tests.conftest import shorten_latency

shorten_latency(pytest.MonkeyPatch())
