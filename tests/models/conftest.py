from __future__ import annotations

import pytest
import torch


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """Tiny tensors are slower on many threads than on one, and much slower on a busy machine."""
    torch.set_num_threads(1)
