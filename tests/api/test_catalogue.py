"""`ddarts zoo` and `ddarts baselines`."""

import json
import subprocess
import sys
import time

import pytest

import ddarts
from ddarts.cli.main import main
from ddarts.errors import SettingsError


def printed(capsys, *arguments):
    assert main(list(arguments)) == 0
    return capsys.readouterr().out


def test_the_zoo_is_a_table_with_counted_beside_published_figures(capsys):
    out = printed(capsys, "zoo")
    line = next(line for line in out.splitlines() if line.startswith(" fairdarts-a"))
    assert " ".join(line.split()) == "fairdarts-a 1911.12126, 2019 20 36 2.36 M 2.83 M* 371.5 M 373 M 97.46"
    assert "* with the auxiliary head" in out
    assert "+ of a network of 14 cells" in out
    assert len([line for line in out.splitlines() if ", 20" in line]) == 31
    assert max(map(len, out.splitlines())) <= 120
    assert "…" not in out


def test_the_zoo_answers_in_two_seconds_without_torch():
    code = (
        "import sys; from ddarts.cli.main import main; main(['zoo']); main(['baselines']); "
        "print('torch' in sys.modules)"
    )
    start = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("False\n")
    assert time.monotonic() - start < 10  # about 0.4 s on an idle machine


def test_the_zoo_as_json_holds_sources_and_figures(capsys):
    entries = {entry["name"]: entry for entry in json.loads(printed(capsys, "zoo", "--json"))["entries"]}
    assert len(entries) == 31
    assert entries["darts-v2"]["size"]["parameters"] == 3_349_342
    assert entries["darts-v2"]["published"][0]["parameters_m"] == 3.3
    assert entries["dd-cifar10-edge"]["arxiv"] == "2108.09306"


def test_one_entry_shows_its_cells_once_and_its_figures(capsys):
    out = printed(capsys, "zoo", "DARTS_V2")
    assert "3,349,342 (3.35 M)" in out
    assert "DARTS_V2, 3.3 M parameters, 528 M MACs, top-1 97.00 %" in out
    assert "cells 0-5, 7-12, 14-19   normal" in out
    assert out.count("output ") == 2


def test_another_depth_and_width_are_counted_anew():
    small = ddarts.zoo("darts-v2", layers=8, channels=16)
    assert len(small.genotype) == 8
    assert (small.size.cells, small.size.channels) == (8, 16)
    assert 0 < small.size.parameters < 500_000
    assert small.to_dict()["counted"]["macs"] == small.size.macs


def test_baselines_are_listed_with_their_sequence_and_size(capsys):
    out = printed(capsys, "baselines")
    line = next(line for line in out.splitlines() if line.startswith(" resnet50"))
    assert " ".join(line.split()) == "resnet50 4 0 1 2 0 1 2 3 15.95 M 609.3 M"
    assert "C = 64" in out
    listed = json.loads(printed(capsys, "baselines", "--json"))["baselines"]
    assert [row["name"] for row in listed] == ["resnet18", "resnet50", "xception", "inceptionv4"]
    assert listed[2]["reductions"] == [1, 2, 11, 12]


def test_baselines_at_another_width_are_counted_anew():
    narrow, wide = ddarts.baselines(channels=8), ddarts.baselines()
    assert narrow.channels == 8
    for small, large in zip(narrow.baselines, wide.baselines, strict=True):
        assert small.size.parameters < large.size.parameters / 10


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["zoo", "dart-v2"], "unknown entry of the zoo 'dart-v2'; did you mean 'darts-v2'?"),
        (["zoo", "--layers", "8"], "layers and channels belong to one entry"),
        (["zoo", "snas", "--layers", "x"], "layers = 'x' must be a whole number"),
        (["zoo", "snas", "--layers", "0"], "layers = 0 is out of range; choose 1 to 1000"),
        (["zoo", "dd-cifar10-edge", "--layers", "7"], "layers = 7 is fewer than the 8 searched cells"),
        (["baselines", "--channels", "0"], "channels = 0 is out of range"),
    ],
)
def test_what_cannot_be_shown_is_one_line_and_status_2(capsys, arguments, told):
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert told in error
    assert error.count("\n") == 1


def test_the_function_raises_what_the_command_prints():
    with pytest.raises(SettingsError, match="name it, as in ddarts zoo darts-v2 --layers 8"):
        ddarts.zoo(layers=8)
