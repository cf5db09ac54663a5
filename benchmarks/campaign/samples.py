"""Small whole files of every kind that ddarts reads, and how each kind is read."""

from __future__ import annotations

import json
import os
import pickle
import pkgutil
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.campaign.attempts import Bench

Make = Callable[[Path, Bench], object]
Read = Callable[[Path], object]


@dataclass(frozen=True)
class Reader:
    """A kind of file.

    Attributes:
        make: writes whole files into a folder, some of them from whole runs.
        files: those that are damaged, in turns.
        read: reads the folder; calls the function of ddarts that a command calls.
        must_notice: whether a result from a damaged file is a failure.
        text: whether it is text, of which a fuzzer makes millions.
        slow: how many times fewer inputs it gets, where one takes a tenth of a second.
    """

    make: Make
    files: tuple[str, ...]
    read: Read
    must_notice: bool = False
    text: bool = False
    slow: int = 1


def _space(space: str = "darts") -> Any:
    from ddarts.space.cell_space import build_space
    from ddarts.space.mobile import MOBILE

    return MOBILE if space == "mobile" else build_space(cells=3, nodes=2)


def _genotype(folder: Path, bench: Bench, space: str = "darts") -> Any:
    from ddarts.genotype.random import random_genotype

    genotype = random_genotype(_space(space), seed=0)
    genotype.save(folder / "genotype.json")
    return genotype


def _gates(folder: Path, bench: Bench, space: str = "darts") -> None:
    from ddarts.genotype.gates import discrete_gates

    discrete_gates(_space(space), _genotype(folder, bench, space)).save(folder / "gates.json")


def _reference(folder: Path, bench: Bench, name: str = "run", part: str = "") -> None:
    shutil.copytree(bench.reference(name) / part, folder, dirs_exist_ok=True)


def _authors(folder: Path, bench: Bench) -> None:
    from ddarts.genotype.interop.writers import to_reference_text

    text = to_reference_text(_genotype(folder, bench))
    (folder / "authors.py").write_text(f"A = {text}\n")
    two = "[('sep_conv_3x3', 1), ('skip_connect', 0), ('max_pool_3x3', 0), ('dil_conv_5x5', 2)]"
    text = f"from collections import namedtuple\nB = Genotype(normal={two}, normal_concat=range(2, 4), reduce={two},"
    (folder / "darts.py").write_text(f"{text} reduce_concat=[2, 3])\n")


def _idx(folder: Path, bench: Bench, gz: bool = False) -> None:
    import gzip

    import numpy as np

    for prefix, count in (("train", 12), ("t10k", 6)):
        pixels = np.random.default_rng(0).integers(0, 256, (count, 6, 6), dtype=np.uint8)
        for array, kind in ((pixels, "images-idx3"), (np.arange(count, dtype=np.uint8) % 2, "labels-idx1")):
            data = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.tobytes()
            name = f"{prefix}-{kind}-ubyte" + ".gz" * gz
            (folder / name).write_bytes(gzip.compress(data) if gz else data)


def _cifar(folder: Path, bench: Bench, binary: bool = False, protocol: int = 2) -> None:
    import numpy as np

    names = [f"class{n}" for n in range(10)]
    for number, name in enumerate([*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"]):
        pixels = np.random.default_rng(number).integers(0, 256, (10, 3072), dtype=np.uint8)
        labels = list(range(10))
        if binary:
            rows = np.column_stack([np.array(labels, np.uint8), pixels])
            (folder / f"{name}.bin").write_bytes(rows.tobytes())
        else:
            (folder / name).write_bytes(pickle.dumps({"data": pixels, "labels": labels}, protocol=protocol))
    (folder / "batches.meta.txt").write_text("\n".join(names) + "\n")
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": names}, protocol=protocol))


def _images(folder: Path, bench: Bench, ending: str = "png", count: int = 4) -> None:
    import numpy as np
    from PIL import Image

    for label in "ab":
        (folder / label).mkdir(parents=True)
        for number in range(count):
            pixels = np.random.default_rng(number).integers(0, 256, (9, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / label / f"{number}.{ending}")


def _parquet(folder: Path, bench: Bench) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    _images(folder / "images", bench)
    data = [path.read_bytes() for path in sorted((folder / "images").rglob("*.png"))]
    shutil.rmtree(folder / "images")
    rows = pa.array([{"bytes": item, "path": "x.png"} for item in data])
    table = pa.table({"image": rows, "label": pa.array([0, 1] * (len(data) // 2))})
    facts = {"info": {"features": {"label": {"names": ["a", "b"], "_type": "ClassLabel"}}}}
    pq.write_table(table.replace_schema_metadata({"huggingface": json.dumps(facts)}), folder / "train.parquet")


def _labels(folder: Path, bench: Bench) -> None:
    _images(folder, bench)
    rows = [f"{label}/{n}.png" for label in "ab" for n in range(4)]
    for name, head, cells in (
        ("one.csv", "file,label,split", ["cat,train", "dog,train", "cat,val", "dog,test"] * 2),
        ("many.csv", "file;tags", ["red|blue", "-", "red", "blue|green"] * 2),
        ("numbers.csv", "file,width,height", ["1.5,2", "-3e2,4", "0,7", "9,1"] * 2),
    ):
        lines = [f"{file}{head[4]}{cell}" for file, cell in zip(rows, cells, strict=True)]
        (folder / name).write_text("\n".join([head, *lines]) + "\n")


def _read_labels(folder: Path) -> None:
    from ddarts.data import load_data

    for name in ("one.csv", "many.csv", "numbers.csv"):
        load_data(str(folder), labels=str(folder / name), quiet=True)


def _device(folder: Path, bench: Bench) -> None:
    from ddarts.cost.device import Device

    rows = [({"conv 3x3": float(n), "pool": 2.0 * n, "network": 1.0}, 0.5 + n) for n in range(1, 6)]
    Device.of("a device", ["sep_conv_3x3", "skip_connect"], rows).save(folder / "device.json")


def _read_device(folder: Path) -> None:
    from ddarts.cost.device import Device

    assert Device.load(folder / "device.json").predict_features({"conv 3x3": 2.0}) >= 0


def _table(folder: Path, bench: Bench) -> None:
    genotype = _genotype(folder, bench).to_dict()
    (folder / "table.jsonl").write_text(f"{json.dumps({'genotype': genotype, 'accuracies': [0.5, 0.25]})}\n" * 3)
    quoted = json.dumps(genotype).replace('"', '""')
    (folder / "table.csv").write_text(f'genotype,test\n"{quoted}",0.5\n"{quoted}",0.25\n')


def _read_table(folder: Path) -> None:
    from ddarts.experiments.judges import FileTable

    for name in ("table.jsonl", "table.csv"):
        FileTable(folder / name)


def _trial(folder: Path, bench: Bench) -> None:
    from ddarts.experiments.trials import Trial

    Trial("d-darts", "digits", 3, 0.5, 0.4, search_s=1.5, train_steps=20).save(folder / "trial.json")


def _weights(folder: Path, bench: Bench) -> None:
    from ddarts.genotype.operation_weights import OperationWeights

    OperationWeights.published().save(folder / "operation_weights.json")


def _checkpoint(folder: Path, bench: Bench) -> None:
    (folder / "checkpoints").mkdir()
    shutil.copy(bench.reference("train") / "checkpoints" / "train.pt", folder / "checkpoints")
    shutil.copy(bench.reference("train") / "settings.yaml", folder)


def _read_checkpoints(folder: Path) -> None:
    from ddarts.runs.folder import RunFolder

    RunFolder.open(folder).load_checkpoint("train")


def _foreign(folder: Path, bench: Bench) -> None:
    import torch
    from safetensors.torch import save_file

    state = {"module.stem.weight": torch.randn(2, 3), "module.classifier.bias": torch.zeros(4, dtype=torch.float64)}
    torch.save({"state_dict": state, "epoch": 3}, folder / "a.pth.tar")
    torch.save(state, folder / "old.pt", _use_new_zipfile_serialization=False)
    save_file(state, folder / "b.safetensors")


def _read_foreign(folder: Path) -> None:
    from ddarts.hub.foreign import read_state

    for name in ("a.pth.tar", "old.pt", "b.safetensors"):
        read_state(folder / name)


def _run(folder: Path) -> Any:
    from ddarts.runs.folder import RunFolder

    return RunFolder.open(folder)


def _read_image(folder: Path, ending: str) -> None:
    from ddarts.data.decode import read_image

    for name in ("a/0", "b/1"):
        read_image(folder / f"{name}.{ending}", channels=3, height=8, width=8)


def _read_preparation(folder: Path) -> None:
    from ddarts.nn.preprocessing import Preprocessing

    Preprocessing.from_json((folder / "preprocessing.json").read_text("utf-8", "replace"), "preprocessing.json")


def _read_onnx(folder: Path) -> None:
    import torch

    from ddarts.deploy.onnxfile import load_onnx

    model = load_onnx(folder / "model.onnx", threads=1)
    assert model.prepared is not None
    model.logits(torch.zeros(1, len(model.prepared.mean), *model.prepared.resolution))


def _cache(folder: Path, bench: Bench) -> None:
    (folder / "data").mkdir()
    _idx(folder / "data", bench)
    _read_cache(folder, write=True)


def _read_cache(folder: Path, write: bool = False) -> None:
    from ddarts.data import cache, load_data

    os.environ["DDARTS_CACHE"], cache.SMALLEST = str(folder / "kept"), 10
    try:
        if write:
            load_data(str(folder / "data"), quiet=True)
            (path,) = (folder / "kept").iterdir()
            path.rename(folder / "kept" / "entry")
        elif (found := cache.read_entry("entry")) is not None:
            assert found.train.pixels[:].float().sum() >= 0
        cache.cache_entries()
    finally:
        os.environ["DDARTS_CACHE"] = "off"


def _read_report(folder: Path) -> None:
    from ddarts.reporting.page import write_report

    write_report(folder)


def _read_many(folder: Path) -> None:
    from ddarts.api.report import report

    report(folder)


def _watch(folder: Path) -> None:
    from ddarts.api.watch import watch

    watch(folder, once=True).table()


def _resume(folder: Path) -> None:
    """Read all that --resume reads before it computes."""
    from ddarts.pipeline import Opening

    Opening.of("run", None, None, None, folder, False, {})


def _config(folder: Path) -> None:
    from ddarts.config.loading import load_settings

    load_settings("run", config=folder / "settings.yaml")


def _settings(folder: Path, bench: Bench) -> None:
    text = "data: digits\nseed: 3\nsearch:\n  lr: 1e-2\n  epochs: 5\n  reductions: [1, 2]\n  strategy: d-darts\n"
    (folder / "settings.yaml").write_text(f"{text}train: {{channels: 8, policy: none}}\nderive:\n  threshold: 0.8\n")


def _front(folder: Path, bench: Bench) -> None:
    _reference(folder, bench)
    (folder / "front").mkdir(exist_ok=True)
    costs = [{"gates": 0.5 + n / 9, "costs": {"parameters": 100 + n, "macs": 900 * n + 1}} for n in range(4)]
    (folder / "front" / "front.json").write_text(json.dumps({"networks": costs}))


def _answers(folder: Path) -> None:
    from ddarts.reporting.reference import keep_reference
    from ddarts.runs.folder import RunFolder

    with RunFolder(folder) as run:
        keep_reference(run)


def _card(folder: Path) -> None:
    from ddarts.hub.card import training_facts
    from ddarts.hub.saved import load_model

    training_facts(load_model(folder / "model").network, folder / "model")


def _call(function: str, name: str = "", **options: Any) -> Read:
    """Return the call of a function of ddarts, imported then, with a file of the folder or the folder itself."""
    return lambda folder: pkgutil.resolve_name(f"ddarts.{function}")(folder / name, **options)


def _unsealed_load(folder: Path) -> None:
    """Read a checkpoint whose damage is under a right digest, as its author can write it."""
    from ddarts.runs.checkpoints import load, sealed

    path = folder / "plain.pt"
    data = path.read_bytes()
    (folder / "sealed.pt").write_bytes(sealed(data))
    load(folder / "sealed.pt")


def _plain_checkpoint(folder: Path, bench: Bench) -> None:
    data = (bench.reference("train") / "checkpoints" / "train.pt").read_bytes()
    (folder / "plain.pt").write_bytes(data[: data.rfind(b"ddarts-sha256:")])


_load = _call("data:load_data", quiet=True)
_model = ("model/config.json",)
_PAGE = ("summary.json", "test.json", "metrics.jsonl", "settings.yaml", "gates.json", "genotype.json")
READERS: dict[str, Reader] = {
    "genotype": Reader(
        _genotype, ("genotype.json",), _call("genotype.choices:load_genotype", "genotype.json"), text=True
    ),
    "genotype of choices": Reader(
        partial(_genotype, space="mobile"), ("genotype.json",), _call("genotype.choices:load_genotype"), text=True
    ),
    "gates": Reader(_gates, ("gates.json",), _call("genotype.gates:load_gates", "gates.json"), text=True),
    "gates of choices": Reader(
        partial(_gates, space="mobile"), ("gates.json",), _call("genotype.gates:load_gates"), text=True
    ),
    "genotype text of authors": Reader(
        _authors, ("authors.py",), _call("genotype.zoo.lookup:find_architecture", "authors.py"), text=True
    ),
    "two-cell text of authors": Reader(
        _authors, ("darts.py",), _call("genotype.zoo.lookup:find_architecture", "darts.py"), text=True
    ),
    "settings file": Reader(_settings, ("settings.yaml",), _config, text=True),
    "settings of a run": Reader(_reference, ("settings.yaml",), _resume, text=True, slow=2),
    "operation weights": Reader(
        _weights, ("operation_weights.json",), _call("genotype.operation_weights:OperationWeights.load"), text=True
    ),
    "latencies of a device": Reader(_device, ("device.json",), _read_device, text=True),
    "table of accuracies": Reader(_table, ("table.jsonl", "table.csv"), _read_table, text=True),
    "record of a trial": Reader(
        _trial, ("trial.json",), _call("experiments.trials:Trial.load", "trial.json"), text=True
    ),
    "metrics": Reader(_reference, ("metrics.jsonl",), lambda folder: _run(folder).metrics(), text=True),
    "test of a run": Reader(_reference, ("test.json",), _call("reporting.collect:_read_test", "test.json"), text=True),
    "summary of a run": Reader(_reference, ("summary.json",), lambda folder: _run(folder).summary, text=True),
    "page of a run": Reader(_reference, _PAGE, _read_report, slow=10),
    "front of a run": Reader(_front, ("front/front.json",), _call("reporting.budgets:front_chart"), text=True),
    "page of a study": Reader(
        partial(_reference, name="study"), ("settings.yaml", "trials/0-digits/darts-seed0.json"), _read_many, slow=4
    ),
    "page of a comparison": Reader(
        partial(_reference, name="compare"),
        ("settings.yaml", "trainings/0-*/summary.json", "architectures/0-*.json"),
        _read_many,
        slow=4,
    ),
    "watched run": Reader(_reference, ("settings.yaml", "summary.json", "metrics.jsonl"), _watch, slow=2),
    "answers of a test": Reader(
        _reference,
        ("answers.safetensors", "reference/*.safetensors", "reference/*.json", "test.json", "summary.json"),
        _answers,
    ),
    "facts of a model card": Reader(_reference, ("summary.json", "test.json", "settings.yaml"), _card, slow=4),
    "config of a model": Reader(
        partial(_reference, name="train"), _model, _call("hub.saved:load_model", "model"), text=True
    ),
    "weights of a model": Reader(
        partial(_reference, name="train"),
        ("model/model.safetensors",),
        _call("hub.saved:load_model", "model"),
        must_notice=True,
    ),
    "checkpoint": Reader(_checkpoint, ("checkpoints/*.pt",), _read_checkpoints, must_notice=True),
    "checkpoint with its digest": Reader(_plain_checkpoint, ("plain.pt",), _unsealed_load),
    "weights of other programs": Reader(_foreign, ("a.pth.tar", "old.pt", "b.safetensors"), _read_foreign),
    "preparation of images": Reader(
        partial(_reference, name="export"), ("preprocessing.json",), _read_preparation, text=True
    ),
    "ONNX": Reader(partial(_reference, name="export"), ("model.onnx",), _read_onnx),
    "labels": Reader(_labels, ("one.csv", "many.csv", "numbers.csv"), _read_labels, text=True),
    "IDX": Reader(_idx, ("*ubyte",), _load),
    "IDX, compressed": Reader(partial(_idx, gz=True), ("*.gz",), _load),
    "CIFAR pickles": Reader(_cifar, ("data_batch_1", "test_batch", "batches.meta"), _load),
    "CIFAR pickles, protocol 5": Reader(
        partial(_cifar, protocol=5), ("data_batch_1", "test_batch", "batches.meta"), _load
    ),
    "CIFAR binary": Reader(partial(_cifar, binary=True), ("data_batch_1.bin", "batches.meta.txt"), _load),
    "Parquet": Reader(_parquet, ("train.parquet",), _load),
    **{
        f"image, {e.upper()}": Reader(
            partial(_images, ending=e), (f"a/0.{e}", f"b/1.{e}"), partial(_read_image, ending=e)
        )
        for e in ("png", "jpg", "webp", "bmp", "gif", "tiff", "ppm")
    },
    "folder of images": Reader(_images, ("a/0.png", "b/1.png"), _load),
    "decoded data set": Reader(_cache, ("kept/entry/data.json", "kept/entry/*.npy"), _read_cache),
}
