import json
import shutil
from pathlib import Path

import pytest

from ddarts.config.schema import RunSettings, TrainOptions, TrainSettings
from ddarts.errors import RunError
from ddarts.genotype.distance import architecture_distance, edit_distance
from ddarts.genotype.genotype import Genotype
from ddarts.genotype.zoo.baselines import baseline
from ddarts.reporting.comparison import labels_of, write_comparison
from ddarts.runs.folder import RunFolder
from tests.reporting.test_page import Page


@pytest.fixture
def other(shared_run: RunFolder, tmp_path: Path) -> RunFolder:
    """A copy of the whole run with other results, another genotype and other settings."""
    shutil.copytree(shared_run.path, tmp_path / "other")
    run = RunFolder.open(tmp_path / "other")
    with run:
        run.update_summary(test_top1=0.9, parameters=1_000_000)
    baseline("resnet18").save(run.path / "genotype.json")
    settings = (run.path / "settings.yaml").read_text()
    (run.path / "settings.yaml").write_text(settings.replace("zero_one_weight: 9.0", "zero_one_weight: 2.0"))
    return run


def compared(*runs: RunFolder, target: Path) -> Page:
    return Page(write_comparison([run.path for run in runs], target).read_text(encoding="utf-8"))


def after(page: Page, label: str, count: int) -> list[str]:
    words = [word for word in page.words if word]
    at = words.index(label)
    return words[at + 1 : at + 1 + count]


def test_results_stand_side_by_side_with_the_better_one_marked(
    shared_run: RunFolder, other: RunFolder, tmp_path: Path
) -> None:
    page = compared(shared_run, other, target=tmp_path / "c.html")
    assert after(page, "Test accuracy (top-1)", 3) == ["95.00 %", "(best)", "90.00 %"]
    assert after(page, "Parameters", 3) == ["1.68 M", "1 M", "(best)"]
    assert after(page, "MACs per image", 2) == ["259 M", "259 M"]  # equal: neither is better
    assert {"my run & co", "other"} <= set(page.words)


def test_curves_cells_and_distances_are_compared(shared_run: RunFolder, other: RunFolder, tmp_path: Path) -> None:
    page = compared(shared_run, other, target=tmp_path / "c.html")
    assert page.count("svg", "chart") == 6
    titles = [attrs.get("data-title") for tag, attrs in page.tags if tag == "div" and "data-title" in attrs]
    assert titles == [f"Cell {i}" for i in range(5)]
    assert page.count("svg", "cell-drawing") == 5 + 4
    far = architecture_distance(Genotype.load(shared_run.path), baseline("resnet18"))
    assert page.words.count(f"{far:.3f}") == 2
    differing = edit_distance(Genotype.load(shared_run.path), baseline("resnet18"))
    assert page.words.count(f"{differing:.3f}") == 2
    assert after(page, "search.strategy.zero_one_weight", 2) == [
        "9.0",
        "2.0",
    ]


def test_the_first_sentence_names_the_best_run_and_says_what_may_be_chance(
    shared_run: RunFolder, other: RunFolder, tmp_path: Path
) -> None:
    interval = "60 test images (95 % confidence interval 86.30 % to 98.29 %)"
    (other.path / "test.json").unlink()
    page = compared(shared_run, other, target=tmp_path / "c.html")
    assert f"Only my run & co was tested: 95.00 % of {interval}." in page.words
    test = {"top1": 0.9, "count": 60, "confusion": [[54, 6], [0, 0]]}
    for top1, end in ((0.9, "; the interval of other overlaps it, so the difference may be chance."), (0.5, ".")):
        (other.path / "test.json").write_text(json.dumps(test | {"top1": top1}))
        page = compared(shared_run, other, target=tmp_path / "c.html")
        assert f"my run & co has the highest accuracy: 95.00 % of {interval}{end}" in page.words
    with other:
        other.update_summary(data="cifar10")
    page = compared(shared_run, other, target=tmp_path / "c.html")
    assert "The runs are of different data: their accuracies cannot be compared." in page.words
    assert "(best)" not in page.words


def settings_shown(page: Page) -> list[str]:
    """Return the words between the heading of the settings and that of the versions."""
    words = [word for word in page.words if word]
    return words[words.index("Settings and versions") : words.index("Versions")]


def test_only_the_settings_that_differ_are_listed_whichever_command_made_the_run(tmp_path: Path) -> None:
    runs = []
    for name in ("run", "train"):
        runs.append(RunFolder.create(tmp_path / name))
    whole = RunSettings(seed=1)
    with runs[0], runs[1]:
        runs[0].write_settings("run", whole)
        runs[1].write_settings("train", TrainSettings(**whole.shared(), reference="resnet", train=TrainOptions(lr=0.1)))
        for run in runs:
            run.update_summary(versions={"torch": "2.6"})
    words = settings_shown(compared(*runs, target=tmp_path / "c.html"))
    assert [word for word in words if "." in word and not word[0].isdigit()] == ["train.lr"]
    assert words[-2:] == ["0.025", "0.1"]


def test_a_latency_is_the_best_only_beyond_its_noise(shared_run: RunFolder, other: RunFolder, tmp_path: Path) -> None:
    for median, p95, machine, runtime, best in (
        (3.1, 4.0, "a CPU, 1 thread", None, []),  # the other: 3.21, 95 % below 4.0
        (2.0, 2.5, "a CPU, 1 thread", None, ["(best)"]),
        (2.0, 2.5, "another", None, []),
        (2.0, 2.5, "a CPU, 1 thread", "onnxruntime", []),
    ):
        with other:
            other.update_summary(latency_ms=median, latency_p95_ms=p95, latency_on=machine, latency_runtime=runtime)
        page = compared(shared_run, other, target=tmp_path / "c.html")
        assert after(page, "Latency per image", 2 + len(best)) == ["3.21 ms", f"{median:.3g} ms", *best]
        assert "(best)" not in after(page, "Search time", 3)


def test_the_baseline_of_a_search_joins_the_distances(
    shared_run: RunFolder, whole_run: RunFolder, tmp_path: Path
) -> None:
    baseline("xception").save(whole_run.path / "baseline.json")
    page = compared(shared_run, whole_run, target=tmp_path / "c.html")
    assert page.words.count("baseline Xception") == 4  # in head and row of two tables


def test_runs_that_hold_little_can_be_compared(shared_run: RunFolder, bare_run: RunFolder, tmp_path: Path) -> None:
    page = compared(shared_run, bare_run, target=tmp_path / "c.html")
    assert after(page, "Test accuracy (top-1)", 2) == ["95.00 %", "-"]
    assert "distances" not in page.ids
    assert "classes" not in page.ids
    assert page.count("svg", "cell-drawing") == 5


def test_accuracies_of_classes_are_compared_only_for_the_same_classes(
    shared_run: RunFolder, whole_run: RunFolder, tmp_path: Path
) -> None:
    assert "classes" in compared(shared_run, whole_run, target=tmp_path / "c.html").ids
    test = json.loads((whole_run.path / "test.json").read_text())
    (whole_run.path / "test.json").write_text(json.dumps({**test, "classes": ["x", "y", "z"]}))
    assert "classes" not in compared(shared_run, whole_run, target=tmp_path / "c.html").ids


def test_names_of_runs_tell_them_apart(tmp_path: Path) -> None:
    assert labels_of([tmp_path / "a", tmp_path / "b"]) == ["a", "b"]
    assert labels_of([tmp_path / "x" / "r", tmp_path / "y" / "r"]) == ["x/r", "y/r"]
    assert labels_of([tmp_path / "r", tmp_path / "r"]) == ["r (1)", "r (2)"]


def test_ids_are_unique(shared_run: RunFolder, other: RunFolder, tmp_path: Path) -> None:
    page = compared(shared_run, other, target=tmp_path / "c.html")
    assert len(page.ids) == len(set(page.ids))
    assert (tmp_path / "c.html").stat().st_size < 5_000_000


def test_a_damaged_run_is_an_error_that_names_it(shared_run: RunFolder, other: RunFolder, tmp_path: Path) -> None:
    (other.path / "summary.json").write_text("[]")
    with pytest.raises(RunError, match=r"other.summary.json"):
        write_comparison([shared_run.path, other.path], tmp_path / "c.html")
    assert not (tmp_path / "c.html").exists()
