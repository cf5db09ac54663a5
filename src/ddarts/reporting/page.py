"""The report of a run: one self-contained HTML file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ddarts.config.layers import STAGES, presets
from ddarts.config.loading import default_preset, load_settings
from ddarts.reporting.background import Background
from ddarts.reporting.budgets import budget_bars
from ddarts.reporting.charts import stage_charts
from ddarts.reporting.collect import RunContents, read_run
from ddarts.reporting.names import StateText
from ddarts.reporting.network_drawing import choice_scene
from ddarts.reporting.reference import comparison_of
from ddarts.reporting.results import (
    advice,
    changes,
    distances_to_baseline,
    headline,
    summary_rows,
    verdict,
    what_was_run,
)
from ddarts.reporting.scene import to_svg
from ddarts.reporting.template import render_page
from ddarts.reporting.views import (
    cell_views,
    confusion_view,
    gate_views,
    kinds_used,
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
    cells = cell_views(run.genotype, proofs, run.baseline, distances_to_baseline(run)) if run.genotype else []
    preset, settings = settings_of(run)
    chain = network_view(run.genotype, Background(proofs, run.numbers)) if run.genotype else None
    chain = choice_scene(run.choices, run.numbers) if run.choices else chain
    return render_page(
        "report.html",
        name=run.name,
        what=what_was_run(run),
        verdict=verdict(run),
        advice=advice(run),
        headline=headline(run),
        summary=summary_rows(run),
        changes=changes(run),
        reference=comparison_of(run.summary),
        budgets=budget_bars(run.summary),
        front=run.front,
        cells=cells,
        cells_left_out=len(run.genotype) - sum(view.count for view in cells) if run.genotype else 0,
        chain=to_svg(chain) if chain else "",
        chain_text=StateText(chain.description if chain else ""),
        genotype_name=named.name if (named := run.genotype or run.choices) else "",
        search=[chart for s in ("pretrain", "search") for chart in stage_charts(run.records(s), s, run.task)],
        gates=gate_views(run, proofs),
        training=stage_charts(run.records("train"), "train", run.task),
        test=run.test,
        confusion=confusion_view(run.test),
        mistakes=run.test.mistakes if run.test else (),
        settings=settings,
        preset=preset,
        kinds_used=kinds_used(run.genotype, run.gates),
        versions=versions_of(run),
    )


@dataclass(frozen=True)
class SettingsView:
    """A group of settings: rows of names and values, and those that differ from the preset, with its value."""

    title: str
    rows: list[tuple[str, str]]
    changed: list[tuple[str, str]]


def settings_of(run: RunContents) -> tuple[str, list[SettingsView]]:
    """Return the preset with the fewest differences from the settings of a run, and the settings by group."""
    known = {stage: section for stage, section in run.settings.items() if stage in STAGES}
    found = {
        preset: {stage: dict(flat(load_settings(stage, preset=preset).model_dump())) for stage in known}
        for preset in presets()
    }

    def differences(preset: str) -> int:
        return sum(found[preset][stage].get(name) != v for stage, section in known.items() for name, v in flat(section))

    given: dict[str, Any] = next(iter(known.values()), {})
    first = default_preset(str(given.get("data", "digits")), free="run" in known)
    # of equal ones the one that is used if none is named, or `small`: `residual` trains alike
    nearest = min((first, *reversed(found)), key=differences)
    views = []
    for stage, section in run.settings.items():
        usual = found[nearest].get(stage, {})
        groups: dict[str, SettingsView] = {}
        for key, value in flat(section):
            group, _, name = key.rpartition(".")
            view = groups.setdefault(group or stage, SettingsView(f"Settings: {group or stage}", [], []))
            was_found = key in run.summary.get("found", ())
            view.rows.append((name, f"{value} (found)" if was_found else value))
            if usual.get(key, value) != value and not was_found:
                view.changed.append((name, f"{value} (preset: {usual[key]})"))
        views += groups.values()
    return nearest, views


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
            rows.append((f"{prefix}{key}", "not set" if value is None else _shown(value)))
    return rows


def _shown(value: Any) -> str:
    """Return a value as text; a list from a file reads like a tuple of settings."""
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
