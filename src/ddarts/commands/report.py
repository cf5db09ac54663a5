"""``ddarts report``: the page of a run."""

from __future__ import annotations

import os

from ddarts.outcomes import ReportResult
from ddarts.runs import RunFolder

PathLike = str | os.PathLike[str]


def report(run: PathLike) -> ReportResult:
    """Write the report of a run, a page that needs no other file, from what lies in its folder."""
    from ddarts.reporting.page import write_report

    return ReportResult(write_report(RunFolder.open(run).path))
