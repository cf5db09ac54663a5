"""Text readers under atheris, a fuzzer that prefers inputs which reach new lines of ddarts; nothing without it.

    python -m benchmarks.campaign.guided READER FOLDER OUT COUNT SEED

It is no dependency: `pip install atheris` into the environment. Each call is a new process, as it compiles ddarts anew.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

from benchmarks.campaign import readers
from benchmarks.campaign.attempts import Bench
from benchmarks.campaign.samples import READERS


def inputs(bench: Bench, number: int, seed: int, *, name: str, count: int) -> list[str]:
    """Let the fuzzer make inputs for a reader; return what was wrong."""
    if importlib.util.find_spec("atheris") is None:
        return ["atheris is not installed"]
    sample, failures = readers.make(name, bench), bench.out / "failures.jsonl"
    before = failures.stat().st_size if failures.exists() else 0
    words = [sys.executable, "-m", "benchmarks.campaign.guided", name, str(sample), str(bench.out), str(count)]
    limit = max(60.0, count / 100)
    try:
        done = subprocess.run(
            [*words, str(1000 * seed + number + 1)], capture_output=True, text=True, timeout=2 * limit
        )
        said = done.stderr[-600:] if done.returncode else ""
    except subprocess.TimeoutExpired:
        said = f"not over in {2 * limit} s"
    found = failures.read_bytes()[before:].decode().splitlines() if failures.exists() else []
    return [json.loads(line)["wrong"] for line in found] + [said] * bool(said)


def main(name: str, sample: str, out: str, count: str, seed: str) -> None:
    """Fuzz; libFuzzer ends the process."""
    import atheris

    reader, work = READERS[name], Path("/dev/shm") / f"ddarts-guided-{name}-{os.getpid()}".replace(" ", "-")
    os.environ["DDARTS_CACHE"] = "off"
    with atheris.instrument_imports(include=["ddarts", "yaml", "json", "csv"]):
        reader.read(_copied(Path(sample), work))
    paths = [path for pattern in reader.files for path in sorted(work.glob(pattern))]
    contents = [path.read_bytes() for path in paths]
    corpus = Path(out) / "corpus" / name.replace(" ", "-")
    corpus.mkdir(parents=True, exist_ok=True)
    for i, content in enumerate(contents):
        (corpus / f"whole{i}").write_bytes(content)
    seen: set[str] = set()

    def one(data: bytes) -> None:
        number = len(data) % len(paths)
        paths[number].write_bytes(data)
        wrong = readers.judge(reader, work)
        if wrong and wrong.partition(":")[0] not in seen and len(seen) < 50:
            seen.add(wrong.partition(":")[0])
            readers.keep(Path(out), name, paths[number], wrong, (int(seed), len(seen)))
        paths[number].write_bytes(contents[number])

    limits = ["-timeout=5", "-rss_limit_mb=2500", f"-seed={seed}", f"-runs={count}", "-verbosity=0", "-close_fd_mask=3"]
    longest = max(map(len, contents))
    artifacts = Path(out) / "failures"
    artifacts.mkdir(exist_ok=True)
    atheris.Setup(
        ["guided", str(corpus), *limits, f"-max_len={2 * longest}", f"-artifact_prefix={artifacts}/{name}-"], one
    )
    atheris.Fuzz()


def _copied(sample: Path, work: Path) -> Path:
    import shutil

    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(sample, work)
    return work


if __name__ == "__main__":
    main(*sys.argv[1:])
