"""What a study consists of, from keywords and from a YAML file."""

from pathlib import Path

import pytest

from ddarts.errors import SettingsError
from ddarts.experiments.plan import EQUAL_COST, SAME_SIZE, plan, specs

NOTHING = dict.fromkeys(("strategies", "data", "seeds", "preset", "config", "opponents", "draws"))


def planned(overrides=None, **given):
    return plan(**{**NOTHING, **given}, overrides=overrides or {})


def test_without_a_word_it_is_the_default_method_on_the_digits():
    study = planned()
    assert (list(study.methods), study.data, study.seeds, study.opponents) == (["d-darts"], ("digits",), 10, True)
    assert study.settings("d-darts", "digits", 3).seed == 3


def test_a_file_gives_each_strategy_its_settings_and_keywords_count_more(tmp_path: Path):
    (tmp_path / "s.yaml").write_text(
        "preset: demo\ndata: [digits, cifar10]\nseeds: 5\nsearch: {epochs: 3}\n"
        "strategies:\n  plain: {search.ablation: off}\n  short: {search: {epochs: 2}}\n"
    )
    study = planned({"search.epochs": "4", "seed": "7"}, config=tmp_path / "s.yaml", seeds="2")
    assert (study.data, study.seeds, study.seed, study.preset) == (("digits", "cifar10"), 2, 7, "demo")
    plain, short = (study.settings(name, "digits", 9) for name in ("plain", "short"))
    assert (plain.search.epochs, plain.search.strategy.ablation, short.search.epochs) == (4, "off", 2)
    assert (plain.seed, plain.threads, plain.data) == (9, 1, "digits")
    assert list(planned(config=tmp_path / "s.yaml", strategies="short").methods) == ["short"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"strategies": {"x": {"search.epoch": 3}}}, "strategy 'x': .*did you mean 'search.epochs'"),
        ({"strategies": {"x": {"seed": 3}}}, "strategy 'x' sets seed, which is the same for all"),
        ({"strategies": {SAME_SIZE: {}}}, "no name of an opponent"),
        ({"strategies": {"../x": {}}}, "use 1 to 40 letters"),
        ({"strategies": "d-darts,d-darts"}, "a name stands twice"),
        ({"seeds": 0}, "seeds = 0 must be at least 1"),
        ({"config": {"strategies": {"x": 3}}}, "'3': settings must be a mapping"),
        ({"overrides": {"validation": 0}}, "validation = 0 leaves nothing to choose random networks by"),
        ({"overrides": {"devices": 2}}, "one process a trial; leave out devices"),
    ],
)
def test_what_cannot_be_run_is_an_error_before_anything_is_trained(given, message):
    with pytest.raises(SettingsError, match=message):
        planned(given.pop("overrides", None), **given)


def test_trials_come_seed_by_seed_in_places_of_their_own():
    study = planned(strategies={"a": {}, "b": {}}, data=["digits", "cifar10:x/digits"], seeds=2)
    found = list(specs(study, Path("s"), ""))
    assert [(s.seed, s.data, s.name) for s in found[:3]] == [
        (0, "digits", "a"),
        (0, "digits", "b"),
        (0, "cifar10:x/digits", "a"),
    ]
    assert len({s.run for s in found}) == len(found) == 8
    assert found[0].record == Path("s/trials/0-digits/a-seed0.json")
    opponents = list(specs(study, Path("s"), SAME_SIZE, EQUAL_COST))
    assert [s.name for s in opponents[:2]] == [f"{SAME_SIZE}-as-a", f"{SAME_SIZE}-as-b"]
    assert opponents[1].of_method() == found[1]
    alone = planned(seeds=1)
    assert [s.name for s in specs(alone, Path("s"), SAME_SIZE, EQUAL_COST)] == [SAME_SIZE, EQUAL_COST]
