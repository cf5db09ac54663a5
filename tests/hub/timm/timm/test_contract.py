"""The checks that timm's tests/test_models.py makes of every model, made of ours."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch

timm = pytest.importorskip("timm")

from timm.layers import create_feature_extractor  # noqa: E402
from timm.models import FeatureInfo, group_parameters  # noqa: E402

import ddarts.hub.timm  # noqa: E402

#: Every name but "ddarts" itself, which needs to be told an architecture.
NAMES = [name for name in ddarts.hub.timm.model_names() if name != "ddarts"]

#: For checks that take longer: cells that skip the cell before, shared cells, cells of their own.
SAMPLE = ["ddarts_resnet50", "ddarts_xception", "ddarts_darts_v2", "ddarts_dd_cifar10_sparse"]


def _create(name: str, **options: Any) -> Any:
    torch.manual_seed(0)
    return timm.create_model(name, **{"channels": 4, **options})


def test_there_is_a_name_for_each_baseline_and_entry_of_the_zoo() -> None:
    assert set(SAMPLE) <= set(NAMES)
    assert set(NAMES) <= set(timm.list_models("ddarts_*"))
    assert timm.list_models("ddarts*", module="ddarts_models", include_tags=True) == timm.list_models("ddarts*")
    assert not set(NAMES) & set(timm.list_models("ddarts_*", pretrained=True))


@pytest.mark.parametrize("name", NAMES)
def test_forward_and_backward(name: str) -> None:
    model = _create(name, num_classes=42).train()
    logits = model(torch.randn(2, 3, 64, 64))
    assert logits.shape == (2, 42)
    assert logits.isfinite().all()
    logits.mean().backward()
    assert [n for n, p in model.named_parameters() if p.grad is None] == []
    with torch.no_grad():
        maps = model.forward_intermediates(torch.randn(2, 3, 72, 64), intermediates_only=True)
    _check_maps(maps, FeatureInfo(model.feature_info, len(model.feature_info)))


def _check_maps(maps: list[torch.Tensor], info: FeatureInfo) -> None:
    assert len(maps) == len(info.channels()) >= 3
    for found, channels, reduction in zip(maps, info.channels(), info.reduction(), strict=True):
        assert found.shape[1:] == (channels, math.ceil(72 / reduction), math.ceil(64 / reduction))
        assert found.isfinite().all()


@pytest.mark.parametrize("name", SAMPLE)
def test_features_only(name: str) -> None:
    model = _create(name, features_only=True).eval()
    x = torch.randn(1, 3, 72, 64)
    with torch.no_grad():
        maps = model(x)
    _check_maps(maps, model.feature_info)
    assert "classifier" not in " ".join(model.state_dict())


@pytest.mark.parametrize("name", SAMPLE)
def test_recomputation_changes_nothing_in_evaluation(name: str) -> None:
    model = _create(name).eval()
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        logits = model(x)
        model.set_grad_checkpointing()
        assert torch.equal(model(x), logits)


@pytest.mark.parametrize("name", SAMPLE)
def test_heads_at_full_size(name: str) -> None:
    model = timm.create_model(name, device="meta", dtype=torch.float32).eval()
    weights = set(model.state_dict())
    assert all(tensor.device.type == "meta" for tensor in model.state_dict().values())
    cfg = model.default_cfg
    assert cfg == {**timm.get_pretrained_cfg(name).to_dict(), "architecture": name}
    assert (model.in_chans, model.num_classes) == (cfg["input_size"][0], cfg["num_classes"])
    assert {f"{cfg['classifier']}.weight", f"{cfg['first_conv']}.weight"} <= weights
    assert model.get_classifier(name_only=True) == cfg["classifier"]

    x = torch.randn(1, *cfg["input_size"], device="meta")
    features = model.forward_features(x)
    assert features.shape == (1, model.num_features, *cfg["pool_size"])
    pooled = model.forward_head(features, pre_logits=True)
    assert pooled.shape == (1, model.head_hidden_size)
    assert model.to(torch.bfloat16)(x.bfloat16()).dtype == torch.bfloat16
    model.float()
    model.reset_classifier(0)
    assert model.num_classes == 0
    assert model(x).shape == pooled.shape
    model.reset_classifier(0, "")
    assert model(x).shape == features.shape
    bare = timm.create_model(name, num_classes=0, global_pool="", device="meta")
    assert bare(x).shape == features.shape


@pytest.mark.parametrize("name", SAMPLE)
@pytest.mark.parametrize("kind", ["hook", "fx"])
def test_other_ways_to_extract_features_agree(name: str, kind: str) -> None:
    x = torch.randn(1, 3, 65, 64)
    getter = _create(name, features_only=True).eval()
    other = _create(name, features_only=True, feature_cls=kind).eval()
    weights = {name.partition(".")[2]: tensor for name, tensor in getter.state_dict().items()}
    theirs = other.state_dict()  # the same names after another prefix
    other.load_state_dict({k: weights.get(k.partition(".")[2], tensor) for k, tensor in theirs.items()})
    with torch.no_grad():
        for a, b in zip(other(x), getter(x), strict=True):
            torch.testing.assert_close(a, b)


@pytest.mark.parametrize("name", SAMPLE)
def test_forward_intermediates(name: str) -> None:
    model = _create(name).eval()
    info = FeatureInfo(model.feature_info, len(model.feature_info))
    x = torch.randn(1, 3, 96, 96)
    with torch.no_grad():
        final, maps = model.forward_intermediates(x)
        assert [m.shape[1] for m in maps] == info.channels()
        assert torch.equal(final, model.forward_features(x))
        assert torch.equal(final, maps[-1])
        for i, expected in enumerate(maps):
            only = model.forward_intermediates(x, indices=[i], stop_early=True, intermediates_only=True)
            assert torch.equal(only[0], expected)
            assert torch.equal(model.forward_intermediates(x, indices=[i], stop_early=True)[0], expected)
            assert torch.equal(model.forward_intermediates(x, indices=[i])[0], final)
        assert len(model.forward_intermediates(x, indices=2, intermediates_only=True)) == 2
    with pytest.raises(ddarts.DDartsError, match="output_fmt = 'NLC'"):
        model.forward_intermediates(x, output_fmt="NLC")


@pytest.mark.parametrize("name", SAMPLE)
def test_pruning_keeps_the_maps_and_leaves_no_idle_weights(name: str) -> None:
    model = _create(name, drop_rate=0.5).eval()
    x = torch.randn(2, 3, 96, 96)
    last = len(model.feature_info) - 1
    with torch.no_grad():
        logits = model(x)
        maps = model.forward_intermediates(x, intermediates_only=True)
        whole = copy.deepcopy(model)
        whole.prune_intermediate_layers([last], prune_head=False)
        assert torch.equal(whole(x), logits)
    for index, expected in enumerate(maps):
        pruned = copy.deepcopy(model)
        taken = pruned.prune_intermediate_layers([index])
        with torch.no_grad():
            assert torch.equal(pruned.forward_intermediates(x, indices=taken, intermediates_only=True)[0], expected)
            assert torch.equal(pruned.forward_features(x), expected)
            assert pruned.num_features == expected.shape[1]
            pruned.reset_classifier(7, "avg")
            assert pruned(x).shape == (2, 7)
            pruned.reset_classifier(0, "")
        pruned.train().forward_features(x).sum().backward()
        assert [n for n, p in pruned.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize("name", SAMPLE)
def test_symbolic_tracing(name: str) -> None:
    model = _create(name).eval()
    x = torch.randn(1, 3, 65, 64)
    with torch.inference_mode():
        logits = model(x)
        traced = create_feature_extractor(model, return_nodes=["classifier"])
        assert torch.equal(traced(x)["classifier"], logits)


def test_pooling_is_kept_and_changed() -> None:
    model = _create("ddarts_darts_v2", num_classes=5, global_pool="max").eval()
    features = model.forward_features(torch.randn(2, 3, 64, 64))
    assert torch.equal(model.forward_head(features, pre_logits=True), features.amax((2, 3)))
    model.reset_classifier(3)
    assert torch.equal(model.forward_head(features, pre_logits=True), features.amax((2, 3)))
    model.reset_classifier(3, "catavgmax")
    assert model.head_hidden_size == 2 * model.num_features
    assert model.forward_head(features).shape == (2, 3)


def test_reset_classifier_follows_device_type_and_mode() -> None:
    model = _create("ddarts_darts_v2").to(dtype=torch.float64).eval()
    model.reset_classifier(0)
    model.reset_classifier(2)
    assert model.get_classifier().weight.dtype == torch.float64
    assert not any(module.training for module in model.modules())
    model.requires_grad_(False)
    model.reset_classifier(0)
    assert not any(p.requires_grad for p in model.parameters())


def test_parameters_are_grouped_from_the_stem_to_the_classifier() -> None:
    model = _create("ddarts_darts_v2")
    groups = group_parameters(model, model.group_matcher(coarse=False), reverse=True)
    assert groups["stem.conv1.weight"] == 0
    cells = [groups[f"cells.{i}.preprocess1.conv.weight"] for i in range(14)]
    assert cells == list(range(1, 15))
    assert groups["classifier.weight"] > 14


def test_an_unknown_argument_is_an_error() -> None:
    with pytest.raises(TypeError, match="not_an_argument"):
        _create("ddarts_darts_v2", not_an_argument=1)
