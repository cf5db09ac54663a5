"""The keyword arguments that type checkers see are the settings that the functions accept."""

import importlib.util
import typing
from pathlib import Path

import pytest

import ddarts
from ddarts.config import keywords
from ddarts.config.layers import STAGES, group_fields, groups_of, homes_of
from ddarts.errors import SettingsError

SCRIPT = Path(__file__).parents[2] / "docs" / "make_keywords.py"


def test_the_module_is_that_of_the_settings():
    spec = importlib.util.spec_from_file_location("make_keywords", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    assert script.TARGET.read_text(encoding="utf-8") == script.text(), "run python docs/make_keywords.py"


@pytest.mark.parametrize(
    ("stage", "name"),
    [
        ("run", "RunKeywords"),
        ("search", "SearchKeywords"),
        ("derive", "DeriveKeywords"),
        ("train", "TrainKeywords"),
        ("compare", "CompareKeywords"),
        ("measure-operations", "MeasureKeywords"),
        ("test", "EvaluateKeywords"),
        ("profile", "ProfileKeywords"),
        ("probe", "ProbeKeywords"),
    ],
)
def test_every_unambiguous_name_of_a_stage_is_a_keyword_and_no_other(stage, name):
    groups = groups_of(stage)
    inside = {key for group in groups for key in group_fields(group) if len(homes_of(key, groups)) == 1}
    known = typing.get_type_hints(getattr(keywords, name)).keys() | {"data"}
    assert known == inside | STAGES[stage].model_fields.keys() | {"data"}


def test_public_functions_are_typed_by_them():
    for function in (ddarts.run, ddarts.search, ddarts.derive, ddarts.train, ddarts.compare, ddarts.study, ddarts.test):
        assert str(function.__annotations__["settings"]).startswith("Unpack[")


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda: ddarts.search("digits", epoch=3), "unknown setting 'epoch'; did you mean 'epochs'?"),
        (lambda: ddarts.run("digits", train={"chanels": 3}), "unknown setting 'train.chanels'; did you mean"),
        (lambda: ddarts.run("digits", epochs=3), "'epochs' belongs to a group; write search.epochs or train.epochs"),
        (lambda: ddarts.train("digits", genotype="resnet18", chanels=3), "'chanels'; did you mean 'channels'?"),
        (lambda: ddarts.derive("resnet18", thresold=0.5), "'thresold'; did you mean 'threshold'?"),
        (lambda: ddarts.compare(["resnet18", "resnet50"], sedes=2), "'sedes'; did you mean"),
        (lambda: ddarts.study(["darts"], data=["digits"], cels=2), "'cels'; did you mean"),
        (lambda: ddarts.profile("resnet18", chanels=2), "'chanels'; did you mean 'channels'?"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest(call, told, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SettingsError) as caught:
        call()
    assert told in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert not list(tmp_path.iterdir())
