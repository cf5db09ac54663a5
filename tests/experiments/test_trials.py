"""Records of trials, boards of results, and their page."""

import json
from pathlib import Path

import pytest

from ddarts.errors import RunError
from ddarts.experiments.page import write_page
from ddarts.experiments.trials import Trial, boards
from tests.reporting.test_page import Page

TRIALS = [
    Trial(
        name, data, seed, base + 0.001 * seed, search_s=60.0 if name == "a" else None, train_s=30.0, parameters=12_345
    )
    for data in ("digits", "x <b>")
    for name, base in (("a", 0.95), ("b", 0.90))
    for seed in range(8)
]
FAILED = Trial("b", "digits", 8, error="the loss is not finite at epoch 3; lower --lr")


def test_a_record_is_read_back_and_a_damaged_one_is_an_error(tmp_path: Path):
    path = tmp_path / "r.json"
    assert Trial.load(path) is None
    TRIALS[0].save(path)
    assert Trial.load(path) == TRIALS[0]
    for damage in ({"top1": "high"}, {"seed": 1.5}, {"seed": True}, {"method": None}, {"extra": 1}):
        path.write_text(json.dumps({**json.loads(json.dumps(TRIALS[0].__dict__)), **damage}))
        with pytest.raises(RunError, match=r"r.json: .*delete the file, and resume the study"):
            Trial.load(path)
    path.write_text("{")
    with pytest.raises(RunError, match="cannot be read"):
        Trial.load(path)


def test_a_board_holds_means_intervals_costs_verdicts_and_failures():
    digits, other = boards([*TRIALS, FAILED])
    assert (digits.data, other.data, digits.part) == ("digits", "x <b>", "test")
    row = digits.rows()[0]
    assert row[:2] == ("a", "95.35 %")
    assert row[4:] == ("12.35 k", "-", "1 min 0 s", "30 s")
    low, high = digits.lines[0].interval
    assert 0.95 < low < 0.9535 < high < 0.957
    assert digits.verdicts[0].pairs == 8
    assert digits.notes()[0].startswith("a is better than b by 5.00 points")
    assert digits.notes()[1] == "b, seed 8, failed: the loss is not finite at epoch 3; lower --lr"
    assert json.loads(json.dumps(digits.to_dict()))["methods"][1]["failed"] == {"8": FAILED.error}


def test_a_board_says_in_a_sentence_which_line_is_best_and_from_which_the_tests_distinguish_it():
    digits, _ = boards(TRIALS)
    assert digits.summary() == "a has the highest mean, 95.35 % of 8 seeds; it is distinguishable from b."
    few = boards([trial for trial in TRIALS if trial.seed < 2])[0]
    assert few.summary() == (
        "a has the highest mean, 95.05 % of 2 seeds; it is not distinguishable from b; that takes 6 seeds or more."
    )
    assert boards([FAILED])[0].summary() == ""


def test_a_method_without_a_result_is_listed_all_the_same(tmp_path: Path):
    found = boards([Trial("a", "digits", 0, error="x"), Trial("b", "digits", 0, 0.5)])
    assert found[0].rows()[0] == ("a", "-", "-", "-", "-", "-", "-", "-")
    assert "no seed in common" in found[0].notes()[0]
    page = Page(write_page(found, tmp_path / "p.html", title="t", what="method").read_text())
    assert "no result" in page.words


def test_the_page_shows_a_dot_for_every_trial_and_places_it_by_its_accuracy(tmp_path: Path):
    page = Page(write_page(boards([*TRIALS, FAILED]), tmp_path / "p.html", title="T", what="method").read_text())
    dots = [attrs for tag, attrs in page.tags if tag == "i" and attrs.get("class") == "dot"]
    assert len(dots) == len(TRIALS)
    places = [float(d["style"].removeprefix("left: ").removesuffix("%")) for d in dots[:16]]
    assert places[:8] == sorted(places[:8])
    assert max(places[8:]) < min(places[:8])
    assert 0 <= min(places) < max(places) <= 100
    assert dots[0]["title"] == "seed 0: 95.00\N{NO-BREAK SPACE}%"
    assert "x <b>" in page.words  # as text
    assert page.count("table", "full") == 2
    assert len(page.ids) == len(set(page.ids))


def test_the_axis_does_not_magnify_a_constant(tmp_path: Path):
    same = boards([Trial("a", "d", s, 0.9 + 0.0001 * s) for s in range(3)])
    page = Page(write_page(same, tmp_path / "p.html", title="T", what="method").read_text())
    dots = [attrs["style"] for tag, attrs in page.tags if attrs.get("class") == "dot"]
    assert all(48 <= float(d.removeprefix("left: ").removesuffix("%")) <= 52 for d in dots)
