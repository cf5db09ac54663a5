"""The table of commands: what each is for, and what it takes besides the settings of its stage."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

Option = tuple[tuple[str, ...], dict[str, Any]]

_OUT: Option = (("--out",), {"metavar": "DIR", "help": "folder for all that is made (default: runs/DATA-TIME)"})
_OVERWRITE: Option = (("--overwrite",), {"action": "store_true", "help": "replace the run that is in --out"})
_CONFIG: Option = (("--config",), {"metavar": "FILE", "help": "YAML file with settings"})
_PRESET: Option = (
    ("--preset",),
    {"metavar": "NAME", "help": "demo, small or paper (default: demo for the digits, else small)"},
)
_RESUME: Option = (("--resume",), {"metavar": "RUN", "help": "go on with a run that was stopped"})
_QUIET: Option = (("--quiet",), {"action": "store_true", "help": "show no progress"})
_RUN_OPTIONS = (_OUT, _OVERWRITE, _RESUME, _PRESET, _CONFIG, _QUIET)


@dataclass(frozen=True)
class Command:
    """One command: the public function of the same name (with ``_`` for ``-``), and what it takes.

    Attributes:
        help: one line for the overview.
        stage: whose settings become options (a key of `ddarts.config.loading.STAGES`); None for none.
        options: flags, and positional arguments, for `argparse`; each becomes the keyword of its name.
        positional: name of the argument that the function takes by position, if any.
        home: module of the public function.
    """

    help: str
    stage: str | None = None
    options: tuple[Option, ...] = field(default=())
    positional: str | None = None
    home: str = "ddarts.api.stages"


COMMANDS = {
    "run": Command("do the whole job: search, derive, train, test, report", "run", _RUN_OPTIONS),
    "search": Command("search an architecture for the data", "search", _RUN_OPTIONS),
    "derive": Command(
        "turn the gates of a search into a genotype",
        "derive",
        (
            (("source",), {"metavar": "RUN|GATES", "help": "a run, or its gates.json"}),
            (
                ("--out",),
                {"metavar": "FILE", "help": "file for the genotype (default: genotype.json beside the gates)"},
            ),
            (("--overwrite",), {"action": "store_true", "help": "replace a file that holds another genotype"}),
            _CONFIG,
        ),
        positional="source",
    ),
    "train": Command(
        "train the network of a genotype",
        "train",
        ((("--genotype",), {"metavar": "FILE|RUN", "help": "genotype to train, or a run that has one"}), *_RUN_OPTIONS),
    ),
    "test": Command(
        "evaluate a trained model on test images",
        "test",
        ((("model",), {"metavar": "MODEL|RUN", "help": "a run, or the folder of a model"}), _CONFIG, _QUIET),
        positional="model",
    ),
    "predict": Command(
        "tell what a trained model sees in image files",
        None,
        (
            (("images",), {"metavar": "IMAGE", "nargs": "+", "help": "image files"}),
            (
                ("--model",),
                {"metavar": "MODEL|RUN", "help": "a run, a model's folder or an ONNX file (default: the newest run)"},
            ),
            (("--top",), {"metavar": "K", "help": "classes to name for each image (default 5)"}),
            (("--strict",), {"action": "store_true", "help": "stop at the first image that cannot be decoded"}),
            (("--device",), {"metavar": "TEXT", "help": "auto | cpu | cuda | cuda:N | mps (default auto)"}),
        ),
        positional="images",
    ),
    "show": Command(
        "list the cells of a genotype, or draw them",
        None,
        (
            (("genotype",), {"metavar": "GENOTYPE|RUN", "help": "a genotype file, a run that has one, or a name"}),
            (("--out",), {"metavar": "FILE", "help": "draw into this file: .svg, .png, .pdf or .html"}),
            (("--cell",), {"metavar": "K", "help": "only this cell, counted from 0"}),
            (("--network",), {"action": "store_true", "help": "the chain of cells instead of what is in them"}),
        ),
        positional="genotype",
        home="ddarts.api.show",
    ),
    "measure-operations": Command(
        "measure on the data what each operation counts for in the distance",
        "measure-operations",
        _RUN_OPTIONS,
        home="ddarts.api.measure",
    ),
    "zoo": Command(
        "list published architectures, or show one with its figures",
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
        "list the hand-made networks from which a search can start",
        None,
        ((("--channels",), {"metavar": "C", "help": "width of the first cell (default 64)"}),),
        home="ddarts.api.catalogue",
    ),
    "distance": Command(
        "tell how far architectures are from each other",
        None,
        (
            (
                ("architectures",),
                {"metavar": "ARCHITECTURE", "nargs": "+", "help": "two or more genotype files, runs or names"},
            ),
            (("--weights",), {"metavar": "FILE", "help": "weights of the operations, from ddarts measure-operations"}),
            (
                ("--unequal",),
                {"metavar": "NAME", "help": "unequal lengths: over the shorter (default), or penalty: 1 an extra cell"},
            ),
            (("--out",), {"metavar": "FILE", "help": "draw a heat map into this file (.svg, .png or .pdf)"}),
        ),
        positional="architectures",
        home="ddarts.api.distance",
    ),
    "compare": Command(
        "train architectures the same way and tell whether one is better",
        "compare",
        (
            (
                ("architectures",),
                {"metavar": "ARCHITECTURE", "nargs": "*", "help": "files, runs or names; the first is the rule"},
            ),
            *_RUN_OPTIONS,
        ),
        positional="architectures",
        home="ddarts.api.compare",
    ),
    "import-weights": Command(
        "turn a checkpoint of the authors' code into a model",
        None,
        (
            (("checkpoint",), {"metavar": "CHECKPOINT", "help": "its .pth, .pth.tar or .safetensors file"}),
            (
                ("--genotype",),
                {"metavar": "GENOTYPE", "required": True, "help": "what was trained: a genotype file, a run or a name"},
            ),
            (("--out",), {"metavar": "DIR", "required": True, "help": "folder for the model"}),
            (
                ("--data",),
                {"metavar": "DATA", "help": "its data set, for the names of the classes (default: numbers)"},
            ),
            (
                ("--resolution",),
                {"metavar": "N", "help": "pixels a side (default: 32 for a CIFAR stem, 224 for an ImageNet stem)"},
            ),
            (
                ("--mean",),
                {"metavar": "M,...", "help": "mean of each channel, of 0..1 (default: as the authors normalise)"},
            ),
            (("--std",), {"metavar": "S,...", "help": "standard deviation of each channel, of 0..1"}),
            (("--overwrite",), {"action": "store_true", "help": "replace the model that is in --out"}),
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
            (("--once",), {"action": "store_true", "help": "print how far it is, and end"}),
            (("--every",), {"metavar": "SECONDS", "help": "time between two looks (default 2)"}),
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
                {"metavar": "FILE", "help": "the page (default: report.html in the run; of several comparison.html)"},
            ),
        ),
        positional="runs",
        home="ddarts.api.report",
    ),
    "profile": Command(
        "measure what networks cost: parameters, multiply-adds, memory, latency",
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
    "export": Command(
        "write a trained model as ONNX, torch.export or safetensors",
        None,
        (
            (("model",), {"metavar": "MODEL|RUN", "help": "a run, or the folder of a model"}),
            (("--format",), {"metavar": "NAME", "help": "onnx, torch-export or safetensors (default onnx)"}),
            (("--out",), {"metavar": "DIR|FILE", "help": "where to write (default: the folder export in the run)"}),
            (
                ("--images",),
                {"metavar": "IMAGE", "nargs": "+", "help": "images to check it on (default: of the run's data)"},
            ),
            (("--tolerance",), {"metavar": "X", "help": "largest difference of a logit allowed (default 1e-4)"}),
            (("--overwrite",), {"action": "store_true", "help": "replace files that are there"}),
            _QUIET,
        ),
        positional="model",
        home="ddarts.api.export",
    ),
}
