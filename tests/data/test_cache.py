from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import pytest
import torch

import ddarts
from ddarts.cli.main import main
from ddarts.data import ImageData, Images, load_data
from ddarts.data import cache as cache_module
from ddarts.data.cache import cache_entries

Maker = Callable[..., Path]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DDARTS_CACHE", str(tmp_path / "kept"))
    monkeypatch.setattr(cache_module, "SMALLEST", 10)
    return tmp_path / "kept"


def same(a: ImageData, b: ImageData) -> bool:
    for field in fields(ImageData):
        x, y = getattr(a, field.name), getattr(b, field.name)
        if isinstance(x, Images):
            if not (torch.equal(x.pixels[:], y.pixels[:]) and torch.equal(x.labels, y.labels) and x.names == y.names):
                return False
        elif x != y:
            return False
    return True


@pytest.fixture
def no_decoding(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    return lambda: monkeypatch.setattr("ddarts.data.encoded.decode", None)


def test_the_second_use_decodes_nothing_and_is_the_same(
    make_folder: Maker, no_decoding: Callable[[], None], capsys: pytest.CaptureFixture[str]
) -> None:
    root = make_folder({"cat": 12, "dog": 13})
    (root / "cat" / "bad.png").write_bytes(b"no image")
    first = load_data(root, resolution=8, limit=15)
    assert "decoded images are kept in" in capsys.readouterr().err
    no_decoding()
    again = load_data(root, resolution=8, limit=15)
    assert same(first, again)
    assert again.skipped
    assert again.flip != load_data(root, resolution=8, limit=15, flip=not again.flip).flip
    assert capsys.readouterr().err == ""
    (entry,) = cache_entries()
    assert (entry.name, entry.images) == ("pets", len(first.train) + len(first.test or ()))


@pytest.mark.parametrize("change", ["content", "time", "new", "gone", "class", "settings"])
def test_whatever_changes_is_read_again(make_folder: Maker, change: str) -> None:
    root = make_folder({"cat": 12, "dog": 13})
    load_data(root)
    target = root / "cat" / "000.png"
    if change == "content":
        before = target.stat()
        shutil.copy(root / "dog" / "000.png", target)
        target.write_bytes(target.read_bytes()[: before.st_size].ljust(before.st_size, b"x"))
        os.utime(target, ns=(before.st_atime_ns, before.st_mtime_ns))
    elif change == "time":
        os.utime(target)
    elif change == "new":
        shutil.copy(target, root / "cat" / "new.png")
    elif change == "gone":
        target.unlink()
    elif change == "class":
        (root / "dog").rename(root / "emu")
    load_data(root, strict=change == "settings")
    assert len(cache_entries()) == 2


@pytest.mark.parametrize("damage", ["cut", "header", "signed", "json", "labels", "missing"])
def test_a_damaged_entry_is_not_used(make_folder: Maker, damage: str) -> None:
    root = make_folder({"cat": 12, "dog": 13})
    first = load_data(root)
    entry = cache_entries()[0].path
    if damage == "cut":
        os.truncate(entry / "train.npy", 300)
    elif damage in ("header", "signed"):
        old, new = (b"{", b"(") if damage == "header" else (b"|u1", b"|i1")
        (entry / "train.npy").write_bytes((entry / "train.npy").read_bytes().replace(old, new, 1))
    elif damage == "json":
        (entry / "data.json").write_text("{")
    elif damage == "labels":
        facts = json.loads((entry / "data.json").read_text())
        (entry / "data.json").write_text(json.dumps(facts | {"classes": ["cat"]}))
    else:
        (entry / "test-labels.npy").unlink()
    assert same(load_data(root), first)


def test_small_or_streamed_data_and_a_full_disk_keep_nothing(
    make_folder: Maker, monkeypatch: pytest.MonkeyPatch, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = make_folder({"cat": 12, "dog": 13})
    load_data(root, stream="yes")
    assert not folder.exists()
    folder.write_text("a file in its place")
    assert len(load_data(root).train) == 21
    assert "decoded images are not kept in" in capsys.readouterr().err
    folder.unlink()
    monkeypatch.setattr(cache_module, "SMALLEST", 26)
    load_data(root)
    assert not folder.exists()


def test_the_cache_stays_below_its_limit(make_folder: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    root = make_folder({"cat": 12, "dog": 13})
    load_data(root, resolution=8)
    monkeypatch.setattr(cache_module, "LIMIT", 2 * cache_entries()[0].bytes + 500)
    os.utime(cache_entries()[0].path, (1, 1))
    first = cache_entries()[0].path
    load_data(root, resolution=6)
    load_data(root, resolution=7)
    assert first not in [entry.path for entry in cache_entries()]


def test_the_command_lists_and_clears(make_folder: Maker, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    load_data(make_folder({"cat": 12, "dog": 13}))
    (folder / ".new-left-by-a-kill").mkdir()
    (folder / "not ours").mkdir()
    assert main(["cache"]) == 0
    assert "25 images, 0.0 MiB" in capsys.readouterr().out
    assert ddarts.cache(clear=True).entries == ()
    assert [path.name for path in folder.iterdir()] == ["not ours"]
