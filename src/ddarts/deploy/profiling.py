"""What networks cost: parameters, multiply-adds, memory for activations, time in PyTorch and in onnxruntime."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ddarts.config.schema import ProfileSettings
from ddarts.cost.activations import peak_activation_bytes
from ddarts.cost.counting import count_macs, count_parameters
from ddarts.cost.latency import Latency, summary, threads_set, time_passes, waiter
from ddarts.deploy.breakdown import PartCost, cost_by_cell, cost_by_operation
from ddarts.deploy.int8 import quantised
from ddarts.deploy.onnxfile import onnx_bytes, open_onnx, require_exporter
from ddarts.genotype.choices import AnyGenotype
from ddarts.genotype.zoo.lookup import find_architecture
from ddarts.hub.saved import load_model
from ddarts.nn.choice_network import AnyNetwork, build_network
from ddarts.nn.resolution import check_images, choose_stem

#: What is built if nothing is said: a network for CIFAR-10, as in the paper (section 4).
CHANNELS, CLASSES, IN_CHANNELS, RESOLUTION = 36, 10, 3, 32


@dataclass(frozen=True, eq=False)
class Subject:
    """A network to measure.

    Attributes:
        network: in evaluation mode, on the CPU.
        resolution: (height, width) of its images in pixels.
        trained: whether it has trained weights; else new ones.
    """

    network: AnyNetwork
    resolution: tuple[int, int]
    trained: bool


@dataclass(frozen=True)
class Profile:
    """What one network costs.

    Attributes:
        name: what the user called it.
        trained: whether its weights are trained ones.
        channels, in_channels, classes, stem, resolution: how it was built.
        cells: their number.
        parameters: trainable scalars, without an auxiliary head.
        macs: multiply-accumulate operations for one image.
        memory: (batch, bytes): the most that activations fill, see `ddarts.cost.activations`.
        latencies: one for each runtime, batch and number of threads.
        files: (runtime, bytes): size of the ONNX file that each measured runtime reads.
        parts: of the table that was asked for; measured at the first batch and number of threads, in PyTorch.
    """

    name: str
    trained: bool
    channels: int
    in_channels: int
    classes: int
    stem: str
    resolution: tuple[int, int]
    cells: int
    parameters: int
    macs: int
    memory: tuple[tuple[int, int], ...]
    latencies: tuple[Latency, ...]
    parts: tuple[PartCost, ...]
    files: tuple[tuple[str, int], ...] = ()


def subject(source: AnyGenotype | str | os.PathLike[str], settings: ProfileSettings) -> Subject:
    """Return the network that `source` means.

    A trained model (a folder, or a run that has one) is taken as it is, unless channels, in_channels, classes or stem
    are set: then its architecture is built anew, as that of any other genotype.

    Raises:
        GenotypeError: nothing of that name is there.
        ModelError: the model cannot be loaded.
        SettingsError: the images are too small for the network.
    """
    anew = any(getattr(settings, name) is not None for name in ("channels", "in_channels", "classes", "stem"))
    folder = None if isinstance(source, AnyGenotype) else _model_folder(Path(source))
    side = settings.resolution
    if folder is not None:
        saved = load_model(folder)
        network, resolution = saved.network, saved.config.resolution if side is None else (side, side)
        if not anew:
            check_images(*resolution, network.genotype, network.stem_name)
            return Subject(network, resolution, True)
        genotype = network.genotype
    else:
        genotype = find_architecture(source)
        resolution = (side or RESOLUTION, side or RESOLUTION)
    stem = choose_stem(settings.stem or "auto", *resolution)
    check_images(*resolution, genotype, stem)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = build_network(
            genotype,
            channels=settings.channels or CHANNELS,
            in_channels=settings.in_channels or IN_CHANNELS,
            classes=settings.classes or CLASSES,
            stem=stem,
        )
    return Subject(network.eval(), resolution, False)


def measure(
    name: str, found: Subject, settings: ProfileSettings, *, device: torch.device, onnx: bool, done: Callable[[], None]
) -> Profile:
    """Measure one network.

    Args:
        name: what it is called in the result.
        found: the network.
        settings: batches, threads, seconds and the kind of table.
        device: where PyTorch computes.
        onnx: whether to measure onnxruntime (on the CPU) too, with the network as it is and quantised.
        done: called after each of `steps`.
    """
    network = found.network
    shape = (network.in_channels, *found.resolution)
    memory = tuple((batch, peak_activation_bytes(network, (batch, *shape))) for batch in settings.batch)
    macs = count_macs(network, shape)
    files = _onnx_files(network, shape, done) if onnx else {}
    latencies = [latency for file in files.items() for latency in _onnxruntime(*file, shape, settings, done)]
    network.to(device)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    latencies = [*_pytorch(network, shape, settings, done), *latencies]
    parts: tuple[PartCost, ...] = ()
    if settings.by is not None:
        wait = waiter(device)

        def clock() -> float:
            wait()
            return time.perf_counter()

        x = _images(network, settings.batch[0], shape)
        table = cost_by_cell if settings.by == "cell" else cost_by_operation
        with threads_set(settings.threads[0]), torch.inference_mode():
            parts = tuple(table(network, shape, lambda: network(x), clock))
        done()
    return Profile(
        name=name,
        trained=found.trained,
        channels=network.channels,
        in_channels=network.in_channels,
        classes=network.classes,
        stem=network.stem_name,
        resolution=found.resolution,
        cells=len(network.genotype),
        parameters=count_parameters(network),
        macs=macs,
        memory=memory,
        latencies=tuple(latencies),
        parts=parts,
        files=tuple((runtime, len(data)) for runtime, data in files.items()),
    )


def steps(settings: ProfileSettings, onnx: bool) -> int:
    """Return how often `measure` calls `done`."""
    passes = len(settings.batch) * len(settings.threads)
    return passes + (2 + 2 * passes if onnx else 0) + (settings.by is not None)


def _pytorch(
    network: AnyNetwork, shape: tuple[int, int, int], settings: ProfileSettings, done: Callable[[], None]
) -> list[Latency]:
    found = []
    wait = waiter(next(network.parameters()).device)
    for threads in settings.threads:
        for batch in settings.batch:
            x = _images(network, batch, shape)
            with threads_set(threads), torch.inference_mode():
                times = time_passes(lambda x=x: network(x), seconds=settings.seconds, wait=wait)
            found.append(summary(times, "pytorch", batch, threads))
            done()
    return found


def _onnx_files(network: AnyNetwork, shape: tuple[int, int, int], done: Callable[[], None]) -> dict[str, bytes]:
    """Return the network as an ONNX file and as a quantised one, by what reads them; random images calibrate it."""
    require_exporter()
    data = onnx_bytes(network, shape)
    done()
    int8 = quantised(data, torch.randn(16, *shape, generator=torch.Generator().manual_seed(0)))
    done()
    return {"onnxruntime": data, "onnxruntime int8": int8}


def _onnxruntime(
    runtime: str, data: bytes, shape: tuple[int, int, int], settings: ProfileSettings, done: Callable[[], None]
) -> list[Latency]:
    found = []
    for threads in settings.threads:
        model = open_onnx(data, "the exported network", threads=threads)
        for batch in settings.batch:
            x = torch.randn(batch, *shape, generator=torch.Generator().manual_seed(0))
            times = time_passes(lambda x=x, model=model: model.logits(x), seconds=settings.seconds)
            found.append(summary(times, runtime, batch, threads))
            done()
    return found


def onnx_latency(network: AnyNetwork, shape: tuple[int, int, int], seconds: float = 0.5) -> Latency:
    """Return the latency of single images in the exported network under onnxruntime, on one CPU thread.

    Raises:
        MissingPackageError: onnx, onnxscript or onnxruntime is not installed.
        ModelError: torch cannot export the network.
    """
    require_exporter()
    data, settings = onnx_bytes(network, shape), ProfileSettings(seconds=seconds)
    return next(iter(_onnxruntime("onnxruntime", data, shape, settings, lambda: None)))


def _images(network: AnyNetwork, batch: int, shape: tuple[int, int, int]) -> Tensor:
    """Return images as the network gets them from `ddarts.data.Normalise`: channels last in memory."""
    device = next(network.parameters()).device
    images = torch.randn(batch, *shape, generator=torch.Generator().manual_seed(0))
    return images.to(device).contiguous(memory_format=torch.channels_last)


def _model_folder(path: Path) -> Path | None:
    """Return the folder of the trained model that a path holds, if it does."""
    for folder in (path, path / "model"):
        if (folder / "config.json").is_file():
            return folder
    return None
