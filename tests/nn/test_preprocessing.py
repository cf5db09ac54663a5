from __future__ import annotations

import json

import pytest

from ddarts.nn.preprocessing import ModelError, Preprocessing

GOOD = Preprocessing(3, (32, 24), (0.1, 0.2, 0.3), (1.0, 2.0, 3.0), ("a", "ß\n"))


def changed(**fields: object) -> str:
    return json.dumps(json.loads(GOOD.to_json()) | fields)


def test_what_is_written_is_read() -> None:
    assert Preprocessing.from_json(GOOD.to_json(), "x") == GOOD


def test_it_tells_people_what_to_do() -> None:
    steps = json.loads(GOOD.to_json())["steps"]
    assert set(steps) == {"resize", "scale", "normalise", "input", "output"}
    without = json.loads(GOOD.to_json())
    del without["steps"]
    assert Preprocessing.from_json(json.dumps(without), "x") == GOOD


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "x: line 1"),
        ("[]", "expected an object with format and version"),
        (changed(format="ddarts-model"), "is this a preprocessing file"),
        (changed(version=2), "version 2 cannot be read"),
        (changed(more=1), "unknown key 'more'"),
        (changed(in_channels=0), "in_channels = 0 is out of range"),
        (changed(in_channels=2), "mean has 3 values for 2 image channels"),
        (changed(in_channels=True), "must be a whole number"),
        (changed(resolution=[8]), r"expected \[height, width\], found 1 numbers"),
        (changed(resolution=[8, 10**9]), "must be 1 to 65536 pixels"),
        (changed(classes=[]), "classes is empty"),
        (changed(classes=["a", "a"]), "the class 'a' stands twice"),
        (changed(classes="ab"), "classes: expected a list"),
        (changed(classes=[1]), r"classes\[0\]: 1 must be text"),
        (changed(std=[1, 0, 1]), "must be at least 1e-07"),
        (changed(mean=[0, 0, 1e9]), r"mean\[2\]: 1000000000.0 must be a number"),
        ('{"format": "ddarts-preprocessing", "version": 1, "mean": [NaN]}', "is missing"),
    ],
)
def test_what_is_wrong_is_named(text: str, message: str) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        Preprocessing.from_json(text, "x")
    assert str(caught.value).startswith("x: ")
    assert "\n" not in str(caught.value)
