"""What the process of each phase of gpu.py does; figures go to stdout, a JSON object a line."""

from __future__ import annotations

import gc
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from gpu_check import check_twins
from gpu_stages import Task, derive_phase, search_phase, train_phase
from measuring import ROOT, emit, peak_gb
from steps import Sizes, build_steps

from ddarts.errors import DDartsError, Stopped

_SMALL = Sizes(cells=3, nodes=2, channels=4, batch=4, resolution=16)
_SMALLEST = Sizes(cells=1, nodes=1, channels=4, batch=4, resolution=8)  # compiling even that takes a CPU a minute


def run_one(task: Task) -> int:
    """Run the phase that the task names; return the exit status."""
    torch.manual_seed(0)
    if task["small"]:
        torch.set_num_threads(1)
    try:
        _PHASES[task["phase"]](task)
    except Stopped as error:
        emit(stopped=str(error))
    except Exception as error:  # whatever it is, it is noted, and the next phase begins
        emit(error=f"{type(error).__name__}: {' '.join(str(error).split())[:500]}")
        if not isinstance(error, DDartsError):
            import traceback

            traceback.print_exc()
        return 1
    return 0


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def _seconds(work: Callable[[], Any], device: str, times: int) -> float:
    """Mean time of `times` calls, after one unmeasured; on a GPU from an idle device to an idle device."""
    work()
    _wait(device)
    started = time.perf_counter()
    for _ in range(times):
        work()
    _wait(device)
    return (time.perf_counter() - started) / times


# -- device ------------------------------------------------------------------------------------------------------------


def device_phase(task: Task) -> None:
    device, side = task["device"], 256 if task["small"] else 8192
    if device == "cuda":
        about = torch.cuda.get_device_properties(0)
        emit(
            gpu=about.name,
            memory_gb=round(about.total_memory / 1e9, 1),
            cuda=torch.version.cuda,
            cudnn=torch.backends.cudnn.version(),
            capability=list(torch.cuda.get_device_capability()),
        )
    kinds = {"float32": (torch.float32, False), "tf32": (torch.float32, True), "bf16": (torch.bfloat16, False)}
    for name, (dtype, tf32) in kinds.items():
        torch.backends.cuda.matmul.allow_tf32 = tf32
        a = torch.randn(side, side, device=device, dtype=dtype)
        seconds = _seconds(lambda a=a: a @ a, device, 5)
        emit(**{f"matrix_product_{name}_tflops": round(2 * side**3 / seconds / 1e12, 3)})
    source = torch.ones(side * side, device=device)
    target = torch.empty_like(source)
    emit(copy_gb_per_s=round(2 * source.nbytes / _seconds(lambda: target.copy_(source), device, 5) / 1e9, 1))


# -- check, time, waits ------------------------------------------------------------------------------------------------


def check_phase(task: Task) -> None:
    sizes = _SMALL if task["small"] else Sizes(batch=16)
    for figures in check_twins(sizes, task["device"]):
        emit(**figures)


def time_phase(task: Task) -> None:
    device = task["device"]
    cases = [
        (variant, precision, batch)
        for batch in (96, 32)
        for variant, precision in (
            ("gradient-random", "bf16"), ("gradient-random", "float32"), ("plain", "float32"), ("off", "bf16"),
            ("gradient-zero-2", "bf16"), ("monitor-random", "bf16"), ("monitor-random", "float32"),
            ("gradient-zero", "bf16"), ("off", "float32"),
        )
    ]  # fmt: skip
    if task["small"]:
        cases = [(variant, "float32", 4) for variant in ("gradient-random", "plain")]
    emit(tf32={"convolutions": torch.backends.cudnn.allow_tf32, "products": torch.backends.cuda.matmul.allow_tf32})
    for variant, precision, batch in cases:
        row: dict[str, Any] = {"variant": variant, "precision": precision, "batch": batch}
        small = _SMALL if task["small"] else Sizes()
        sizes = Sizes(small.cells, small.nodes, small.channels, batch, small.resolution)
        try:
            row |= time_case(variant, precision, sizes, device)
        except torch.OutOfMemoryError:
            row["error"] = "out of memory"
        gc.collect()
        if device == "cuda":
            torch.cuda.empty_cache()
        emit(steps=[row])


def compiled_phase(task: Task) -> None:
    """Check and time steps with `--backend inductor`: the first, which compiles everything, and those after it."""
    device = task["device"]
    for figures in check_twins(_SMALLEST, device, compiled=True):
        emit(**figures)
    for variant in ("off", "gradient-zero-2", "gradient-random"):
        sizes = _SMALLEST if task["small"] else Sizes(batch=96)
        precision = "float32" if task["small"] else "bf16"
        row: dict[str, Any] = {"variant": variant, "precision": precision, "batch": sizes.batch}
        built = build_steps(variant, sizes, device=device, precision=precision, compiled=True)
        started = time.perf_counter()
        built.alpha()
        built.weight()
        _wait(device)
        row["first_step_s"] = time.perf_counter() - started
        emit(first_steps=[row])  # a stop during the rest loses no more than that
        times = 1 if device == "cpu" else 10
        row = row | {"alpha_s": _seconds(built.alpha, device, times), "weight_s": _seconds(built.weight, device, times)}
        emit(steps=[row | {"step_s": row["alpha_s"] + row["weight_s"]}])
        if task["small"]:
            return


def graphs_phase(task: Task) -> None:
    """Time what CUDA graphs would give: the gradients of both halves of a step, captured once and replayed."""
    if task["device"] != "cuda":
        emit(not_measured="CUDA graphs need a GPU")
        return
    for variant in ("off", "gradient-zero-2", "gradient-random"):
        built = build_steps(variant, Sizes(batch=96), device="cuda", precision="bf16")
        row: dict[str, Any] = {"variant": variant, "precision": "bf16", "batch": 96}
        for name, work in (("alpha", built.alpha_gradients), ("weight", built.weight_gradients)):
            assert work is not None
            row[f"{name}_s"] = _seconds(work, "cuda", 5)
            row[f"{name}_replayed_s"] = _seconds(_captured(work).replay, "cuda", 10)
        emit(steps=[row])


def _captured(work: Callable[[], Any]) -> torch.cuda.CUDAGraph:
    """Capture what a call starts, after calls on a side stream, as PyTorch's notes on CUDA graphs ask for."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            work()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work()
    return graph


def time_case(variant: str, precision: str, sizes: Sizes, device: str) -> dict[str, float]:
    """Seconds of alpha and weight step, and peak memory of the device."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    built = build_steps(variant, sizes, device=device, precision=precision)
    built.alpha()
    built.weight()  # the first of each also tries out algorithms and reserves memory
    times = 1 if variant == "plain" or device == "cpu" else 10
    alpha_s, weight_s = _seconds(built.alpha, device, times), _seconds(built.weight, device, times)
    memory = torch.cuda.max_memory_allocated() / 1e9 if device == "cuda" else peak_gb()
    return {"alpha_s": alpha_s, "weight_s": weight_s, "step_s": alpha_s + weight_s, "peak_gb": memory}


def waits_phase(task: Task) -> None:
    """Note the lines of a step at which PyTorch makes the host wait for the GPU."""
    if task["device"] != "cuda":
        emit(not_measured="only a GPU makes the host wait; benchmarks/counting.py lists the transfers of a step")
        return
    from ddarts.data import Augment, Batches
    from ddarts.data.images import Images

    sizes = Sizes(batch=96)
    images = Images(torch.randint(0, 256, (5000, 3, 32, 32), dtype=torch.uint8), torch.randint(0, 10, (5000,)))
    augment = Augment(flip=True, crop=4)
    mean = std = (0.5, 0.5, 0.5)
    batches = Batches(images, 96, seed=0, label="waits", mean=mean, std=std, augment=augment, device="cuda")
    built = build_steps("gradient-random", sizes, device="cuda", precision="bf16")
    parts = {"batch": lambda: batches.batch(0, 0), "alpha step": built.alpha, "weight step": built.weight}
    for name, part in parts.items():
        part()
        with _noticed_waits() as found:
            part()
        emit(waits=[{"part": name, "number": sum(found.values()), "lines": dict(found.most_common(20))}])


@contextmanager
def _noticed_waits() -> Iterator[Counter[str]]:
    found: Counter[str] = Counter()
    torch.cuda.synchronize()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield found
        finally:
            torch.cuda.set_sync_debug_mode("default")
    for warning in said:
        if "synchronizing" in str(warning.message):
            path = Path(warning.filename)
            name = str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else "/".join(path.parts[-3:])
            found[f"{name}:{warning.lineno}"] += 1


_PHASES: dict[str, Callable[[Task], None]] = {
    "device": device_phase,
    "check": check_phase,
    "time": time_phase,
    "waits": waits_phase,
    "compiled": compiled_phase,
    "graphs": graphs_phase,
    "search": search_phase,
    "derive": derive_phase,
    "train": train_phase,
}

if __name__ == "__main__":
    sys.exit("gpu_phases.py is a part of gpu.py; run that")
