import json
import os
import re
import signal
import subprocess
import sys
import typing
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import ddarts
from ddarts import Edge, Genotype
from ddarts.cli.main import main
from ddarts.cli.options import documented_fields
from ddarts.cli.table import COMMANDS
from ddarts.config.layers import GROUPS, STAGES
from ddarts.config.schema import DeriveOptions, SearchOptions, SearchSettings, TrainSettings
from ddarts.errors import Stopped
from ddarts.genotype.genotype import CellGenotype
from ddarts.results import ReportResult
from ddarts.runs.folder import RunFolder
from ddarts.space.cell_space import build_space


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def genotype():
    cell = CellGenotype((Edge("sep_conv_3x3", 0, 2), Edge("skip_connect", 1, 2)), (2,))
    reduction = CellGenotype((Edge("max_pool_3x3", 0, 2),), (2,), reduction=True)
    return Genotype((cell, reduction, cell), "mine")


def complaint(capsys, *arguments, status=2):
    """Run a command that must fail with one line on stderr and nothing on stdout; return the line."""
    assert main([str(a) for a in arguments]) == status
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = [line for line in captured.err.splitlines() if line.startswith("ddarts: ")]
    assert len(lines) == 1
    assert "Traceback" not in captured.err
    return lines[0].removeprefix("ddarts: ")


# -- bad input: one line, exit status 2 --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("serch", "unknown command 'serch'; did you mean 'search'?"),
        ("--jsn", "unknown option '--jsn'"),
        ("search --epoch 3", "unknown option '--epoch' of ddarts search; did you mean '--epochs'?"),
        ("run --epochs 3", "unknown option '--epochs' of ddarts run; did you mean '--search.epochs' or '--train.ep"),
        ("search --zzzzzz 3", "unknown option '--zzzzzz' of ddarts search; --help-all lists all options"),
        ("search --epoch=3", "unknown option '--epoch' of ddarts search; did you mean '--epochs'?"),
        ("search --epochs", "argument --epochs: expected one argument; see ddarts search --help"),
        ("search now", "unexpected argument 'now'; see ddarts search --help"),
        ("derive", "the following arguments are required: RUN|GATES; see ddarts derive --help"),
        ("search --preset dmo", "unknown preset 'dmo'; did you mean 'demo'?"),
        ("search --epochs x", "epochs = 'x' must be a whole number"),
        ("search --lr -1", "lr = -1 must be above 0.0"),
        ("run --train.lr 0", "train.lr = 0 must be above 0.0"),
        ("search --alpha-lr 1e38", "alpha_lr = 1e38 must be at most 1e+30"),
        ("search --threshold 1.5", "threshold = 1.5 must be at most 1.0"),
        ("search --cells 8 --layers 7", "layers = 7 is fewer than the 8 cells that are searched; choose 8 or more"),
        ("run --search.cells 8 --derive.layers 7", "layers = 7 is fewer than the 8 cells that are searched"),
        ("search --reductions 9", "reductions [9] must lie between 0 and 3, the last cell"),
        ("search --device gpu", "device = 'gpu' is unknown; use auto, cpu, cuda or cuda:N"),
        ("search --device cpu --precision fp16", "precision 'fp16' needs a GPU"),
        ("search --data nowhere", "data 'nowhere': no such data set or folder"),
        ("search --batch 4000", "batch = 4000 is larger than half of the training images"),
        ("run --train.batch 4000", "batch = 4000 is larger than the 1295 training images; choose at most 1295"),
        ("search --reductions 0,1,2,3", "images of 8x8 pixels are too small for 4 reductions after the cifar stem: 3"),
        ("search --config nowhere.yaml", "nowhere.yaml: no such file; check the path"),
        ("search --resume nowhere", "nowhere: there is no such run"),
        ("run --resume nowhere --out x", "continues in the folder of the run; leave out --out and --overwrite"),
        ("derive nowhere", "nowhere: no such gates file"),
        ("train", "no genotype to train; name its file, or a run that has one, with --genotype"),
        ("train --genotype nowhere", "nowhere: no such genotype file"),
        ("test nowhere", "nowhere: there is no such model or run"),
        ("predict x.png", "no run with a trained model in runs; name one with --model RUN, or make one: ddarts run"),
        ("predict --model nowhere x.png", "nowhere: there is no such model or run"),
        ("predict --top x x.png", "top = 'x' must be a whole number"),
        ("predict --top 0 x.png", "top = 0 must be at least 1"),
        ("show nowhere", "nowhere: no such genotype file"),
        ("report nowhere", "nowhere: there is no such run"),
        (f"report {'n' * 300}", f"{'n' * 100}...: File name too long; name another path"),
        (f"test {'n' * 300}", "File name too long; name another path"),
        (f"train --genotype {'n' * 300}", "File name too long; name another path"),
        ("run --time 30x", "time = '30x' must be a duration, such as 90s, 30m or 2h30m"),
        ("run --time -5m", "time = '-5m' must be a duration"),
        ("run --time 0s", "time = '0s' must be above 0.0"),
        ("run --search.lr -1e-3", "search.lr = -1e-3 must be above 0.0"),
        ("search --config .", ".: cannot be read: Is a directory; name another file"),
        ("study --seeds 0", "seeds = 0 must be at least 1"),
        ("study --draws x", "draws = 'x' must be a whole number"),
        ("study --table .", ".: cannot be read: Is a directory; give a table"),
        ("compare resnet18", "a comparison needs at least 2 architectures, 1 given; name more"),
        ("distance resnet18", "1 architecture given; a distance needs at least two"),
        ("show resnet18 --out x.doc", "a drawing ends in .svg, .png, .pdf or .html; did you mean '.pdf'?"),
        ("run --max-latency 5xs", "max_latency = '5xs' has the unknown unit 'xs'; use us, ms, s"),
        ("run --never-larger", "never_larger has no effect without a baseline; name one, or leave never_larger out"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line_and_exit_status_2(capsys, tmp_path, arguments, message):
    assert message in complaint(capsys, *arguments.split())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_cuda_where_there_is_none(capsys):
    assert "device 'cuda' is not available: torch finds no CUDA GPU; use --device cpu" in complaint(
        capsys, "search", "--device", "cuda"
    )


def test_a_file_in_the_way_of_a_folder_is_named(capsys, tmp_path, genotype):
    (tmp_path / "file").touch()
    genotype.save(tmp_path / "g.json")
    line = complaint(capsys, "show", "g.json", "--out", "file/cell.svg")
    assert "file/cell.svg: cannot be written: file is a file, not a folder; name another" in line


def test_a_fault_in_a_settings_file_is_named_with_its_line(capsys, tmp_path):
    (tmp_path / "my.yaml").write_text("search:\n  epoch: 3\n")
    assert complaint(capsys, "search", "--config", "my.yaml") == (
        "error: my.yaml: line 2: unknown setting 'search.epoch'; did you mean 'search.epochs'?"
    )


def test_a_folder_in_use_or_not_writable_is_refused_before_work_starts(capsys, tmp_path, monkeypatch):
    RunFolder.create(tmp_path / "old").close()
    assert "old holds a run already" in complaint(capsys, "search", "--out", "old")
    (tmp_path / "file").touch()
    assert "file is a file, not a folder" in complaint(capsys, "search", "--out", "file")
    monkeypatch.setattr("ddarts.runs.folder.os.access", lambda path, mode: False)
    assert "no permission to write; choose another folder with --out" in complaint(capsys, "search", "--out", "new")
    assert not (tmp_path / "new").exists()


def test_a_resume_with_other_settings_lists_them(capsys, tmp_path):
    with RunFolder.create(tmp_path / "r") as run:
        run.write_settings("search", SearchSettings(search=SearchOptions(epochs=5)))
    line = complaint(capsys, "search", "--resume", "r", "--epochs", "6", "--seed", "0")
    assert line == (
        "error: r cannot be resumed with other settings: search.epochs (the run has 5, given is 6); "
        "leave them out to resume it, or start a new run: results would differ"
    )
    line = complaint(capsys, "train", "--resume", "r")
    assert "r was not made by `ddarts train`; resume it with ddarts search --resume r" in line


def test_a_broken_genotype_is_named_with_the_path_into_the_file(capsys, tmp_path, genotype):
    text = genotype.to_json()
    (tmp_path / "a.json").write_text(text.replace("sep_conv_3x3", "sep_conv_3x4"))
    assert "unknown operation 'sep_conv_3x4'; did you mean 'sep_conv_3x3'?" in complaint(capsys, "show", "a.json")
    (tmp_path / "a.json").write_text(text.replace('"version": 1', '"version": 7'))
    assert "version 7 cannot be read" in complaint(capsys, "train", "--genotype", "a.json")
    (tmp_path / "a.json").write_text(text[:-10])
    assert "a.json: line " in complaint(capsys, "show", "a.json")


def test_a_run_that_has_its_genotype_takes_no_other(capsys, tmp_path, genotype):
    genotype.save(tmp_path / "g.json")
    with RunFolder.create(tmp_path / "r") as run:
        run.write_settings("train", TrainSettings())
    line = complaint(capsys, "train", "--resume", "r", "--genotype", "g.json")
    assert "r has its genotype; leave out --genotype to resume it" in line


# -- other ends --------------------------------------------------------------------------------------------------------


def test_debug_shows_the_traceback(capsys):
    assert main(["show", "nowhere", "--debug"]) == 2
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (Stopped("stopped at epoch 3; go on with: x"), 130, "ddarts: stopped at epoch 3; go on with: x"),
        (KeyboardInterrupt(), 130, "ddarts: interrupted"),
        (
            ZeroDivisionError("division by zero\nmore"),
            1,
            "ddarts: error: unexpected ZeroDivisionError: division by zero; this is a bug in ddarts; rerun with --",
        ),
        (
            RuntimeError("CUDA out of memory. Tried"),
            2,
            "ddarts: error: out of memory: CUDA out of memory. Tried; choose a",
        ),
    ],
)
def test_other_ends_have_their_own_line_and_status(capsys, monkeypatch, error, status, line):
    def fail(source, **_):
        raise error

    monkeypatch.setattr("ddarts.api.report.report", fail)
    assert main(["report", "r"]) == status
    captured = capsys.readouterr()
    assert captured.err.startswith(line)
    assert captured.err.count("\n") == 1


def test_a_reader_that_goes_away_is_no_error(tmp_path, genotype):
    genotype.save(tmp_path / "g.json")
    code = "import sys; from ddarts.cli.main import main; sys.exit(main(['show', 'g.json']))"
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([sys.executable, "-c", code], stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.parametrize("options", [[], ["--json"], ["--help"]])
@pytest.mark.parametrize("output", [">&-", "> /dev/full"])
def test_a_closed_or_full_output_is_one_line(output, options):
    command = f"{sys.executable} -m ddarts zoo {' '.join(options)} {output}"
    done = subprocess.run(command, shell=True, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert re.match("ddarts: error: (standard output is closed|the output cannot be written: No space)", done.stderr)


def test_without_a_stderr_results_stay_on_stdout_alone():
    done = subprocess.run(f"{sys.executable} -m ddarts zoo --json 2>&-", shell=True, stdout=subprocess.PIPE, text=True)
    assert done.returncode == 0
    json.loads(done.stdout)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_in_the_first_second_ends_with_a_line(number):
    code = (
        "import os, sys; from ddarts.cli.main import main; import ddarts.api.catalogue as c; "
        f"c.zoo = lambda **_: os.kill(os.getpid(), {int(number)}); sys.argv[1:] = ['zoo']; sys.exit(main())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr.startswith("ddarts: interrupted")
    assert done.stderr.count("\n") == 1


def test_a_process_that_is_lost_before_the_first_step_is_no_bug(monkeypatch, capsys):
    from torch import distributed

    def lost(**_):
        raise distributed.DistNetworkError("Broken pipe")

    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr("ddarts.api.catalogue.zoo", lost)
    assert main(["zoo"]) == 2
    told = "ddarts: error: another of the 2 processes has ended or cannot be reached; start all again, with --resume"
    assert capsys.readouterr().err.startswith(told)


def test_a_signal_after_the_last_word_ends_without_another():
    code = (
        "import atexit, os, sys; from ddarts.cli.main import main; atexit.register(lambda: os.kill(os.getpid(), 15)); "
        "sys.argv[1:] = ['zoo', '--json']; sys.exit(main())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (-signal.SIGTERM, "")
    json.loads(done.stdout)


@pytest.mark.parametrize("terminal", [True, False])
def test_escape_sequences_in_names_do_not_reach_the_terminal(capsys, monkeypatch, terminal):
    name = "\x1b[2Jcat\u202e\udcff"
    monkeypatch.setattr("ddarts.api.report.report", lambda source, **_: ReportResult(Path(name)))
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal)
    assert main(["report", name]) == 0
    assert main(["show", name]) == 2
    captured = capsys.readouterr()
    for text in captured:
        assert "\x1b[2J" not in text
        assert r"\x1b[2Jcat\u202e\udcff" in text


def test_what_torchrun_repeats_of_a_failed_process_is_the_line_of_the_error(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(tmp_path / "error.json"))
    line = complaint(capsys, "show", "nowhere")
    told = json.loads((tmp_path / "error.json").read_text())["message"]
    assert told["message"] == told["extraInfo"]["py_callstack"] == f"ddarts: {line}"
    assert int(told["extraInfo"]["timestamp"])


def test_a_locale_without_the_characters_of_a_table_is_no_error(genotype, tmp_path):
    replace(genotype, name="Zürich").save(tmp_path / "g.json")
    ascii_only = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run([sys.executable, "-m", "ddarts", "show", "g.json"], capture_output=True, env=ascii_only)
    assert (done.returncode, done.stderr) == (0, b"")
    assert rb"Z\xfcrich" in done.stdout


# -- help and options --------------------------------------------------------------------------------------------------


def test_without_a_command_the_overview_is_shown(capsys):
    assert main([]) == 2
    overview = capsys.readouterr().out
    assert main(["--help"]) == 0
    assert capsys.readouterr().out == overview
    assert all(f"  {name} " in overview for name in COMMANDS)


def test_the_version_is_told(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"ddarts {ddarts.__version__}\n"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_a_public_function_and_has_help(capsys, name):
    assert callable(getattr(ddarts, name.replace("-", "_")))
    assert main([name, "--help"]) == 0
    text = capsys.readouterr().out
    assert COMMANDS[name].help in text
    assert "--json" in text


@pytest.mark.parametrize("stage", STAGES)
def test_help_shows_at_most_ten_settings_and_what_each_value_does(stage):
    options = list(documented_fields(stage))
    assert sum(option.common for option in options) <= 10 or len(options) <= 12
    fields = [
        *STAGES[stage].model_fields.values(),
        *(f for g in GROUPS.values() for f in g.model_fields.values()),
    ]
    for field in fields:
        kinds = (field.annotation, *typing.get_args(field.annotation))
        choices = next((typing.get_args(kind) for kind in kinds if typing.get_origin(kind) is typing.Literal), ())
        named = tuple((field.json_schema_extra or {}).get("values", {}))
        assert not choices or named == choices  # a search space or a strategy can also be a registered one


def help_of(capsys, line):
    assert main(line.split()) == 0
    return " ".join(capsys.readouterr().out.split())


def test_help_is_short_and_help_all_complete(capsys):
    short, full = help_of(capsys, "run --help"), help_of(capsys, "run --help-all")
    assert "--search.epochs" in short
    assert "--search.momentum" not in short
    assert "--search.momentum" in full
    assert "--help-all shows the other" in short
    assert "low: the outputs of cells; cells are computed twice" in full


def test_help_shows_the_defaults_of_the_preset_in_force(capsys, tmp_path):
    assert "training images for weights (at least 1; default 15)" in help_of(capsys, "run --help")
    assert "Defaults are those of the preset demo" in help_of(capsys, "run --help")
    assert "training images for weights (at least 1; default 10)" in help_of(capsys, "search --data photos --help")
    assert "Defaults are those of the preset residual" in help_of(capsys, "run --data photos --help")
    assert "Defaults are those of the preset small" in help_of(capsys, "run --data photos --strategy darts --help")
    assert "training images for weights (at least 1; default 50)" in help_of(capsys, "run --preset=paper --help")
    (tmp_path / "my.yaml").write_text("search:\n  epochs: 77\n")
    assert "training images for weights (at least 1; default 77)" in help_of(capsys, "run --config my.yaml --help")


def test_options_become_settings(monkeypatch, capsys):
    seen = {}

    def record(**given):
        seen.update(given)
        raise Stopped("enough")

    monkeypatch.setattr("ddarts.api.stages.run", record)
    options = "--data x --search.alpha_lr 0.1 --train.policy=none --no-flip --search.no-stop-on-collapse --strict"
    main(["run", *options.split()])
    assert seen == {
        "data": "x", "search.alpha_lr": "0.1", "train.policy": "none", "flip": False, "search.stop_on_collapse": False,
        "strict": True,
    }  # fmt: skip


# -- what commands print -----------------------------------------------------------------------------------------------


def test_show_lists_cells_or_prints_json(capsys, tmp_path, genotype):
    genotype.save(tmp_path / "g.json")
    assert main(["show", "g.json"]) == 0
    listing = capsys.readouterr().out
    assert "mine" in listing
    assert "3, reductions at 1" in listing
    assert "sep_conv_3x3(c_{k-2}) + skip_connect(c_{k-1})" in listing
    assert main(["show", "g.json", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["genotype"] == genotype.to_dict()


def test_show_draws(capsys, tmp_path, genotype):
    genotype.save(tmp_path / "g.json")
    assert main(["show", "g.json", "--out", "all.svg"]) == 0
    assert main(["show", "g.json", "--out", "one.svg", "--cell", "1"]) == 0
    assert (tmp_path / "all.svg").read_text().startswith("<svg")
    assert "cell 1 (reduction)" in (tmp_path / "one.svg").read_text()
    assert "cell 0" not in capsys.readouterr().out.partition("one.svg")[2]
    assert "cell = 3 is out of range; the genotype has cells 0 to 2" in complaint(
        capsys, "show", "g.json", "--cell", "3"
    )
    assert "ends in .svg, .png, .pdf or .html; did you mean '.png'?" in complaint(
        capsys, "show", "g.json", "--out", "x.pnj"
    )


def test_a_path_in_quotes_may_begin_at_home(capsys, tmp_path, genotype, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    genotype.save(tmp_path / "home" / "g.json")
    assert main(["show", "~/g.json", "--out", "~/all.svg"]) == 0
    assert (tmp_path / "home" / "all.svg").is_file()
    assert not (tmp_path / "~").exists()
    assert main(["distance", "~/g.json", "~/g.json"]) == 0
    assert capsys.readouterr().err == ""


def test_derive_writes_a_genotype_beside_the_gates_and_replaces_none_unasked(capsys, tmp_path):
    space = build_space(cells=4, nodes=2)
    rows = [[0.9 if (e + o) % 3 == 0 else 0.2 for o in range(7)] for e in range(len(space.edges))]
    ddarts.Gates.from_space(space, [rows] * 4).save(tmp_path / "gates.json")
    assert main(["derive", "gates.json", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["file"] == "genotype.json"
    first = (tmp_path / "genotype.json").read_text()
    assert Genotype.from_json(first).to_dict() == printed["genotype"]
    assert main(["derive", "gates.json"]) == 0
    assert "genotype.json" in capsys.readouterr().out
    line = complaint(capsys, "derive", "gates.json", "--layers", "6")
    assert "genotype.json holds another genotype; name another file with --out, or replace it with --overwrite" in line
    assert (tmp_path / "genotype.json").read_text() == first
    assert main(["derive", "gates.json", "--layers", "6", "--out", "deep.json"]) == 0
    assert len(Genotype.load("deep.json")) == 6
    assert main(["derive", "gates.json", "--layers", "6", "--overwrite"]) == 0
    assert len(Genotype.load("genotype.json")) == 6
    capsys.readouterr()
    assert "layers = 3 is fewer than the 4 searched cells" in complaint(capsys, "derive", "gates.json", "--layers", "3")
    assert "largest gate is 0.9000" in complaint(capsys, "derive", "gates.json", "--threshold", "0.95")


def test_derive_on_a_run_uses_the_rule_of_the_run(capsys, tmp_path):
    space = build_space(cells=4, nodes=2)
    rows = [[0.7 if (e + o) % 3 == 0 else 0.2 for o in range(7)] for e in range(len(space.edges))]
    with RunFolder.create(tmp_path / "r") as run:
        run.write_settings("search", SearchSettings(derive=DeriveOptions(threshold=0.6, layers=5)))
        ddarts.Gates.from_space(space, [rows] * 4).save(run.path / "gates.json")
    result = ddarts.derive("r")
    assert (result.threshold, len(result.genotype), result.path) == (0.6, 5, tmp_path.__class__("r/genotype.json"))
    assert len(list((tmp_path / "r" / "cells").glob("cell_*.svg"))) == 5
