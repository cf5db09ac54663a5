"""Networks in the layout of the Hugging Face hub: config.json, model.safetensors and a card in README.md.

The layout is the one of huggingface_hub's PyTorchModelHubMixin. It is written and read here, without the mixin: folders
need no further package, `import ddarts` stays light, and a path that does not exist is named before anything is sought
on the hub. huggingface_hub (``pip install 'ddarts[hub]'``) is imported only to fetch from the hub.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ddarts.hub.card import model_card, training_facts
from ddarts.hub.saved import CONFIG_NAME, WEIGHTS_NAME, ModelConfig, SavedModel, load_model, load_model_as, save_model
from ddarts.nn import network as discrete
from ddarts.nn.choice_network import AnyNetwork
from ddarts.nn.preprocessing import ModelError
from ddarts.nn.tasks import CLASSIFICATION
from ddarts.runtime.atomic_files import write_text

CARD_NAME = "README.md"

#: USER/NAME, as the hub allows them.
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")


class Network(discrete.Network):
    """A `ddarts.nn.network.Network` that writes and reads itself as a folder for the hub.

    Attributes:
        config: what a network that was loaded is for: its classes and how its images are prepared. None for a new one.
        folder: the model folder that it was loaded from, or None.
    """

    config: ModelConfig | None = None
    folder: Path | None = None

    def save_pretrained(
        self,
        folder: str | os.PathLike[str],
        *,
        classes: Sequence[str] | None = None,
        resolution: tuple[int, int] | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        repository: str | None = None,
    ) -> None:
        """Write the network as a folder in the layout of the Hugging Face hub, with a model card.

        The files are those of a model folder (config.json, model.safetensors) and README.md, so `ddarts.load_model`
        reads the folder too. The layout is that of huggingface_hub's PyTorchModelHubMixin, written by ddarts itself:
        huggingface_hub is needed to fetch from the hub, not for folders.

        Args:
            folder: where to write; what it holds besides these three files is left alone.
            classes, resolution, mean, std: as for `ddarts.hub.saved.save_model`. A network that was loaded knows
                them; one that was built must be told.
            repository: USER/NAME on the hub, for the commands on the card.

        Raises:
            ModelError: the description is missing or does not fit the network.
            RunError: a file cannot be written.
        """
        folder = Path(folder)
        given = {"classes": classes, "resolution": resolution, "mean": mean, "std": std}
        known: dict[str, Any] = {
            name: getattr(self.config, name, None) if value is None else value for name, value in given.items()
        }
        missing = [name for name, value in known.items() if value is None]
        if missing:
            raise ModelError(
                f"{folder}: the network does not know its {' and '.join(missing)}; name them to save_pretrained, "
                "as for save_model"
            )
        if repository is not None and not _REPOSITORY.fullmatch(repository):
            raise ModelError(f"repository {repository[:120]!r} is not of the form USER/NAME")
        task = CLASSIFICATION if self.config is None else self.config.task
        write_hub_folder(folder, self, self.folder, repository, task=task, **known)

    @classmethod
    def from_pretrained(
        cls,
        source: str | os.PathLike[str],
        *,
        revision: str | None = None,
        token: str | bool | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        local_files_only: bool = False,
    ) -> Network:
        """Return the network of a folder (a model's, a run's, or one of `save_pretrained`), or of a hub repository.

        A folder is read without huggingface_hub and without the internet. No code from the source is run.

        Args:
            source: a folder, or USER/NAME on the Hugging Face hub. What is there as a folder wins.
            revision: branch, tag or commit of the repository.
            token: as huggingface_hub takes it, for repositories that are not public.
            cache_dir: where huggingface_hub keeps what it fetches.
            local_files_only: use only what was fetched before.

        Returns:
            The network in evaluation mode, on the CPU; its `config` tells classes and preparation.

        Raises:
            ModelError: there is neither such a folder nor such a repository, or what it holds is not a model of ddarts.
        """
        folder = fetch(source, revision=revision, token=token, cache_dir=cache_dir, local_files_only=local_files_only)
        saved = load_model_as(Network, folder)
        saved.network.config, saved.network.folder = saved.config, saved.folder
        return saved.network


def write_hub_folder(
    folder: Path, network: AnyNetwork, origin: Path | None, repository: str | None = None, **description: Any
) -> SavedModel[AnyNetwork]:
    """Write a network of cells or of choices with its model card, and return what can be read from the folder.

    Args:
        folder: where to write.
        network: any device.
        origin: the model folder that the network was loaded from, or None.
        repository: USER/NAME on the hub, for the commands on the card.
        **description: classes, resolution, mean, std and task, as for `ddarts.hub.saved.save_model`.

    Raises:
        ModelError: the description does not fit the network.
        RunError: a file cannot be written.
    """
    facts = training_facts(network, origin)  # before anything is written: the folder may be the network's own
    save_model(folder, network, auxiliary=network.auxiliary is not None, **description)
    written = load_model(folder)
    title = (repository or folder.resolve().name).rpartition("/")[2]
    write_text(folder / CARD_NAME, model_card(written.network, written.config, facts, title, repository))
    return written


def fetch(source: str | os.PathLike[str], *, cache_dir: str | os.PathLike[str] | None = None, **options: Any) -> Path:
    """Return the folder that `source` means; what is only on the hub is fetched (config.json and model.safetensors).

    Args:
        source: as for `Network.from_pretrained`.
        cache_dir: likewise.
        **options: likewise, and passed on to huggingface_hub.

    Raises:
        ModelError: there is neither such a folder nor such a repository, or huggingface_hub is needed and missing.
    """
    folder = Path(source)
    if folder.is_dir():
        return folder
    if folder.exists():
        raise ModelError(f"{folder} is a file; give the folder that holds {CONFIG_NAME} and {WEIGHTS_NAME}")
    name = os.fspath(source)
    if not _REPOSITORY.fullmatch(name):
        raise ModelError(f"{name}: no such folder, and not the name of a repository (USER/NAME); check the path")
    try:
        from huggingface_hub import hf_hub_download
    except ImportError:
        raise ModelError(
            f"{name}: no such folder; to look for a repository of that name on the hub: pip install 'ddarts[hub]'"
        ) from None
    paths, cache = [], None if cache_dir is None else str(cache_dir)
    for file in (CONFIG_NAME, WEIGHTS_NAME):
        try:
            paths.append(hf_hub_download(name, file, cache_dir=cache, **options))
        except Exception as error:  # of huggingface_hub, of its transport, of the disk: all mean the same to the user
            reason = (str(error).strip().splitlines() or [""])[0][:200]
            raise ModelError(
                f"{name}: no such folder, and {file} cannot be had from the hub ({type(error).__name__}: {reason}); "
                "check the path, or the name and the connection"
            ) from error
    return Path(paths[0]).parent
