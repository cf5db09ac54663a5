"""The weights with which a training starts, where it does not start with new ones.

A search from a network of torchvision or timm leaves its network as a model folder in its run; a training copies it
into its own run before the first step, and so resumes from there even if the run of the search has gone.
"""

from __future__ import annotations

import os
from pathlib import Path

from ddarts.data import ImageData
from ddarts.errors import SettingsError
from ddarts.genotype.choices import AnyGenotype
from ddarts.hub.saved import CONFIG_NAME, WEIGHTS_NAME, load_model, save_model
from ddarts.nn.choice_network import AnyNetwork, ChoiceNetwork
from ddarts.runs.folder import RunFolder
from ddarts.runtime.atomic_files import write_bytes

#: Name of the model folder in a run.
FOLDER = "found"
_GENOTYPE = "genotype.json"


def save_for_training(folder: Path, images: ImageData, network: ChoiceNetwork) -> None:
    """Write a network and its genotype into a folder; a training of this folder or of the run starts with its weights.

    Args:
        folder: `FOLDER` in a run, or another one.
        images: the images that it is for.
        network: any device.
    """
    size = (images.height, images.width)
    save_model(
        folder,
        network,
        classes=images.classes,
        resolution=size,
        mean=images.mean,
        std=images.std,
        task=images.task,
    )
    network.genotype.save(folder / _GENOTYPE)


def copy_for_training(source: object, target: Path) -> None:
    """Copy the network of `save_for_training` in `source`, a run or the folder itself, into the run `target`, if any.

    Other sources, such as a genotype, have none.
    """
    if not isinstance(source, str | os.PathLike):
        return
    place = Path(source).expanduser()
    for folder in (place / FOLDER, place):
        if all((folder / name).is_file() for name in (CONFIG_NAME, WEIGHTS_NAME, _GENOTYPE)):
            if folder.resolve() != (target / FOLDER).resolve():
                for name in (CONFIG_NAME, WEIGHTS_NAME, _GENOTYPE):
                    write_bytes(target / FOLDER / name, (folder / name).read_bytes())
            return


def load_initial(network: AnyNetwork, genotype: AnyGenotype, run: RunFolder) -> bool:
    """Load the weights with which the training of a run starts, if it has some, and return whether it has.

    Parts of other shapes, such as a classifier of other classes or the auxiliary head, keep their new weights.

    Raises:
        SettingsError: they are the weights of another genotype.
        ModelError: they are broken.
    """
    folder = run.path / FOLDER
    if not (folder / CONFIG_NAME).is_file():
        return False
    found = load_model(folder).network
    if found.genotype.canonical() != genotype.canonical():
        raise SettingsError(
            f"{folder} holds weights of another genotype than {run.path}; delete that folder to train from new weights"
        )
    own = network.state_dict()
    state = {name: tensor for name, tensor in found.state_dict().items() if tensor.shape == own[name].shape}
    network.load_state_dict(state, strict=False)
    return True
