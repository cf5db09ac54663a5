from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import ddarts
from ddarts.errors import GenotypeError, SettingsError
from ddarts.runtime.registry import Registry


def install(
    folder: Path, monkeypatch: pytest.MonkeyPatch, entries: str, source: str = "", group: str = "ddarts.tests"
) -> None:
    """Install a package "offers" with entry points of a group, as pip would leave it in a folder of sys.path."""
    info = folder / "offers-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: offers\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{group}]\n{entries}\n")
    (folder / "offers_module.py").write_text(source)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, "offers_module", raising=False)


def registry(**options: Any) -> Registry[Any]:
    return Registry("fruit", "ddarts.tests", {"apple": 1, "root": "math:sqrt"}, **options)


def test_values_are_found_by_name_and_references_when_they_are_used() -> None:
    fruits = registry()
    assert fruits.register("pear", 2) == 2
    assert (fruits.get("apple"), fruits.get("pear"), fruits.get("root")(9)) == (1, 2, 3)
    assert set(fruits.names()) == {"apple", "root", "pear"}
    assert "pear" in fruits
    assert "plum" not in fruits


def test_a_registered_value_can_be_removed() -> None:
    fruits = registry()
    fruits.register("pear", 2)
    fruits.unregister("pear")
    assert "pear" not in fruits


@pytest.mark.parametrize("name", ["apple", "root", "pear"])
def test_no_name_can_be_registered_twice(name: str) -> None:
    fruits = registry()
    fruits.register("pear", 2)
    with pytest.raises(SettingsError, match=f"fruit '{name}' is registered already; choose another name"):
        fruits.register(name, 3)


@pytest.mark.parametrize("name", ["", "a b", "1st", "a.b", "../a", "<b>"])
def test_a_name_is_a_plain_word(name: str) -> None:
    with pytest.raises(SettingsError, match="a name consists of letters, digits, - and _"):
        registry().register(name, 3)


def test_an_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(SettingsError, match=r"^unknown fruit 'aple'; did you mean 'apple'\?$"):
        registry().get("aple")
    with pytest.raises(GenotypeError, match=r"^a\.json: unknown fruit 'xyz'; known: apple, root$"):
        registry(error=GenotypeError).get("xyz", "a.json")


def test_what_is_stored_is_converted() -> None:
    fruits = registry(convert=lambda name, value: (name, value))
    assert fruits.register("pear", 2) == fruits.get("pear") == ("pear", 2)
    assert fruits.get("apple") == ("apple", 1)


def test_an_entry_point_is_imported_when_it_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, monkeypatch, "fig = offers_module:FIG", "FIG = 7")
    fruits = registry()
    assert "fig" in fruits.names()
    assert "offers_module" not in sys.modules
    assert fruits.get("fig") == 7


def test_an_entry_point_that_cannot_be_imported_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, monkeypatch, "fig = offers_module:FIG", "raise RuntimeError('no\\nlicence')")
    fruits = registry()
    assert fruits.get("apple") == 1
    reason = (
        r"^fruit 'fig' of package offers \(entry point offers_module:FIG\) cannot be loaded: no licence; fix or unin"
    )
    with pytest.raises(SettingsError, match=reason):
        fruits.get("fig")


def test_an_entry_point_cannot_replace_a_built_in_value(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, monkeypatch, "apple = offers_module:FIG", "FIG = 7")
    fruits = registry()
    assert fruits.get("apple") == 1
    with pytest.raises(SettingsError, match=r"fruit 'apple' of package offers .* is registered already; rename that"):
        fruits.names()


def test_registries_need_neither_torch_nor_numpy() -> None:
    heavy = {"torch", "numpy", "importlib.metadata"}
    code = f"import sys, ddarts.runtime.registry; print(sorted({heavy} & set(sys.modules)))"
    source = {"PYTHONPATH": str(Path(ddarts.__file__).parents[1])}  # without the site packages nothing else leads there
    done = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True, env=os.environ | source)
    assert done.stdout.strip() == "[]", done.stderr
