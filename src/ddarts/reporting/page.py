"""The report of a run: one HTML file that needs nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ddarts.reporting.background import Background
from ddarts.reporting.charts import pretraining_charts, search_charts, training_charts
from ddarts.reporting.collect import RunContents, read_run
from ddarts.reporting.names import StateText
from ddarts.reporting.results import distances_to_baseline, headline, summary_rows, what_was_run
from ddarts.reporting.scene import to_svg
from ddarts.reporting.template import render_page
from ddarts.reporting.views import (
    cell_views,
    confusion_view,
    gate_views,
    kinds_used,
    mistake_views,
    network_view,
    proofs_of,
)
from ddarts.runtime.atomic_files import write_text


def write_report(run_path: Path, target: Path | None = None) -> Path:
    """Write the report of a run and return its path.

    The page shows what the folder holds: results, cells, curves of search and training, tests, settings and versions.

    Args:
        run_path: the folder of the run.
        target: the file; ``report.html`` in the run if not given.

    Raises:
        RunError: there is no run, one of its files is damaged, or the page cannot be written.
    """
    run_path = Path(run_path)
    target = run_path / "report.html" if target is None else target
    write_text(target, render(read_run(run_path)))
    return target


def render(run: RunContents) -> str:
    """Return the page as HTML."""
    proofs = proofs_of(run)
    cells = cell_views(run.genotype, proofs, distances_to_baseline(run)) if run.genotype else []
    chain = network_view(run.genotype, Background(proofs, run.numbers)) if run.genotype else None
    return render_page(
        "report.html",
        name=run.name,
        what=what_was_run(run),
        headline=headline(run),
        summary=summary_rows(run),
        cells=cells,
        cells_left_out=len(run.genotype) - len(cells) if run.genotype else 0,
        chain=to_svg(chain) if chain else "",
        chain_text=StateText(chain.description if chain else ""),
        genotype_name=run.genotype.name if run.genotype else "",
        search=pretraining_charts(run.records("pretrain")) + search_charts(run.records("search")),
        gates=gate_views(run, proofs),
        training=training_charts(run.records("train")),
        test=run.test,
        confusion=confusion_view(run.test),
        mistakes=mistake_views(run.test),
        settings=settings_of(run),
        kinds_used=kinds_used(run.genotype, run.gates),
        versions=versions_of(run),
    )


def settings_of(run: RunContents) -> list[tuple[str, list[tuple[str, str]]]]:
    """Return the settings as titled lists of rows. The stages of a whole run repeat its own: they are left out."""
    whole = run.settings.get("run")
    if not isinstance(whole, dict):
        groups: dict[str, Any] = dict(run.settings)
    else:
        groups = {"run": {key: v for key, v in whole.items() if not isinstance(v, dict)}}
        groups |= {key: v for key, v in whole.items() if isinstance(v, dict)}
    return [(f"Settings: {name}", flat(section)) for name, section in groups.items() if section]


def versions_of(run: RunContents) -> list[tuple[str, str]]:
    """Return the versions that a run's result depends on, as rows."""
    versions = run.summary.get("versions")
    return flat(versions) if isinstance(versions, dict) else []


def flat(section: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Return nested settings as rows of dotted names and values."""
    rows = []
    for key, value in section.items():
        if isinstance(value, Mapping):
            rows += flat(value, f"{prefix}{key}.")
        else:
            rows.append((f"{prefix}{key}", "not set" if value is None else str(value)))
    return rows
