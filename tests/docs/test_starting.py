"""The commands of the guides that start other programs or processes: torchrun, a batch script, make."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ddarts.cli.main import main
from ddarts.runs.folder import RunFolder
from tests.docs.guide import ROOT, blocks, commands, text_of, words_of
from tests.docs.test_guides import class_folders, parse, shortened

SCALING = "docs/scaling.md"
TARGETS = [
    target for line in re.findall(r"^\.PHONY: (.*)$", text_of("Makefile"), re.MULTILINE) for target in line.split()
]


@pytest.mark.slow
def test_the_command_for_many_machines_searches_with_two_processes_on_one(tmp_path: Path) -> None:
    (words,) = [words for words in commands(SCALING) if words[0] == "torchrun" and "--nnodes=8" in words]
    here = {"--nnodes=8": "--nnodes=1", "--nproc_per_node=8": "--nproc_per_node=2"}
    here["--rdzv_endpoint=host0:29500"] = "--rdzv_endpoint=localhost:0"  # a port that is free
    assert set(here) < set(words)
    words = [here.get(word, word).replace("/shared", str(tmp_path)) for word in words]
    at = words.index("ddarts") + 1
    class_folders(Path(words[words.index("--data") + 1]))
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    # torchrun is this module of PyTorch; "-m ddarts" and all after it is as the guide has it
    command = [sys.executable, "-m", "torch.distributed.run", *words[1:at], *shortened(words[at:])]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    run = tmp_path / "runs" / "in"
    assert (run / "genotype.json").is_file()
    (epoch,) = RunFolder.open(run).metrics("search", "epoch")
    assert epoch["epoch"] == 1
    assert main(["search", "--resume", str(run), "--quiet"]) == 0  # one process takes what two have made


def program(folder: Path, name: str, script: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


def test_the_batch_script_starts_torchrun_with_the_first_host_and_the_numbers_of_the_job(tmp_path: Path) -> None:
    (script,) = [block for _, block in blocks(SCALING) if block.startswith("#!/bin/bash")]
    program(tmp_path, "scontrol", '[ "$1 $2 $3" = "show hostnames gpu[07-14]" ] && seq -f "gpu%02g" 7 14')
    program(tmp_path, "srun", 'printf "%s\\n" "$@"')
    job = {"SLURM_JOB_NODELIST": "gpu[07-14]", "SLURM_NNODES": "8", "SLURM_JOB_ID": "4711"}
    environment = {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}", **job}
    done = subprocess.run(["bash", "-euc", script], capture_output=True, text=True, env=environment, check=True)
    told = done.stdout.split()
    assert told[:2] == ["--kill-on-bad-exit=1", "torchrun"]
    assert told[2 : told.index("-m")] == [
        *("--nnodes=8", "--nproc_per_node=8"),
        *("--rdzv_backend=c10d", "--rdzv_endpoint=gpu07:29500", "--rdzv_id=4711"),
    ]


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
@pytest.mark.parametrize("target", TARGETS)
def test_what_make_would_run_is_right(target: str) -> None:
    done = subprocess.run(["make", "--dry-run", target], cwd=ROOT, capture_output=True, text=True, check=True)
    lines = [words_of(line) for line in done.stdout.splitlines()]
    assert lines
    for program, *words in lines:
        if program.endswith("/ddarts"):
            parse(words)
        assert all((ROOT / word).is_file() for word in words if word.endswith(".py"))
