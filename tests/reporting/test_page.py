import base64
import dataclasses
import hashlib
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from ddarts.config.loading import load_settings
from ddarts.config.schema import SearchSettings
from ddarts.errors import RunError
from ddarts.genotype.deepen import deepen
from ddarts.genotype.distance import architecture_distance
from ddarts.genotype.genotype import Genotype
from ddarts.genotype.operation_weights import OperationWeights
from ddarts.genotype.random import random_genotype
from ddarts.genotype.starting import original_genotype
from ddarts.genotype.zoo.baselines import baseline
from ddarts.genotype.zoo.catalogue import zoo_entry
from ddarts.reporting.chosen import CellEvidence
from ddarts.reporting.collect import read_run
from ddarts.reporting.formatting import count_text, milliseconds, percent
from ddarts.reporting.page import settings_of, write_report
from ddarts.reporting.reference import wilson_interval
from ddarts.reporting.results import numbers_of
from ddarts.reporting.views import cell_views
from ddarts.runs.folder import RunFolder
from ddarts.space.cell_space import build_space
from ddarts.space.operations import BUILT_IN_OPERATIONS

VOID = {"meta", "link", "br", "img", "hr", "input"}


class Page(HTMLParser):
    """A page taken apart, which complains about tags that do not close."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data.strip().replace("\N{NO-BREAK SPACE}", " "))

    @property
    def ids(self) -> list[str]:
        return [attrs["id"] for _, attrs in self.tags if "id" in attrs]

    def count(self, tag: str, class_: str) -> int:
        return sum(t == tag and class_ in attrs.get("class", "").split() for t, attrs in self.tags)


def page_of(run: RunFolder) -> Page:
    path = write_report(run.path)
    assert path == run.path / "report.html"
    return Page(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def whole_page(shared_run: RunFolder) -> Page:
    return page_of(shared_run)


def test_a_whole_run_shows_everything(whole_page: Page) -> None:
    page = whole_page
    sections = ["results", "cells", "search", "gates", "training", "test", "settings"]
    assert [i for i in page.ids if i in sections] == sections
    assert page.count("svg", "cell-drawing") == 5 + 1  # and the chain of cells
    assert page.count("svg", "chart") == 5 + 5 + 3
    assert page.count("div", "panel") == 5
    for text in (
        "95.00 %",
        "96.12 %",
        "3.21 ms",
        "1,680,000",
        "1 min 15 s",
        "1 h 4 min",
        "digits",
        "my run & co",
        "2.6",
    ):
        assert text in page.words
    assert "A search of 5 cells for 6 epochs and a training for 6 of 600 epochs at C = 36 on digits." in page.words
    assert {"Settings: run", "Settings: search", "Settings: train", "Versions"} <= set(page.words)
    assert "zero_one_weight" in page.words


def test_the_page_needs_nothing_else_and_runs_no_script_but_its_own(shared_run: RunFolder, whole_page: Page) -> None:
    page = whole_page
    text = (shared_run.path / "report.html").read_text(encoding="utf-8")
    assert not {"iframe", "object", "embed", "form"} & {tag for tag, _ in page.tags}
    assert sum(tag == "script" for tag, _ in page.tags) == 1
    script = text.split("<script>", 1)[1].split("</script>", 1)[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = next(a["content"] for tag, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert f"script-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy
    assert '<script>alert("x")</script>' in " ".join(page.words)  # the genotype's name, as text
    assert not any(name.startswith("on") for _, attrs in page.tags for name in attrs)
    for tag, attrs in page.tags:
        for name in ("src", "href", "xlink:href"):
            assert attrs.get(name, "#").startswith(("#", "data:,", "data:image/png;base64,")), (tag, attrs)
    assert "url(http" not in text
    assert "@import" not in text
    assert len(text) < 5_000_000


def test_ids_are_unique_and_links_lead_somewhere(whole_page: Page) -> None:
    page = whole_page
    assert len(page.ids) == len(set(page.ids))
    links = {a["href"][1:] for tag, a in page.tags if tag == "a"}
    assert links <= set(page.ids)
    assert len(links) == 8


def test_every_drawing_has_a_text_for_readers_who_do_not_see_it(whole_page: Page) -> None:
    page = whole_page
    assert all(attrs.get("aria-label") for tag, attrs in page.tags if tag == "svg")
    assert page.words.count("Numbers") == 5 + 5 + 3
    assert sum(word.endswith("in words") for word in page.words) == 5


def test_each_operation_is_shown_with_its_gate_and_lead(whole_page: Page) -> None:
    page = whole_page
    start = page.words.index("above the runner-up")
    row = [word for word in page.words[start + 1 : start + 30] if word][:6]
    assert row[1:4] == ["c", "k\N{MINUS SIGN}2", "node 0"]
    assert 0.85 <= float(row[4]) <= 1
    assert 0 <= float(row[5]) <= 1


def test_inputs_of_cells_have_real_subscripts(shared_run: RunFolder, whole_page: Page) -> None:
    text = (shared_run.path / "report.html").read_text(encoding="utf-8")
    assert "<td>c<sub>k\N{MINUS SIGN}2</sub></td><td>node 0</td>" in text  # a table of operations
    assert re.search(
        r"<th scope=.row.>\w+, c<sub>k\N{MINUS SIGN}\d</sub> to node 0</th>", text
    )  # the numbers of a chart
    assert re.search(r"node 0 = \w+\(c<sub>k\N{MINUS SIGN}\d</sub>\)", text)  # a cell in words
    # hints and texts for screen readers hold no tags
    rest = re.sub(r"<(title|desc|script)\b.*?</\1>|<[^>]*>", "", text, flags=re.DOTALL)
    assert "c_{k" not in rest


def test_of_other_texts_nothing_becomes_a_tag(whole_run: RunFolder) -> None:
    genotype = Genotype.load(whole_run.path)
    dataclasses.replace(genotype, name="c_{k-1} <sub>").save(whole_run.path / "genotype.json")
    assert "c_{k-1} <sub>" in " ".join(page_of(whole_run).words)


def test_test_results_are_shown_by_class_and_by_mistake(whole_page: Page) -> None:
    page = whole_page
    words = [word for word in page.words if word]
    at = words.index("Most frequent mistakes")
    assert words[at + 6 : at + 14] == ["dog <b>", "cat", "2", "10.00 %", "dog <b>", "bird", "1", "5.00 %"]
    assert "85.00 %" in words
    assert page.count("td", "hit") == 3
    assert page.count("td", "miss") == 2
    assert page.count("td", "none") == 4


def test_the_worst_mistakes_are_shown_with_their_images(whole_page: Page) -> None:
    pictures = [attrs for tag, attrs in whole_page.tags if tag == "img"]
    assert [p["alt"] for p in pictures] == ["pets/x.png: dog <b>"]
    assert pictures[0]["src"].startswith("data:image/png;base64,iVBOR")
    assert whole_page.count("span", "blank") == 1  # of the other there is no picture
    words = [word for word in whole_page.words if word]
    at = words.index("Worst mistakes")
    assert words[at + 2 : at + 6] == ["bird", "99.00 %", "is dog <b> (0.50 %)", "pets/x.png"]


def test_the_lead_of_each_chosen_operation_stands_beside_its_chart(whole_page: Page) -> None:
    assert [w for w in whole_page.words if w.startswith("Chosen in")] == [f"Chosen in cell {i}" for i in range(5)]


def test_distances_are_told_in_the_weights_that_the_search_took(whole_run: RunFolder) -> None:
    baseline("resnet18").save(whole_run.path / "baseline.json")
    weights = OperationWeights({name: 1.0 + 9.0 * (name == "sep_conv_3x3") for name in BUILT_IN_OPERATIONS})
    weights.save(whole_run.path / "operation_weights.json")
    found = Genotype.load(whole_run.path)
    far, published = (architecture_distance(found, baseline("resnet18"), w) for w in (weights, None))
    assert far != pytest.approx(published, rel=0.01)
    assert numbers_of(read_run(whole_run.path))["distance"] == far


def test_a_search_from_a_baseline_shows_how_far_it_went(whole_run: RunFolder) -> None:
    records = [json.loads(line) for line in (whole_run.path / "metrics.jsonl").read_text().splitlines()]
    for record in records:
        if record["stage"] == "search" and record["kind"] == "epoch":
            record["distance"] = 0.1 * record["epoch"] if record["epoch"] > 1 else None
    records.append({"stage": "pretrain", "kind": "epoch", "epoch": 1, "step": 1, "train_loss": 2.0})
    (whole_run.path / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    baseline("resnet18").save(whole_run.path / "baseline.json")
    page = page_of(whole_run)
    assert {"Baseline", "Weights alone: loss"} <= set(page.words)
    assert any(word.startswith("ResNet18 (2 of 4 cells never reach the output: 0, 2") for word in page.words)
    assert {"Hausdorff distance to the baseline", "Edit distance to the baseline"} <= set(page.words)
    assert page.words.count("Distance to the baseline") == 2  # chart and its table
    assert sum(word.startswith("Compared with the baseline: ") for word in page.words) == 4


def test_a_search_from_a_network_shows_what_changed_and_what_it_costs(tmp_path: Path) -> None:
    before = original_genotype("timm:mobilenetv3_small_050")
    blocks = ("kernel5", *before.choices[1:])
    with RunFolder.create(tmp_path / "found") as run:
        run.write_settings("search", SearchSettings())
        run.update_summary(
            search_s=3.0, distance=1 / len(before), against_baseline={"parameters": [2000, 1000], "macs": [500, 500]}
        )
    before.save(run.path / "baseline.json")
    replace(before, choices=blocks).save(run.path / "genotype.json")
    page = page_of(run)
    assert {"2,000 \N{RIGHTWARDS ARROW} 1,000 (-50.0 %)", "500 \N{RIGHTWARDS ARROW} 500"} <= set(page.words)
    changed = page.words.index(f"Changed: {before.facts.choices[0].name}")
    assert "original \N{RIGHTWARDS ARROW} kernel5" in page.words[changed : changed + 3]
    assert f"1 of {len(before)}" in page.words
    (drawing,) = (attrs for tag, attrs in page.tags if tag == "details" and "open" in attrs)  # what print shows
    assert drawing["class"] == "card"


def test_the_first_sentence_says_how_good_the_result_is(whole_page: Page) -> None:
    (sentence,) = (word for word in whole_page.words if "are classified correctly" in word and "interval" in word)
    assert sentence.startswith(
        "95.00 % of 60 test images are classified correctly (95 % confidence interval 86.30 % to 98"
    )
    assert sentence.endswith(
        "; always naming the most frequent class would give 33.33 %; the weakest class is dog <b> with 85.00 %."
    )
    (command,) = (word for word in whole_page.words if word.startswith("ddarts train --data digits "))
    assert "--epochs 1200" in command  # its curve rises to the end


def test_a_search_alone_says_that_a_training_is_missing_and_how_to_do_it(tmp_path: Path) -> None:
    with RunFolder.create(tmp_path / "found") as run:
        run.write_settings("search", SearchSettings())
        run.update_summary(search_s=3.0, data="my photos")
    page = page_of(run)
    assert "How good this network is shows once it is trained; it was not trained yet." in page.words
    assert "ddarts train --genotype found --data 'my photos' --reference resnet" in page.words


def test_a_standard_network_stands_in_the_first_sentence_and_in_the_tiles(whole_run: RunFolder) -> None:
    other = {"title": "ResNet-8", "channels": 4, "parameters": 90, "test_top1": 0.9, "val_top1": 0.8, "count": 60}
    with whole_run:
        whole_run.update_summary(reference={**other, "verdict": "better than ResNet-8 of the same size by 5.0 points"})
    page = page_of(whole_run)
    (sentence,) = (word for word in page.words if "are classified correctly" in word and "interval" in word)
    assert "98.29 %), better than ResNet-8 of the same size by 5.0 points; always" in sentence
    assert "ResNet-8, C = 4: 90" in page.words
    assert "ResNet-8, C = 4: 90.00 % (79.85 % to 95.34 %)" in page.words
    assert "96.12 % (standard network: 80.00 %)" in page.words
    assert page.words.count("Parameters") == 1


def test_wilson_intervals_are_those_of_the_formula() -> None:
    assert wilson_interval(0.95, 60) == pytest.approx((0.8630, 0.9829), abs=1e-4)
    assert wilson_interval(1.0, 10) == pytest.approx((0.7225, 1.0), abs=1e-4)


def test_numbers_at_the_top_are_not_repeated_below(whole_page: Page) -> None:
    for label in ("Parameters", "MACs per image", "Test accuracy (top-1)", "Search time"):
        assert whole_page.words.count(label) == 1


def test_settings_that_differ_from_the_preset_are_shown_and_all_can_be_unfolded(tmp_path: Path) -> None:
    with RunFolder.create(tmp_path / "r") as run:
        run.write_settings("train", load_settings("train", preset="small", overrides={"epochs": 7}))
    preset, (view,) = settings_of(read_run(run.path))  # shared settings and those of its stage under one heading
    assert (preset, view.title, view.changed) == ("small", "Settings: train", [("epochs", "7 (preset: 5)")])
    assert {("batch", "96"), ("seed", "0")} <= set(view.rows)


def test_equal_cells_are_one_drawing(whole_run: RunFolder) -> None:
    genotype = zoo_entry("darts-v2").genotype()
    views = cell_views(genotype, [])
    assert [view.title for view in views] == ["cells 0-5, 7-12, 14-19, x 18", "cells 6, 13 (reduction), x 2"]
    assert [view.count for view in views] == [18, 2]
    alike = cell_views(genotype, [], genotype, (0.0,) * 20)
    assert [view.title for view in alike] == [view.title for view in views]
    far = cell_views(genotype, [], genotype, (0.0, 0.1) * 10)
    assert [view.count for view in far] == [9, 9, 1, 1]  # other distances to the baseline
    gates = [dict.fromkeys(cell.edges, 0.5 + (i == 4) * 0.1) for i, cell in enumerate(genotype.cells)]
    proofs = [CellEvidence(i, of_cell, {}) for i, of_cell in enumerate(gates)]
    assert len(cell_views(genotype, proofs)) == len(views) + 1


def test_a_run_that_has_only_begun_says_so(bare_run: RunFolder) -> None:
    page = page_of(bare_run)
    assert "This run has no results yet." in page.words
    assert page.ids == ["theme", "main", "results", "settings"]
    assert page.count("svg", "chart") == 0


def test_a_searched_run_without_training_shows_its_search(whole_run: RunFolder) -> None:
    for name in ("summary.json", "test.json"):
        (whole_run.path / name).unlink()
    lines = (whole_run.path / "metrics.jsonl").read_text().splitlines()
    (whole_run.path / "metrics.jsonl").write_text("\n".join(x for x in lines if '"search"' in x) + "\n")
    page = page_of(whole_run)
    assert "search" in page.ids
    assert "training" not in page.ids
    assert "test" not in page.ids


def test_a_genotype_without_gates_is_drawn_without_them(whole_run: RunFolder) -> None:
    (whole_run.path / "metrics.jsonl").unlink()
    (whole_run.path / "gates.json").unlink()
    page = page_of(whole_run)
    assert page.count("svg", "cell-drawing") == 5 + 1
    assert "gates" not in page.ids


def test_a_deeper_genotype_keeps_its_gates(whole_run: RunFolder) -> None:
    (whole_run.path / "metrics.jsonl").unlink()
    path = whole_run.path / "genotype.json"
    deepen(Genotype.load(path), 12).save(path)
    page = page_of(whole_run)
    assert page.count("svg", "cell-drawing") == 5 + 1  # repeated cells have the same gates
    assert any(word.endswith(", x 4") for word in page.words)
    assert not any("cells are not drawn" in word for word in page.words)


def test_a_very_deep_genotype_leaves_drawings_out_and_says_how_many(whole_run: RunFolder) -> None:
    for name in ("metrics.jsonl", "gates.json"):
        (whole_run.path / name).unlink()
    space = build_space("darts", cells=100)
    cells = [cell for seed in range(4) for cell in random_genotype(space, seed=seed).cells]  # pyright: ignore
    Genotype(tuple(cells)).save(whole_run.path / "genotype.json")
    page = page_of(whole_run)
    drawn = page.count("svg", "cell-drawing")
    assert 100 < drawn < 400
    assert f"{400 - drawn} more cells are not drawn here; genotype.json lists them." in page.words
    assert (whole_run.path / "report.html").stat().st_size < 5_000_000


def test_many_classes_get_a_list_of_mistakes_and_no_matrix(whole_run: RunFolder) -> None:
    (whole_run.path / "metrics.jsonl").unlink()
    size = 61
    confusion = [[9 if i == j else 1 if j == i + 1 else 0 for j in range(size)] for i in range(size)]
    (whole_run.path / "test.json").write_text(json.dumps({"top1": 0.9, "confusion": confusion}))
    page = page_of(whole_run)
    assert page.count("table", "matrix") == 0
    assert any(word.startswith("With 61 classes the whole matrix is too large") for word in page.words)
    assert "10.00 %" in page.words


def test_classes_without_names_are_numbered(whole_run: RunFolder) -> None:
    (whole_run.path / "metrics.jsonl").unlink()
    (whole_run.path / "test.json").write_text('{"top1": 0.5, "confusion": [[1, 1], [0, 0]], "classes": []}')
    words = [word for word in page_of(whole_run).words if word]
    at = words.index("Most frequent mistakes")
    assert words[at + 6 : at + 10] == ["0", "1", "1", "50.00 %"]


def test_a_class_without_test_images_has_no_accuracy(whole_run: RunFolder) -> None:
    (whole_run.path / "metrics.jsonl").unlink()
    (whole_run.path / "test.json").write_text('{"top1": 1.0, "confusion": [[3, 0], [0, 0]], "classes": ["a", "b"]}')
    page = page_of(whole_run)
    assert "-" in page.words
    assert "None." in page.words


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("gates.json", "{", "line 1, column 2"),
        ("genotype.json", '{"format": "x", "version": 1}', "format is 'x'"),
        ("summary.json", "[]", "expected an object, found list"),
        ("settings.yaml", "a: [", ""),
        ("test.json", "{", "cannot be read"),
        ("test.json", "[" * 100_000, "cannot be read"),
        ("test.json", '{"top1": "high"}', "expected an object with top1, a number"),
        ("test.json", '{"top1": 1, "confusion": [[1, 2]]}', "confusion must be a square table of counts"),
        ("test.json", '{"top1": 1, "confusion": [[-1]]}', "confusion must be a square table of counts"),
        ("test.json", '{"top1": 1, "confusion": [[1]], "classes": ["a", "b"]}', "classes must be 1 names"),
        ("test.json", '{"top1": 1, "confusion": [[1]], "loss": "x"}', "loss must be a number"),
        ("test.json", '{"top1": 1, "mistakes": 3}', "mistakes must be a list"),
        ("test.json", '{"top1": 1, "mistakes": [{"image": "a"}]}', "mistakes[0] must have image, truth and taken"),
        (
            "test.json",
            '{"top1": 1, "mistakes": [{"image": 1, "truth": 9, "taken": 0, "confidence": 1, "chance": 0}]}',
            "mistakes[0] must name two of the 0 classes",
        ),
        ("baseline.json", "[]", "baseline.json"),
        ("metrics.jsonl", '{"stage": "train", "kind": "epoch", "epoch": 1, "lr": []}\n', "'lr' holds '[]'"),
    ],
)
def test_a_damaged_file_is_an_error_of_one_line_that_names_it(
    whole_run: RunFolder, name: str, content: str, message: str
) -> None:
    (whole_run.path / name).write_text(content)
    with pytest.raises(RunError) as caught:
        write_report(whole_run.path)
    assert name in str(caught.value)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (whole_run.path / "report.html").exists()


def test_a_folder_without_a_run_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="holds no run"):
        write_report(tmp_path)


def test_counts_and_shares_read_well() -> None:
    assert [count_text(n) for n in (999, 1500, 1_680_000, 8_600_000_000)] == ["999", "1.5 k", "1.68 M", "8.6 G"]
    assert milliseconds(3.2149) == "3.21 ms"
    assert [percent(x) for x in (0.97333, None)] == ["97.33 %", "-"]
