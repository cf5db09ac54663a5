from pathlib import Path

import pytest

import ddarts
from ddarts.cli.main import main
from ddarts.config.schema import RunSettings, SearchOptions, TrainOptions
from ddarts.errors import GenotypeError, RunError, SettingsError
from ddarts.genotype.derive import derive_genotype
from ddarts.genotype.gates import Gates
from ddarts.genotype.zoo.baselines import BASELINES
from ddarts.runs.folder import RunFolder
from ddarts.space.cell_space import build_space

SIGNATURES = {".svg": b"<svg", ".png": b"\x89PNG", ".pdf": b"%PDF", ".html": b"<!doctype html>"}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run that was searched, with gates."""
    with RunFolder.create(tmp_path / "run") as folder:
        folder.write_settings("run", RunSettings(search=SearchOptions(cells=3), train=TrainOptions(channels=20)))
    space = build_space("darts", cells=3, nodes=2)
    gates = Gates.from_space(space, [[[0.9 - 0.1 * o for o in range(7)] for _ in space.edges] for _ in range(3)])
    gates.save(folder.path / "gates.json")
    derive_genotype(gates, name="mine").save(folder.path / "genotype.json")
    return folder.path


@pytest.mark.parametrize("ending", SIGNATURES)
@pytest.mark.parametrize("options", [{}, {"cell": 1}, {"network": True}], ids=["cells", "cell", "network"])
def test_everything_can_be_drawn_in_every_form(run: Path, tmp_path: Path, ending: str, options: dict) -> None:
    target = tmp_path / f"drawing{ending.upper() if ending == '.png' else ending}"
    assert ddarts.show(run, out=target, **options).path == target
    assert target.read_bytes().startswith(SIGNATURES[ending])


@pytest.mark.parametrize("name", BASELINES)
def test_a_baseline_is_shown_by_its_name(name: str, tmp_path: Path) -> None:
    result = ddarts.show(name, out=tmp_path / "a.svg", network=True)
    assert result.chain[0] == ("images", "HxW")
    assert len(result.chain) == len(result.genotype) + 3


def test_of_a_run_gates_leads_and_widths_are_known(run: Path, tmp_path: Path) -> None:
    ddarts.show(run, out=tmp_path / "a.svg", cell=0)
    assert "0.900 +0." in (tmp_path / "a.svg").read_text()
    assert dict(ddarts.show(run, network=True).chain)["stem"].startswith("60 channels")
    ddarts.show(run / "genotype.json", out=tmp_path / "b.svg", cell=0)
    assert "0.900" not in (tmp_path / "b.svg").read_text()


def test_a_page_shows_cells_and_chain_or_what_is_asked_for(run: Path, tmp_path: Path) -> None:
    def drawings(**options: object) -> int:
        ddarts.show(run, out=tmp_path / "a.html", **options)  # pyright: ignore[reportArgumentType]
        return (tmp_path / "a.html").read_text().count('class="cell-drawing"')

    assert drawings() == 2 + 1  # the two reduction cells have equal gates, and are one drawing
    assert drawings(cell=2) == 1
    assert drawings(network=True) == 1


def test_the_chain_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "resnet18", "--network"]) == 0
    assert "cell 1 (reduction)   8C channels, H/2 x W/2" in capsys.readouterr().out


def test_with_a_drawing_nothing_but_its_path_is_printed(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    target = tmp_path / "a.svg"
    assert main(["show", "resnet18", "--out", str(target)]) == 0
    shown = "".join(capsys.readouterr().out.split())
    assert shown == "".join(f"ResNet18 drawing {target}".split())


def test_cells_that_never_reach_the_output_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "resnet18"]) == 0
    assert "2 of 4 cells never reach the output: 0, 2" in capsys.readouterr().out
    assert "not built" not in dict(ddarts.show("darts-v2").rows())


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"out": "a.jpg"}, SettingsError, r"out = 'a.jpg': a drawing ends in .svg, .png, .pdf or .html"),
        ({"out": "a"}, SettingsError, r"out = 'a': a drawing ends in .svg, .png, .pdf or .html$"),
        ({"cell": 4}, GenotypeError, "cell = 4 is out of range; the genotype has cells 0 to 3"),
        ({"cell": "x"}, SettingsError, "cell = 'x' must be a whole number"),
        ({"cell": 1, "network": True}, SettingsError, "cell and network exclude each other"),
    ],
)
def test_what_cannot_be_drawn_is_an_error(options: dict, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        ddarts.show("resnet18", **options)


def test_broken_gates_of_a_run_are_an_error_and_a_broken_model_is_left_out(run: Path) -> None:
    (run / "model").mkdir()
    (run / "model" / "config.json").write_text('{"channels": "many", "resolution": [8], "stem": 3, "classes": 1}')
    assert dict(ddarts.show(run, network=True).chain)["stem"].startswith("3C channels, HxW")
    (run / "gates.json").write_text("{")
    with pytest.raises(RunError, match=r"gates.json: .*\(fix or remove the file\)"):
        ddarts.show(run)
