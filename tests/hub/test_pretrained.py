"""Networks as folders for the hub."""

import json
import re
from pathlib import Path

import pytest
import torch

import ddarts
from ddarts.errors import RunError
from ddarts.genotype.random import random_genotype
from ddarts.hub.pretrained import Network
from ddarts.hub.saved import save_model
from ddarts.nn.preprocessing import ModelError
from ddarts.space.cell_space import build_space
from ddarts.training.evaluate import load_model
from tests.processes import finished

CLASSES = ("car", "doll", "a|b`<script>")


@pytest.fixture
def network():
    torch.manual_seed(0)
    network = Network(random_genotype(build_space(cells=3, nodes=2), seed=1), channels=2, in_channels=1, classes=3)
    network(torch.randn(8, 1, 8, 8))
    return network.eval()


def describe(network, folder, **more):
    network.save_pretrained(folder, classes=CLASSES, resolution=(8, 8), mean=(0.4,), std=(0.2,), **more)


@pytest.fixture
def run(network, tmp_path):
    """A run's folder, with what matters here."""
    run = tmp_path / "run"
    save_model(run / "model", network, classes=CLASSES, resolution=(8, 8), mean=(0.4,), std=(0.2,))
    (run / "settings.yaml").write_text("format: ddarts-run\nversion: 2\n")
    facts = {"data": "/home/me/toys", "test_top1": 0.875, "val_top1": 0.9, "train_images": 1234, "search_s": 1.0}
    (run / "summary.json").write_text(json.dumps(facts | {"versions": {"ddarts": "1.2.3"}}))
    (run / "test.json").write_text(json.dumps({"top1": 0.875, "count": 456}))
    return run


def test_a_folder_gives_the_same_network_through_both_doors(network, tmp_path):
    describe(network, tmp_path / "hub")
    assert {p.name for p in (tmp_path / "hub").iterdir()} == {"config.json", "model.safetensors", "README.md"}
    x = torch.randn(2, 1, 8, 8)
    with torch.no_grad():
        expected = network(x)
        for loaded in (Network.from_pretrained(tmp_path / "hub"), load_model(tmp_path / "hub").network):
            assert not loaded.training
            assert torch.equal(loaded(x), expected)
            assert loaded.config.classes == CLASSES


def test_a_run_and_its_model_folder_can_be_loaded(run):
    for source in (run, run / "model", str(run)):
        assert Network.from_pretrained(source).config.resolution == (8, 8)


def test_the_card_says_what_the_run_measured_and_nothing_of_the_disk(run, tmp_path):
    Network.from_pretrained(run).save_pretrained(tmp_path / "hub", repository="me/toys")
    card = (tmp_path / "hub" / "README.md").read_text()
    assert "| top-1 on test images | 87.50 % (456 images) |" in card
    assert "| data | toys, training part of 1,234 images |" in card
    assert "| made with | ddarts 1.2.3 |" in card
    assert 'from_pretrained("me/toys")' in card
    assert "/home" not in card
    assert str(tmp_path) not in card
    assert "<script>" not in card
    parameters = sum(p.numel() for p in Network.from_pretrained(run).parameters())
    assert f"| parameters | {parameters:,} |" in card


def test_the_head_of_the_card_is_yaml_without_a_licence(network, tmp_path):
    import yaml

    describe(network, tmp_path / "hub")
    _, head, _ = (tmp_path / "hub" / "README.md").read_text().split("---\n", 2)
    data = yaml.safe_load(head)
    assert data["library_name"] == "ddarts"
    assert "license" not in data


def test_the_card_of_changed_weights_claims_no_accuracy(run, tmp_path):
    network = Network.from_pretrained(run)
    with torch.no_grad():
        network.classifier.bias += 1
    network.save_pretrained(tmp_path / "hub")
    card = (tmp_path / "hub" / "README.md").read_text()
    assert "%" not in card
    assert "The weights were changed" in card


def test_a_network_without_a_run_has_a_card_without_accuracy(network, tmp_path):
    describe(network, tmp_path / "hub")
    card = (tmp_path / "hub" / "README.md").read_text()
    assert not re.search(r"\d %", card)
    assert "was not measured" in card


@pytest.mark.parametrize(
    "summary", ["", "[]", '{"test_top1": 7, "versions": 3, "data": 5, "train_images": "x"}', "{" * 9]
)
def test_a_broken_summary_says_nothing(run, tmp_path, summary):
    (run / "summary.json").write_text(summary)
    Network.from_pretrained(run).save_pretrained(tmp_path / "hub")
    assert "was not measured" in (tmp_path / "hub" / "README.md").read_text()


def test_a_new_network_must_be_told_its_classes(network, tmp_path):
    with pytest.raises(ModelError, match=r"hub: the network does not know its classes and mean and std; name them"):
        network.save_pretrained(tmp_path / "hub", resolution=(8, 8))
    with pytest.raises(ModelError, match="2 names for a network of 3 classes"):
        network.save_pretrained(tmp_path / "hub", classes=("a", "b"), resolution=(8, 8), mean=(0.4,), std=(0.2,))
    with pytest.raises(ModelError, match=r"repository .\.\./x. is not of the form USER/NAME"):
        describe(network, tmp_path / "hub", repository="../x")
    assert not (tmp_path / "hub").exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError):
        describe(network, tmp_path / "file")


def test_a_wrong_path_is_named_before_the_hub_is_asked(tmp_path):
    for source in ("nowhere", str(tmp_path / "nowhere"), "./a/b", "a/b/c", "..", ""):
        with pytest.raises(ModelError, match=r"no such (model )?f(older|ile)"):
            Network.from_pretrained(source)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelError, match=r"config\.json is a file; give the folder"):
        Network.from_pretrained(tmp_path / "config.json")


def test_a_repository_that_cannot_be_had_is_one_line_with_both_readings(tmp_path):
    pytest.importorskip("huggingface_hub", reason="needs the extra hub")
    with pytest.raises(ModelError) as caught:
        Network.from_pretrained("nobody/nothing", cache_dir=tmp_path, local_files_only=True)
    assert str(caught.value).startswith("nobody/nothing: no such folder, and config.json cannot be had from the hub")
    assert "\n" not in str(caught.value)


def test_a_repository_that_was_fetched_before_is_read_offline(network, tmp_path):
    pytest.importorskip("huggingface_hub", reason="needs the extra hub")
    revision = "0" * 40
    repository = tmp_path / "cache" / "models--me--toys"
    describe(network, repository / "snapshots" / revision)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(revision)
    loaded = Network.from_pretrained("me/toys", cache_dir=tmp_path / "cache", local_files_only=True)
    assert loaded.config.classes == CLASSES


def test_folders_need_no_huggingface_hub(run):
    code = (
        "import sys; sys.modules['huggingface_hub'] = None\n"
        "import ddarts\n"
        f"ddarts.Network.from_pretrained({str(run)!r})\n"
        "try: ddarts.Network.from_pretrained('me/toys')\n"
        "except ddarts.DDartsError as error: print(error)\n"
    )
    done = finished(code, folder=Path(Path.cwd().root))
    assert done.status == 0, done.err
    assert done.out.strip().endswith("pip install 'ddarts[hub]'")
    assert ddarts.Network is Network
