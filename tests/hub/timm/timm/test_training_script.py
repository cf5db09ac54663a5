"""What timm's train.py does with a model, on images on disk, with timm's own parts."""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

timm = pytest.importorskip("timm")

from timm.data import create_dataset, create_loader, resolve_data_config  # noqa: E402
from timm.loss import LabelSmoothingCrossEntropy  # noqa: E402
from timm.models import load_checkpoint, model_parameters, safe_model_name  # noqa: E402
from timm.optim import create_optimizer_v2  # noqa: E402
from timm.scheduler import create_scheduler_v2  # noqa: E402
from timm.utils import CheckpointSaver, ModelEmaV3, accuracy, dispatch_clip_grad  # noqa: E402

import ddarts.hub.timm  # noqa: E402, F401

NAME = "ddarts_darts_v2"
OPTIONS = {"stem": "cifar", "layers": 3, "channels": 4}  # --model-kwargs of train.py


@pytest.fixture
def images(tmp_path: Path) -> Path:
    for part in ("train", "validation"):
        for label, colour in (("blue", (20, 30, 200)), ("red", (200, 30, 20))):
            (tmp_path / part / label).mkdir(parents=True)
            for i in range(8):
                Image.new("RGB", (20, 24), colour).save(tmp_path / part / label / f"{i}.png")
    return tmp_path


def _loader(images: Path, part: str, config: dict[str, object]) -> object:
    dataset = create_dataset("", root=str(images), split=part, is_training=part == "train")
    with warnings.catch_warnings():  # of torchvision, about timm's transforms
        warnings.simplefilter("ignore")
        return create_loader(
            dataset,
            input_size=config["input_size"],
            batch_size=8,
            is_training=part == "train",
            use_prefetcher=False,
            no_aug=True,
            interpolation=config["interpolation"],
            mean=config["mean"],
            std=config["std"],
            crop_pct=config["crop_pct"],
            num_workers=0,
            persistent_workers=False,
            device=torch.device("cpu"),
        )


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # timm leaves the images that it reads open
def test_timms_training_loop_learns_two_colours(images: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = timm.create_model(
        NAME, num_classes=2, drop_rate=0.0, drop_path_rate=0.1, drop_block_rate=None, global_pool=None, **OPTIONS
    )
    assert safe_model_name(NAME) == NAME
    model.set_grad_checkpointing(enable=True)
    with torch.no_grad():
        model.get_classifier().weight.mul_(0.5)  # --head-init-scale
    config = resolve_data_config({"img_size": None, "input_size": None}, model=model)
    assert config["input_size"] == (3, 32, 32)
    model.to(memory_format=torch.channels_last)
    optimizer = create_optimizer_v2(model, opt="sgd", lr=0.1, momentum=0.9, weight_decay=1e-4, layer_decay=0.9)
    ema = ModelEmaV3(model, decay=0.5)
    scheduler, epochs = create_scheduler_v2(optimizer, num_epochs=8, warmup_epochs=0)
    saver = CheckpointSaver(model, optimizer, model_ema=ema, checkpoint_dir=str(tmp_path), max_history=1)
    loss_of = LabelSmoothingCrossEntropy(0.1)
    losses = []
    for epoch in range(epochs):
        model.train()
        for x, y in _loader(images, "train", config):
            loss = loss_of(model(x.contiguous(memory_format=torch.channels_last)), y)
            optimizer.zero_grad()
            loss.backward()
            dispatch_clip_grad(model_parameters(model), 5.0)
            optimizer.step()
            ema.update(model)
            losses.append(loss.item())
        scheduler.step(epoch + 1, losses[-1])
        saver.save_checkpoint(epoch, metric=losses[-1])
    assert losses[-1] < 0.5 * losses[0]

    again = timm.create_model(NAME, num_classes=2, **OPTIONS)
    load_checkpoint(again, str(tmp_path / "last.pth.tar"), use_ema=False)
    again.eval()
    with torch.no_grad():
        for x, y in _loader(images, "validation", config):
            torch.testing.assert_close(again(x), model.eval()(x))
            assert accuracy(again(x), y, topk=(1,))[0] == 100


def test_a_training_goes_on_from_its_checkpoint_and_others_start_there(tmp_path: Path) -> None:
    """`--resume`, `--model-ema`, `--initial-checkpoint` and `--pretrained-path`."""
    tasks = pytest.importorskip("timm.task")
    if not hasattr(tasks, "resume_task_checkpoint"):
        pytest.skip("an older timm, whose script does this by itself")

    def begin() -> tuple[Any, Any]:
        model = timm.create_model(NAME, num_classes=3, **OPTIONS)
        task = tasks.ClassificationTask(
            model, device=torch.device("cpu"), verbose=False, criterion_kwargs={"smoothing": 0.1}
        )
        return task, create_optimizer_v2(task.get_trainable_module(), opt="sgd", lr=0.05, momentum=0.9)

    def step(task: Any, optimizer: Any, number: int) -> float:
        loss = task(x, y)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        task.update_ema(step=number)
        return loss.item()

    torch.manual_seed(0)
    x, y = torch.randn(8, 3, 16, 16), torch.arange(8) % 3
    task, optimizer = begin()
    task.setup_ema(decay=0.5)
    for number in (1, 2):  # the first update of an average is a copy
        step(task, optimizer, number)
    saver = CheckpointSaver(
        task.get_trainable_module(),
        optimizer,
        args=argparse.Namespace(model=NAME, model_kwargs=OPTIONS),
        checkpoint_dir=str(tmp_path),
        task=task,
    )
    saver.save_checkpoint(0, metric=1.0)
    path = str(tmp_path / "last.pth.tar")

    resumed, its_optimizer = begin()
    assert tasks.resume_task_checkpoint(resumed, path, optimizer=its_optimizer, log_info=False) == 1
    resumed.setup_ema(decay=0.5)
    tasks.load_task_ema_checkpoint(resumed, path)
    averaged = _weights(task.get_eval_model(ema=True))
    assert _same(_weights(resumed.get_eval_model(ema=True)), averaged)
    assert not _same(_weights(resumed.get_eval_model()), averaged)
    assert [step(task, optimizer, n) for n in (3, 4)] == [step(resumed, its_optimizer, n) for n in (3, 4)]

    initial = timm.create_model(NAME, num_classes=3, checkpoint_path=path, **OPTIONS)
    assert _same(_weights(initial), averaged)
    overlay = {"file": path, "num_classes": -1}  # a new classifier, as the script asks for
    other = timm.create_model(NAME, num_classes=5, pretrained=True, pretrained_cfg_overlay=overlay, **OPTIONS)
    for weights in (found := _weights(other), averaged):
        del weights["classifier.weight"], weights["classifier.bias"]
    assert _same(found, averaged)
    assert other.classifier.weight.shape[0] == 5


def _weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Return a copy of the weights, under their names without the wrapper of averages."""
    return {name.removeprefix("module."): tensor.clone() for name, tensor in model.state_dict().items()}


def _same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)
