"""A folder of random networks of a search space, and the script that measures them on another device.

Its files are complete but small: weights, whose values do not matter for the time, are constants that the runtime
fills in when it loads a network.
"""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from ddarts.config.schema import ProbeSettings
from ddarts.cost.device import operations_of
from ddarts.cost.kernels import NETWORK, features
from ddarts.deploy import probe_script
from ddarts.deploy.extras import require
from ddarts.deploy.onnxfile import INPUT, OUTPUT, ModelError, quiet_export
from ddarts.errors import SettingsError
from ddarts.genotype.random import random_genotype
from ddarts.nn.choice_network import AnyNetwork, build_network
from ddarts.nn.folding import folded
from ddarts.nn.resolution import STEM_HALVINGS, check_resolution, choose_stem
from ddarts.runtime.atomic_files import write_text
from ddarts.runtime.seeds import derive_seed, streams_restored
from ddarts.space.cell_space import SearchSpace, build_space
from ddarts.space.choice_space import ChoiceSpace
from ddarts.space.spaces import SPACES

FORMAT = "ddarts-probe"
VERSION = 1
MANIFEST, SCRIPT = "probe.json", "measure.py"
#: One network of so many has the other stem.
_OTHER_STEM = 8
#: Constants of fewer numbers stay as they are: shapes and the like.
_SMALL = 16


def spaces_of(settings: ProbeSettings) -> list[SearchSpace | ChoiceSpace]:
    """Return the search space with each number of cells.

    Raises:
        SettingsError: an unknown space.
    """
    space: Any = SPACES.get(settings.space)
    if isinstance(space, ChoiceSpace):
        return [space]
    least, most = settings.cells
    return [build_space(settings.space, cells=cells, nodes=settings.nodes) for cells in range(least, most + 1)]


def networks_of(settings: ProbeSettings, count: int, purpose: str = "probe") -> Iterator[AnyNetwork]:
    """Yield random networks of the space, on the CPU in evaluation mode.

    Number of cells and channels are drawn between their bounds; half of the networks have a multiple of 4 channels,
    and one of eight has the other stem, if both fit the resolution.

    Args:
        settings: space and sizes.
        count: number of networks.
        purpose: networks of another purpose are others.

    Raises:
        SettingsError: an unknown space, or images that are too small for it.
    """
    spaces, side = spaces_of(settings), settings.resolution
    stem = choose_stem(settings.stem, side, side)
    check_resolution(side, side, max(len(space.reductions) for space in spaces), stem)
    stems = [stem]
    for other in STEM_HALVINGS if settings.stem == "auto" else ():
        try:
            check_resolution(side, side, max(len(space.reductions) for space in spaces), other)
        except SettingsError:
            continue
        stems += [other] * (other != stem)
    low, high = settings.channels
    for number in range(count):
        seed = derive_seed(settings.seed, purpose, number)
        draw = random.Random(seed)
        step = draw.choice((1, 4 if high >= 4 * -(-low // 4) else 1))
        channels = step * draw.randint(-(-low // step), high // step)
        genotype = random_genotype(draw.choice(spaces), seed=seed)
        with torch.random.fork_rng(devices=[]):
            network = build_network(
                genotype,
                channels=channels,
                in_channels=settings.in_channels,
                classes=settings.classes,
                stem=stems[-1] if draw.randrange(_OTHER_STEM) == 0 else stem,
            )
        yield network.eval()


def write_probe(folder: Path, settings: ProbeSettings, done: Callable[[], None] = lambda: None) -> int:
    """Write the networks, what they compute, and the script; return the number of bytes.

    Args:
        folder: a new one, or an empty one.
        settings: space, sizes and number of networks.
        done: called after each network.

    Raises:
        MissingPackageError: onnx is not installed.
        ModelError: torch cannot export a network.
        SettingsError: the folder holds files; see also `networks_of`.
    """
    require("onnx", "export", "a probe")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise SettingsError(f"{folder} exists and is not an empty folder; name another one with --out")
    networks = networks_of(settings, settings.networks)
    first = next(networks)  # refuses what cannot be built before anything is written
    folder.mkdir(parents=True, exist_ok=True)
    images = (settings.in_channels, settings.resolution, settings.resolution)
    found: list[dict[str, float]] = []
    digest = hashlib.sha256()
    for number, network in enumerate((first, *networks)):
        data = onnx_for_timing(network, images)
        digest.update(data)
        (folder / f"{number:04d}.onnx").write_bytes(data)
        found.append({NETWORK: 1.0, **features(network, images)})
        done()
    columns = list(dict.fromkeys(column for row in found for column in row))
    operations = dict.fromkeys(name for space in spaces_of(settings) for name in operations_of(space))
    manifest = {
        "format": FORMAT,
        "version": VERSION,
        "id": digest.hexdigest()[:16],
        "images": images,
        "operations": list(operations),
        "features": columns,
        "networks": [
            [f"{i:04d}.onnx", [round(row.get(column, 0.0), 6) for column in columns]] for i, row in enumerate(found)
        ],
    }
    shutil.copyfile(probe_script.__file__, folder / SCRIPT)
    write_text(folder / MANIFEST, json.dumps(manifest))
    return sum(path.stat().st_size for path in folder.iterdir())


def onnx_for_timing(network: AnyNetwork, images: tuple[int, int, int]) -> bytes:
    """Return a network as an ONNX file whose weights are constants, each another one; its results mean nothing.

    It is written by torch's older exporter, which is ten times as fast as that of `ddarts.deploy.onnxfile`, and gives
    the same operations after onnxruntime's optimisations.

    Raises:
        ModelError: torch cannot export the network.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.onnx"
        try:
            with torch.no_grad(), quiet_export(), streams_restored():
                torch.onnx.export(
                    folded(network),
                    (torch.zeros(2, *images),),
                    str(path),
                    dynamo=False,
                    input_names=[INPUT],
                    output_names=[OUTPUT],
                    dynamic_axes={INPUT: {0: "batch"}},
                )
        except Exception as error:
            text = " ".join(str(error).split())[:300]
            raise ModelError(f"torch cannot export the network to ONNX: {text}") from error
        return _without_weights(path.read_bytes())


def _without_weights(data: bytes) -> bytes:
    """Replace weights by nodes that fill a shape with one value.

    Every weight gets a value of its own: the runtime merges equal operations of equal inputs and weights.
    """
    import numpy as np
    import onnx
    from onnx import helper, numpy_helper

    model = onnx.load_from_string(data)
    graph = model.graph
    kept, nodes, shapes = [], [], {}
    for tensor in graph.initializer:
        if tensor.data_type != onnx.TensorProto.FLOAT or np.prod(tensor.dims) <= _SMALL:
            kept.append(tensor)
            continue
        name = f"shape {'x'.join(map(str, tensor.dims))}"
        shapes[name] = numpy_helper.from_array(np.array(tensor.dims, np.int64), name)
        value = numpy_helper.from_array(np.array([0.01 + 1e-5 * len(nodes)], np.float32))
        nodes.append(helper.make_node("ConstantOfShape", [name], [tensor.name], value=value))
    nodes += graph.node
    for field, values in ((graph.initializer, [*kept, *shapes.values()]), (graph.node, list(nodes))):
        del field[:]
        field.extend(values)
    return model.SerializeToString()
