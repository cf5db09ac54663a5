from pathlib import Path

import pytest

import ddarts
from ddarts.cli.main import main
from ddarts.config.schema import RunSettings
from ddarts.errors import RunError, SettingsError
from ddarts.runs.folder import RunFolder


@pytest.fixture
def runs(tmp_path: Path) -> list[Path]:
    for name in ("a", "b"):
        with RunFolder.create(tmp_path / name) as run:
            run.write_settings("run", RunSettings())
    return [tmp_path / "a", tmp_path / "b"]


def test_one_run_gets_its_report_in_its_folder_or_where_it_is_wanted(runs: list[Path], tmp_path: Path) -> None:
    assert ddarts.report(runs[0]).path == runs[0] / "report.html"
    assert ddarts.report([runs[0]], out=tmp_path / "x.html").path == tmp_path / "x.html"
    assert "This run has no results yet." in (tmp_path / "x.html").read_text()


def test_several_runs_are_compared_on_one_page(
    runs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["report", "a", "b"]) == 0
    assert "comparison.html" in capsys.readouterr().out
    assert "2 runs compared" in Path("comparison.html").read_text()
    assert main(["report", "a", "b", "--out", "comparison.html"]) == 0  # our own page is made again


def test_other_files_are_not_replaced(runs: list[Path], tmp_path: Path) -> None:
    (tmp_path / "notes.html").write_text("mine")
    with pytest.raises(SettingsError, match=r"notes.html is not a page of ddarts"):
        ddarts.report(runs, out=tmp_path / "notes.html")
    assert (tmp_path / "notes.html").read_text() == "mine"
    with pytest.raises(SettingsError, match="is a folder; name a file"):
        ddarts.report(runs, out=tmp_path)


def test_too_many_runs_none_at_all_or_no_run_are_errors(runs: list[Path], tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="13 runs are named; a page shows 1 to 12"):
        ddarts.report(runs[:1] * 13)
    with pytest.raises(SettingsError, match="0 runs are named"):
        ddarts.report([])
    with pytest.raises(RunError, match="there is no such run"):
        ddarts.report([runs[0], tmp_path / "nowhere"], out=tmp_path / "c.html")
    assert not (tmp_path / "c.html").exists()
