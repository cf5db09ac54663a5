"""The table of commands: purpose, options and positional arguments besides the settings of the stage."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

Option = tuple[tuple[str, ...], dict[str, Any]]

_OUT: Option = (("--out",), {"metavar": "DIR", "help": "folder of the run (default: runs/DATA-TIME)"})
_OVERWRITE: Option = (("--overwrite",), {"action": "store_true", "help": "replace the run in --out"})
_CONFIG: Option = (("--config",), {"metavar": "FILE", "help": "YAML file with settings"})
_PRESET: Option = (
    ("--preset",),
    {"metavar": "NAME", "help": "demo, small or paper (default: demo for digits, else small)"},
)
_RESUME: Option = (("--resume",), {"metavar": "RUN", "help": "resume a run that was stopped"})
_QUIET: Option = (("--quiet",), {"action": "store_true", "help": "show no progress"})
_RUN_OPTIONS = (_OUT, _OVERWRITE, _RESUME, _PRESET, _CONFIG, _QUIET)


@dataclass(frozen=True)
class Command:
    """One command: the public function of the same name (with ``_`` for ``-``), and its arguments.

    Attributes:
        help: one line for the overview.
        stage: key of `ddarts.config.layers.STAGES` whose settings become options; None for none.
        options: flags, and positional arguments, for `argparse`; each becomes the keyword of its name.
        positional: name of the argument that is passed by position, if any.
        home: module of the public function.
    """

    help: str
    stage: str | None = None
    options: tuple[Option, ...] = field(default=())
    positional: str | None = None
    home: str = "ddarts.api.stages"


COMMANDS = {
    "run": Command("search, derive, train, test and report in one job", "run", _RUN_OPTIONS),
    "search": Command("search for an architecture on the data", "search", _RUN_OPTIONS),
    "derive": Command(
        "turn the gates of a search into a genotype",
        "derive",
        (
            (("source",), {"metavar": "RUN|GATES", "help": "a run, or its gates.json"}),
            (
                ("--out",),
                {"metavar": "FILE", "help": "file of the genotype (default: genotype.json in the folder of the gates)"},
            ),
            (("--overwrite",), {"action": "store_true", "help": "replace a file with another genotype"}),
            (
                ("--front",),
                {"metavar": "N", "help": "also N networks along the front of gates and cost, into front/"},
            ),
            _CONFIG,
        ),
        positional="source",
    ),
    "train": Command(
        "train the network of a genotype",
        "train",
        ((("--genotype",), {"metavar": "FILE|RUN", "help": "genotype to train, or a run with one"}), *_RUN_OPTIONS),
    ),
    "test": Command(
        "evaluate a trained model on test images",
        "test",
        ((("model",), {"metavar": "MODEL|RUN", "help": "a run, or the folder of a model"}), _CONFIG, _QUIET),
        positional="model",
    ),
    "predict": Command(
        "classify image files with a trained model",
        None,
        (
            (("images",), {"metavar": "IMAGE", "nargs": "+", "help": "image files"}),
            (
                ("--model",),
                {
                    "metavar": "MODEL|RUN",
                    "help": "a run, the folder of a model, or an ONNX file (default: the newest run)",
                },
            ),
            (("--top",), {"metavar": "K", "help": "classes to print per image (default 5)"}),
            (("--strict",), {"action": "store_true", "help": "stop at the first image that cannot be decoded"}),
            (("--device",), {"metavar": "TEXT", "help": "auto | cpu | cuda | cuda:N (default auto)"}),
        ),
        positional="images",
    ),
    "show": Command(
        "print the cells of a genotype, and draw them with --out",
        None,
        (
            (("genotype",), {"metavar": "GENOTYPE|RUN", "help": "a genotype file, a run with one, or a name"}),
            (("--out",), {"metavar": "FILE", "help": "file for a drawing: .svg, .png, .pdf or .html"}),
            (("--cell",), {"metavar": "K", "help": "only this cell, counted from 0"}),
            (("--network",), {"action": "store_true", "help": "the chain of cells instead of their content"}),
        ),
        positional="genotype",
        home="ddarts.api.show",
    ),
    "measure-operations": Command(
        "measure the weights of the operations in the distance on the data",
        "measure-operations",
        _RUN_OPTIONS,
        home="ddarts.api.measure",
    ),
    "cache": Command(
        "list the decoded data sets that are kept for the next use, or remove them",
        None,
        ((("--clear",), {"action": "store_true", "help": "remove all"}),),
        home="ddarts.api.cache",
    ),
    "zoo": Command(
        "list published architectures, or show one with its published numbers",
        None,
        (
            (("name",), {"metavar": "NAME", "nargs": "?", "help": "an entry (default: a table of all)"}),
            (("--layers",), {"metavar": "N", "help": "cells of the network (default: as published)"}),
            (("--channels",), {"metavar": "C", "help": "width of the first cell (default: as published)"}),
        ),
        positional="name",
        home="ddarts.api.catalogue",
    ),
    "baselines": Command(
        "list the hand-made networks that a search can start from",
        None,
        ((("--channels",), {"metavar": "C", "help": "width of the first cell (default 64)"}),),
        home="ddarts.api.catalogue",
    ),
    "distance": Command(
        "print the distances between architectures",
        None,
        (
            (
                ("architectures",),
                {"metavar": "ARCHITECTURE", "nargs": "+", "help": "two or more genotype files, runs or names"},
            ),
            (("--weights",), {"metavar": "FILE", "help": "weights of the operations, from ddarts measure-operations"}),
            (
                ("--unequal",),
                {
                    "metavar": "NAME",
                    "help": "for unequal lengths: shorter, ignores extra cells (default); penalty, counts each as 1",
                },
            ),
            (("--out",), {"metavar": "FILE", "help": "file for heat maps of both distances: .svg, .png or .pdf"}),
        ),
        positional="architectures",
        home="ddarts.api.distance",
    ),
    "compare": Command(
        "train architectures under one recipe and test their differences",
        "compare",
        (
            (
                ("architectures",),
                {
                    "metavar": "ARCHITECTURE",
                    "nargs": "*",
                    "help": "files, runs or names; the first one is the reference",
                },
            ),
            *_RUN_OPTIONS,
        ),
        positional="architectures",
        home="ddarts.api.compare",
    ),
    "study": Command(
        "compare search methods on data sets with many seeds, against random search",
        "run",
        (
            (("--strategies",), {"metavar": "NAME,...", "help": "methods, or names from --config (default: d-darts)"}),
            (("--seeds",), {"metavar": "N", "help": "trials of each method on each data set (default: 10)"}),
            (("--no-opponents",), {"dest": "opponents", "action": "store_false", "help": "add no random opponents"}),
            (
                ("--draws",),
                {"metavar": "N", "help": "most networks that random search draws for a trial (default: 100)"},
            ),
            (("--table",), {"metavar": "FILE", "help": "look accuracies up in JSON lines or CSV instead of training"}),
            (("--jobs",), {"metavar": "N", "help": "processes, one thread each (default: 1)"}),
            (("--scheduler",), {"metavar": "ADDRESS", "help": "Dask scheduler whose workers run the trials"}),
            *_RUN_OPTIONS,
        ),
        home="ddarts.api.study",
    ),
    "import-weights": Command(
        "convert a checkpoint of the authors' code to a model",
        None,
        (
            (("checkpoint",), {"metavar": "CHECKPOINT", "help": "a .pth, .pth.tar or .safetensors file"}),
            (
                ("--genotype",),
                {
                    "metavar": "GENOTYPE",
                    "required": True,
                    "help": "architecture of the checkpoint: a genotype file, a run or a name",
                },
            ),
            (("--out",), {"metavar": "DIR", "required": True, "help": "folder for the model"}),
            (
                ("--data",),
                {"metavar": "DATA", "help": "data set with the names of the classes (default: numbers)"},
            ),
            (
                ("--resolution",),
                {
                    "metavar": "N",
                    "help": "side of the images in pixels (default: 32 for a CIFAR stem, 224 for an ImageNet stem)",
                },
            ),
            (
                ("--mean",),
                {"metavar": "M,...", "help": "mean of each channel, 0 to 1 (default: as the authors normalise)"},
            ),
            (("--std",), {"metavar": "S,...", "help": "standard deviation of each channel, 0 to 1"}),
            (("--overwrite",), {"action": "store_true", "help": "replace the model in --out"}),
            _QUIET,
        ),
        positional="checkpoint",
        home="ddarts.api.import_weights",
    ),
    "watch": Command(
        "follow a running search or training in the terminal",
        None,
        (
            (("run",), {"metavar": "RUN", "help": "a run"}),
            (("--once",), {"action": "store_true", "help": "print the status once and exit"}),
            (("--every",), {"metavar": "SECONDS", "help": "time between two updates (default 2)"}),
        ),
        positional="run",
        home="ddarts.api.watch",
    ),
    "report": Command(
        "write the report of a run, or a page that compares several",
        None,
        (
            (("runs",), {"metavar": "RUN", "nargs": "+", "help": "a run, or several to compare"}),
            (
                ("--out",),
                {
                    "metavar": "FILE",
                    "help": "file of the page (default: report.html in the run; comparison.html for several)",
                },
            ),
        ),
        positional="runs",
        home="ddarts.api.report",
    ),
    "profile": Command(
        "measure the cost of networks: parameters, multiply-adds, memory, latency",
        "profile",
        (
            (
                ("architectures",),
                {
                    "metavar": "GENOTYPE|MODEL",
                    "nargs": "+",
                    "help": "genotype files, runs, folders of models, or names of architectures",
                },
            ),
            _CONFIG,
            _QUIET,
        ),
        positional="architectures",
        home="ddarts.api.profile",
    ),
    "probe": Command(
        "write a folder that measures latencies on another device, for --max-latency",
        "probe",
        ((("--out",), {"metavar": "DIR", "required": True, "help": "folder to write"}), _CONFIG, _QUIET),
        home="ddarts.api.probe",
    ),
    "export": Command(
        "write a trained model as ONNX (float32 or int8), torch.export or safetensors",
        None,
        (
            (("model",), {"metavar": "MODEL|RUN", "help": "a run, or the folder of a model"}),
            (("--format",), {"metavar": "NAME", "help": "onnx, onnx-int8, torch-export or safetensors (default onnx)"}),
            (
                ("--out",),
                {"metavar": "DIR|FILE", "help": "file or folder to write (default: the folder export in the run)"},
            ),
            (
                ("--images",),
                {"metavar": "IMAGE", "nargs": "+", "help": "images for the check (default: images of the run's data)"},
            ),
            (
                ("--data",),
                {"metavar": "DATA", "help": "data set to calibrate and test onnx-int8 on (default: the run's)"},
            ),
            (("--labels",), {"metavar": "FILE.csv", "help": "labels of the images in the folder --data"}),
            (("--tolerance",), {"metavar": "X", "help": "largest accepted difference of a logit (default 1e-4)"}),
            (("--overwrite",), {"action": "store_true", "help": "replace existing files"}),
            _QUIET,
        ),
        positional="model",
        home="ddarts.api.export",
    ),
}
