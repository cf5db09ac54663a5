from __future__ import annotations

import sys

import pytest

from ddarts.deploy.extras import MissingPackageError, installed, require


def test_a_missing_package_is_one_line_that_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingPackageError, match=r"^running needs onnxruntime, .*; pip install 'ddarts\[export\]'$"):
        require("onnxruntime", "export", "running")
    assert not installed("onnxruntime")


def test_a_package_that_is_there_is_given() -> None:
    assert require("json", "export", "x") is sys.modules["json"]
    assert installed("json")
    assert not installed("no_such_package")
