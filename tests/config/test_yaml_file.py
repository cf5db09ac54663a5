import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddarts.config.yaml_file import MAX_BYTES, parse_yaml, read_yaml
from ddarts.errors import SettingsError

TEXT = """\
# a comment
seed: 3
search:
  ablation: off      # YAML 1.1 would make this False
  lr: 1e-3           # and this text
  reductions: [1, 2]
  layers: null
train:
"""


def test_values_stay_text_so_that_the_settings_decide_on_types():
    document = parse_yaml(TEXT, "x")
    search = {"ablation": "off", "lr": "1e-3", "reductions": ["1", "2"], "layers": None}
    assert document.values == {"seed": "3", "search": search, "train": None}


def test_every_key_has_its_line():
    lines = parse_yaml(TEXT, "x").lines
    assert lines["seed",] == 2
    assert lines["search",] == 3
    assert lines["search", "lr"] == 5


def test_typed_values_are_those_of_yaml():
    assert parse_yaml("a: 1\nb: 0.5\nc: false\nd: 'off'\ne: null", "x", typed=True).values == {
        "a": 1, "b": 0.5, "c": False, "d": "off", "e": None,
    }  # fmt: skip


@pytest.mark.parametrize("text", ["", "# nothing\n", "null", "---\n"])
def test_an_empty_file_says_nothing(text):
    assert parse_yaml(text, "x").values == {}


BOMB = "a: &a [x, x]\nb: &b [*a, *a]\n" + "".join(
    f"{chr(c)}: &{chr(c)} [*{chr(c - 1)}, *{chr(c - 1)}]\n" for c in range(ord("c"), ord("z"))
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1, 2", r"x: line 1, column 9: "),
        ("a: 1\nb: : 2\n", r"x: line 2, column 4: mapping values are not allowed here"),
        ("a: 1\n\tb: 2\n", r"x: line 2, column 1: "),
        ("a: 1\nb: 2\na: 3\n", r"x: line 3: key 'a' stands twice \(first in line 1\)"),
        ("s:\n  a: 1\n  a: 1\n", r"x: line 3: key 'a' stands twice \(first in line 2\)"),
        ("- a\n- b\n", r"x: line 1: expected lines of the form key: value"),
        ("hello", r"x: line 1: expected lines of the form key: value"),
        ("? [a, b]\n: 1\n", r"x: line 1: a key must be a single word"),
        ("a: !!python/object/apply:os.system ['echo hi']\n", r"x: line 1: tag '.*os.system' is not allowed"),
        ("a: !mine 3\n", r"x: line 1: tag '!mine' is not allowed"),
        (BOMB, r"x: line 2, column 8: alias \*a is not allowed; write the value out"),
        ("a: &a\n  b: *a\n", r"x: line 2, column 6: alias \*a is not allowed"),
        ("a: 1\n---\nb: 2\n", r"x: line 2, column 1: "),
        ("a: \x07\n", r"x: line 1: character 7 is not allowed in YAML"),
        ("[" * 3000, r"x: line 1, column 21: nested deeper than 20 levels"),
    ],
)
def test_what_is_not_strict_yaml_is_one_line_with_its_place(text, message):
    with pytest.raises(SettingsError, match=message) as caught:
        parse_yaml(text, "x")
    assert "\n" not in str(caught.value)


def test_files_that_cannot_be_read_are_named(tmp_path):
    with pytest.raises(SettingsError, match=r"nowhere.yaml: no such file; check the path"):
        read_yaml(tmp_path / "nowhere.yaml")
    with pytest.raises(SettingsError, match="cannot be read: Is a directory"):
        read_yaml(tmp_path)
    (tmp_path / "latin.yaml").write_bytes(b"a: \xe9\n")
    with pytest.raises(SettingsError, match=r"latin.yaml: not UTF-8 text at byte 3"):
        read_yaml(tmp_path / "latin.yaml")
    (tmp_path / "large.yaml").write_bytes(b"#" * (MAX_BYTES + 1))
    with pytest.raises(SettingsError, match=f"large.yaml: more than {MAX_BYTES} bytes are too many"):
        read_yaml(tmp_path / "large.yaml")


def test_a_byte_order_mark_is_no_part_of_the_first_key(tmp_path):
    (tmp_path / "windows.yaml").write_bytes(b"\xef\xbb\xbfseed: 3\r\n")
    assert read_yaml(tmp_path / "windows.yaml").values == {"seed": "3"}


def message_or_values(text):
    try:
        return parse_yaml(text, "x").values
    except SettingsError as error:
        return str(error)


@given(st.one_of(st.text(), st.text(alphabet="ab:[]{}&*!-#'\"|> \n\t?,0")))
def test_any_text_at_all_gives_a_mapping_or_one_line(text):
    result = message_or_values(text)
    assert isinstance(result, dict) or (result.startswith("x: ") and "\n" not in result)
