"""`ddarts measure-operations`: weights of the operations from the user's own data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from ddarts.api.signature import names_settings
from ddarts.config.keywords import MeasureKeywords
from ddarts.config.schema import MeasureSettings
from ddarts.errors import GenotypeError, RunError
from ddarts.genotype.operation_weights import FILE_NAME, OperationWeights
from ddarts.pipeline import Opening, load_images
from ddarts.results import Outcome, simple_table
from ddarts.runtime.progress import format_seconds
from ddarts.space.cell_space import build_space
from ddarts.space.operations import OPERATIONS

if TYPE_CHECKING:
    import os

    from rich.table import Table

    PathLike = str | os.PathLike[str]
    Config = PathLike | Mapping[str, Any]


@dataclass(frozen=True)
class MeasureResult(Outcome):
    """Accuracies and weights of the operations.

    Attributes:
        path: the run.
        weights: of the operations; `file` holds them.
        scores: of each operation, the accuracy in percent at each (cell, position).
        statistic: "median" or "mean" of the scores, which is the weight.
        elapsed_s: seconds of training.
    """

    path: Path
    weights: OperationWeights
    scores: Mapping[str, Mapping[tuple[int, int], float]]
    statistic: str
    elapsed_s: float

    @property
    def file(self) -> Path:
        """The file of weights, for ``ddarts distance --weights`` and ``ddarts search --operation-weights``."""
        return self.path / FILE_NAME

    @property
    def rank_correlation(self) -> float | None:
        """Spearman's rank correlation with the published weights, -1 to 1; None if all weights are equal."""
        from scipy.stats import spearmanr

        published = OperationWeights.published().weights
        measured = [self.weights.weights[o] for o in published]
        if len(set(measured)) < 2:
            return None
        found: Any = spearmanr(measured, list(published.values()))
        return float(found.statistic)

    def rows(self) -> Iterable[tuple[str, str]]:
        """Return the rows below the table of operations."""
        places = len(next(iter(self.scores.values())))
        yield "weight", f"{self.statistic} accuracy over {places} positions, %"
        correlation = self.rank_correlation
        yield "rank correlation with the published", "-" if correlation is None else f"{correlation:.2f}"
        yield "training time", format_seconds(self.elapsed_s)
        yield "run", str(self.path)
        yield "weights", str(self.file)

    def table(self) -> Table:
        """Return the operations, the largest weight first, and the rows below."""
        from rich.table import Table
        from rich.text import Text

        table = simple_table()
        table.add_column("operation")
        for name in ("weight", "lowest", "highest", "published"):
            table.add_column(name, justify="right")
        published = OperationWeights.published().weights
        for name in sorted(self.weights.weights, key=lambda o: -self.weights.weights[o]):
            scores = self.scores[name].values()
            figures = (self.weights.weights[name], min(scores), max(scores), published.get(name))
            table.add_row(Text(name), *("-" if value is None else f"{value:.2f}" for value in figures))
        parts = Table.grid()
        parts.add_row(Text("operation weights"))
        parts.add_row(table)
        parts.add_row(super().table())
        return parts

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready data."""
        return {
            "run": str(self.path),
            "file": str(self.file),
            "weights": dict(self.weights.weights),
            "statistic": self.statistic,
            "scores": {
                name: [
                    {"cell": cell, "position": position, "accuracy": value} for (cell, position), value in at.items()
                ]
                for name, at in self.scores.items()
            },
            "rank_correlation": self.rank_correlation,
            "train_s": self.elapsed_s,
        }


@names_settings(MeasureKeywords)
def measure_operations(
    *,
    out: PathLike | None = None,
    preset: str | None = None,
    config: Config | None = None,
    resume: PathLike | None = None,
    overwrite: bool = False,
    quiet: bool = False,
    **settings: Unpack[MeasureKeywords],
) -> MeasureResult:
    """Measure the weights of the operations on the user's own data (paper, section 5).

    Each of the twelve operations stands alone in each position of a small network, which is trained shortly; the
    weight of an operation is the median of its accuracies on the validation split. Test images are not used.

    Args:
        out: folder of the run; ``runs/NAME-TIME`` if not given. ``operation_weights.json`` in it is the result.
        preset: "demo", "small" or "paper"; "demo" for the digits and "small" for other data if not given.
        config: a YAML file, or a mapping, with settings.
        resume: a run to resume.
        overwrite: replace the run in `out`.
        quiet: show no progress.
        **settings: fields of `ddarts.config.schema.MeasureSettings`.

    Raises:
        SettingsError, DataError: a setting is wrong or does not fit the images.
        RunError: the run cannot be used, or an operation reached no accuracy above 0.
        DivergedError: a training diverged.
        Stopped: Ctrl-C or SIGTERM; what was measured is kept.
    """
    from ddarts.preflight import check_engine_settings, check_train_data

    opening = Opening.of("measure-operations", out, preset, config, resume, overwrite, settings)
    wanted: MeasureSettings = opening.settings
    check_engine_settings(wanted)
    images = load_images(wanted, quiet, given=opening.given)
    opening = opening.fitted(images)
    wanted = opening.settings
    check_train_data(wanted.measure, wanted, images, build_space("dartopti", cells=wanted.measure.cells))
    from ddarts.training.operation_scores import check_validation, measure

    check_validation(wanted, images)
    with opening.reserved().start(images) as run:
        scores = measure(wanted, images, run, quiet=quiet)
        places = wanted.measure.cells * wanted.measure.positions
        source = f"measured by ddarts on {_one_line(wanted.data)}: {wanted.measure.statistic}s over {places} positions"
        try:
            weights = OperationWeights(scores.weights(), source)
        except GenotypeError as error:
            raise RunError(
                f"{run.path}: the accuracies make no weights ({error}); train longer: --epochs or --steps-per-epoch"
            ) from None
        weights.save(run.path / FILE_NAME)
        run.update_summary(operation_weights=dict(weights.weights), measure_s=scores.elapsed_s)
        return MeasureResult(
            path=run.path,
            weights=weights,
            scores={name: scores.by_position(name) for name in OPERATIONS.names()},
            statistic=wanted.measure.statistic,
            elapsed_s=scores.elapsed_s,
        )


def _one_line(text: str) -> str:
    return "".join(c if c.isprintable() else "-" for c in text)[:200]
