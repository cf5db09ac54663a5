"""Signatures name the settings, for `help` and for completion while Python runs."""

import inspect

import pytest

import ddarts
from ddarts.config import keywords


@pytest.mark.parametrize(
    ("function", "kind"),
    [
        (ddarts.run, keywords.RunKeywords),
        (ddarts.search, keywords.SearchKeywords),
        (ddarts.train, keywords.TrainKeywords),
        (ddarts.test, keywords.EvaluateKeywords),
        (ddarts.compare, keywords.CompareKeywords),
        (ddarts.measure_operations, keywords.MeasureKeywords),
    ],
)
def test_a_signature_names_every_setting_once_and_none_is_needed(function, kind):
    signature = inspect.signature(function)
    assert kind.__annotations__.keys() <= signature.parameters.keys()
    assert all(p.kind is not p.VAR_KEYWORD for p in signature.parameters.values())
    named = [p for name, p in signature.parameters.items() if name in kind.__annotations__ and name != "data"]
    assert all(p.kind is p.KEYWORD_ONLY for p in named)
    assert "seed: int = ..." in str(signature)


def test_an_unknown_setting_still_gets_the_nearest_name():
    with pytest.raises(ddarts.DDartsError, match="unknown setting 'epoch'; did you mean"):
        ddarts.search("digits", epoch=3)
