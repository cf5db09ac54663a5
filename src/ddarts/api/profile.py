"""`ddarts profile`: the cost of networks in one table."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Unpack

from ddarts.api.signature import names_settings
from ddarts.config.keywords import ProfileKeywords
from ddarts.config.loading import load_settings
from ddarts.config.schema import ProfileSettings
from ddarts.errors import SettingsError
from ddarts.genotype.genotype import Genotype
from ddarts.genotype.zoo.lookup import short_names
from ddarts.reporting.formatting import count
from ddarts.results import Outcome, simple_table
from ddarts.runtime.progress import Progress

if TYPE_CHECKING:
    from rich.console import Group

    from ddarts.deploy.profiling import Profile

Source = Genotype | str | os.PathLike[str]


@dataclass(frozen=True)
class ProfileResult(Outcome):
    """What `ddarts.profile` measured.

    Attributes:
        profiles: one for each network, in the order in which they were named.
        by: "cell" or "operation", if their parts were measured.
        device: where PyTorch computed.
        notes: remarks on the numbers.
    """

    profiles: tuple[Profile, ...]
    by: str | None
    device: str
    notes: tuple[str, ...] = ()

    title = "profile"

    def rows(self) -> Iterable[tuple[str, str]]:
        """Return what the table shows of the first network."""
        for name, *values in self.lines():
            yield name, values[0]

    def lines(self) -> Iterable[tuple[str, ...]]:
        """Return the lines of the table: a name, then a value for each network."""
        profiles = self.profiles
        first = profiles[0]
        yield "weights", *("trained" if p.trained else "new" for p in profiles)
        yield "cells", *(str(p.cells) for p in profiles)
        yield "channels of the first cell", *(str(p.channels) for p in profiles)
        yield "image", *(f"{p.in_channels}x{p.resolution[0]}x{p.resolution[1]}" for p in profiles)
        yield "classes", *(str(p.classes) for p in profiles)
        yield "parameters", *(count(p.parameters) for p in profiles)
        yield "MACs per image", *(count(p.macs) for p in profiles)
        for i, (batch, _) in enumerate(first.memory):
            yield f"activations, batch {batch}", *(_bytes(p.memory[i][1]) for p in profiles)
        for i, (runtime, _) in enumerate(first.files):
            yield f"file for {runtime}", *(_bytes(p.files[i][1]) for p in profiles)
        for i, one in enumerate(first.latencies):
            where = f"{one.runtime}, batch {one.batch}"
            if self.device == "cpu" or one.runtime != "pytorch":
                where += f", {one.threads} thread{'s' * (one.threads != 1)}"
            yield f"{where}: median", *(f"{p.latencies[i].median_ms:.2f} ms" for p in profiles)
            yield (
                "  95 of 100, fastest",
                *(f"{p.latencies[i].p95_ms:.2f}, {p.latencies[i].fastest_ms:.2f} ms" for p in profiles),
            )

    def table(self) -> Group:  # type: ignore[override]
        """Return the table, the tables of parts, and the notes, for a terminal."""
        from rich.console import Group
        from rich.text import Text

        main = simple_table("profile")
        main.add_column("")
        for profile in self.profiles:
            main.add_column(Text(profile.name), overflow="fold", justify="right")
        for line in self.lines():
            main.add_row(*map(Text, line))
        tables: list[Any] = [main]
        for profile in self.profiles if self.by is not None else ():
            table = simple_table(f"{profile.name}, by {self.by}")
            table.add_column(str(self.by))
            for name in ("number", "parameters", "MACs", "ms (fastest pass)", "share of time"):
                table.add_column(name, justify="right")
            whole = sum(part.ms for part in profile.parts) or 1.0
            for part in profile.parts:
                values = (str(part.count), f"{part.parameters:,}", f"{part.macs:,}", f"{part.ms:.3f}")
                table.add_row(Text(part.name), *values, f"{100 * part.ms / whole:.1f} %")
            tables.append(table)
        return Group(*tables, *(Text(note) for note in self.notes))

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready data."""
        return {
            "device": self.device,
            "by": self.by,
            "profiles": [
                {
                    **{
                        name: value
                        for name, value in asdict(p).items()
                        if name not in ("memory", "resolution", "files")
                    },
                    "resolution": list(p.resolution),
                    "file_bytes": dict(p.files),
                    "activation_bytes": [{"batch": batch, "bytes": size} for batch, size in p.memory],
                }
                for p in self.profiles
            ],
            "notes": list(self.notes),
        }


@names_settings(ProfileKeywords)
def profile(
    architectures: Sequence[Source] | Source,
    *,
    config: str | os.PathLike[str] | Mapping[str, Any] | None = None,
    quiet: bool = False,
    **settings: Unpack[ProfileKeywords],
) -> ProfileResult:
    """Measure what networks cost: parameters, multiply-adds, memory for activations, latency.

    Args:
        architectures: one or many: a genotype, its file, a run, a model's folder, or a name. A trained model is
            measured as it is, unless a setting asks for another size.
        config: a YAML file, or a mapping, with settings.
        quiet: show no progress.
        **settings: fields of `ddarts.config.schema.ProfileSettings`.

    Raises:
        GenotypeError: no architecture has that name.
        ModelError: a model cannot be loaded.
        SettingsError: a setting is wrong, or the device is not available.
        MissingPackageError: onnxruntime is requested and not installed.
    """
    sources = [architectures] if isinstance(architectures, Genotype | str | os.PathLike) else list(architectures)
    if not sources:
        raise SettingsError("nothing to measure; name a genotype, a run, a model or an architecture")
    wanted: ProfileSettings = load_settings("profile", config=config, overrides=settings)
    from ddarts.runtime.engine import resolve_device

    kind, index = resolve_device(wanted.device)

    import torch

    from ddarts.deploy.profiling import measure, steps, subject

    onnx, notes = _onnxruntime_wanted(wanted)
    device = torch.device(kind, index) if kind == "cuda" else torch.device(kind)
    subjects = [subject(source, wanted) for source in sources]
    names = short_names(sources)
    profiles = []
    with Progress("profile", steps(wanted, onnx) * len(subjects), quiet=quiet) as progress:
        step = 0
        for name, found in zip(names, subjects, strict=True):

            def done(name: str = name) -> None:
                nonlocal step
                step += 1
                progress.update(step, network=name)

            profiles.append(measure(name, found, wanted, device=device, onnx=onnx, done=done))
    return ProfileResult(tuple(profiles), wanted.by, kind, tuple(notes))


def _onnxruntime_wanted(settings: ProfileSettings) -> tuple[bool, list[str]]:
    """Return whether onnxruntime is measured, and a note if it is not although no setting excludes it."""
    from ddarts.deploy.extras import installed
    from ddarts.deploy.onnxfile import require_exporter

    if settings.onnx is False:
        return False, []
    if settings.onnx is None and not all(map(installed, ("onnx", "onnxscript", "onnxruntime"))):
        return False, ["onnxruntime was not measured: pip install 'ddarts[export]'"]
    require_exporter()
    return True, []


def _bytes(size: int) -> str:
    """Return a number of bytes with a unit."""
    for unit, letters in ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if size >= unit:
            return f"{size / unit:.2f} {letters}"
    return f"{size} B"
