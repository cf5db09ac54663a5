"""The versions that CI installs lie in the ranges of pyproject.toml, and each has a licence on the page."""

from __future__ import annotations

import re
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.docs.guide import ROOT, text_of

PINS = dict(re.findall(r"^([\w.-]+)==(\S+)$", text_of("constraints.txt"), re.MULTILINE))
PROJECT = tomllib.loads(text_of("pyproject.toml"))["project"]
NEEDED = [
    requirement
    for lines in (PROJECT["dependencies"], *(v for k, v in PROJECT["optional-dependencies"].items() if k != "dask"))
    for requirement in map(Requirement, lines)
    if requirement.name != "ddarts"
]


@pytest.mark.parametrize("needed", NEEDED, ids=lambda needed: needed.name)
def test_every_dependency_is_pinned_within_its_declared_range(needed: Requirement):
    assert needed.specifier.contains(PINS[canonicalize_name(needed.name)])


def test_the_page_lists_every_pinned_version_with_a_licence():
    rows = re.findall(
        r"^\| ([\w-]+) \| ([0-9][\w.]*) \| [^|]+ \| ([^|]+) \|$", text_of("docs/dependencies.md"), re.MULTILINE
    )
    assert {name: version for name, version, _ in rows} == PINS, "run python docs/make_dependencies.py"
    assert [name for name, _, licence in rows if licence.startswith("not stated")] == ["cuda-toolkit"]


def test_ci_installs_the_pinned_versions():
    (command,) = re.findall(r"^\t.* pip install (.*)$", text_of("Makefile"), re.MULTILINE)
    assert "-c constraints.txt" in command
    assert "make test" in text_of(".ci/run")
    assert (ROOT / "constraints.txt").is_file()
