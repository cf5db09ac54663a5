"""``ddarts report``: the page of a run, or one that compares several."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from ddarts.errors import DDartsError, RunError, SettingsError
from ddarts.pipeline import keep_costs
from ddarts.results import ReportResult
from ddarts.runs.folder import RunFolder

PathLike = str | os.PathLike[str]

#: Runs that one page compares.
MOST_RUNS = 12
_MARK = b'<meta name="generator" content="ddarts">'


def report(runs: PathLike | Sequence[PathLike], *, out: PathLike | None = None) -> ReportResult:
    """Write the report of a run, a comparison or a study, or a page that compares several runs, from their folders.

    Args:
        runs: a run, or up to 12 of them.
        out: the file; ``report.html`` in the folder of a single run, ``comparison.html`` here for several.

    Raises:
        RunError: one of them is no run or is damaged, or the page cannot be written.
        SettingsError: no run or too many are named, or `out` is a file that ddarts did not write.
    """
    paths = [Path(runs)] if isinstance(runs, str | os.PathLike) else [Path(run) for run in runs]
    if not 1 <= len(paths) <= MOST_RUNS:
        raise SettingsError(f"{len(paths)} runs are named; a page shows 1 to {MOST_RUNS}")
    folders = [RunFolder.open(path) for path in paths]
    target = Path("comparison.html") if out is None and len(folders) > 1 else None if out is None else Path(out)
    if target is not None:
        _check_target(target)
    many = next((f for f in folders if {"compare", "study"} & set(f.stages)), None)
    if many is not None and len(folders) > 1:
        raise SettingsError(
            f"{many.path} holds many runs and has its own page: ddarts report {many.path}; leave it out"
        )
    if many is not None:
        from ddarts.api.compare import report_comparison
        from ddarts.api.study import report_study

        page_of = report_study if "study" in many.stages else report_comparison
        return ReportResult(page_of(many, target))
    for folder in folders:
        _measure(folder)
    if len(folders) == 1:
        from ddarts.reporting.page import write_report

        return ReportResult(write_report(folders[0].path, target))
    from ddarts.reporting.comparison import write_comparison

    assert target is not None
    return ReportResult(write_comparison([folder.path for folder in folders], target))


def _check_target(path: Path) -> None:
    """Raise unless `path` is free or holds a page of ddarts, which can be written again."""
    if path.is_dir():
        raise SettingsError(f"{path} is a folder; name a file for the page with --out")
    try:
        with path.open("rb") as stream:
            head = stream.read(2000)
    except FileNotFoundError:
        return
    except OSError as error:
        raise RunError(f"{path}: cannot be read: {error.strerror}; name another file with --out") from None
    if head and _MARK not in head:
        raise SettingsError(f"{path} is not a page of ddarts; name another file with --out")


def _measure(run: RunFolder) -> None:
    """Measure the latency of a run's model if its training did not and the run can be written."""
    try:
        with run:
            keep_costs(run)
    except DDartsError:
        pass
