"""The commands that README.md and the pages in docs/ tell people to run, as lists of words."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = ("README.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")))

#: What a line of a block may begin with to count as a command.
PROGRAMS = ("ddarts", "python", "torchrun", "srun", "pip", "hf", "make", "tensorboard")

_FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_INDENTED = re.compile(r"(?:(?<=\n\n)|\A)(?: {4}.*\n|\n(?= {4}))+")
_CODE = re.compile(r"`(ddarts [^`]+)`")


def text_of(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(page: str) -> Iterator[tuple[str, str]]:
    """Yield (language, text) of each block, fenced or indented; an indented one has the language ""."""
    text = text_of(page)
    yield from ((match[1], match[2]) for match in _FENCED.finditer(text))
    for match in _INDENTED.finditer(_FENCED.sub("", text)):
        yield "", re.sub(r"^ {4}", "", match[0], flags=re.MULTILINE)


def lines(language: str, block: str) -> Iterator[str]:
    """Yield the commands of a block; in one that shows a session, what follows ``$``."""
    whole = re.sub(r"\\\n\s*", "", block).splitlines()
    if any(line.startswith("$ ") for line in whole):
        whole = [line[2:] for line in whole if line.startswith("$ ")]
    for line in whole:
        words = line.split()
        if words and words[0] in PROGRAMS:
            yield line
        elif words and language == "sh":
            assert words[0].startswith("#"), f"neither a command nor a comment: {line}"


def commands(page: str) -> list[list[str]]:
    """Return the commands of a page's blocks in order, without comments, options in brackets and "..."."""
    found = [
        line
        for language, block in blocks(page)
        if language not in ("python", "yaml")
        for line in lines(language, block)
    ]
    return [words_of(line) for line in found]


def mentioned(page: str) -> list[list[str]]:
    """Return the commands of `ddarts` that stand in the sentences of a page."""
    return [words_of(code) for code in _CODE.findall(_INDENTED.sub("\n", _FENCED.sub("", text_of(page))))]


def words_of(line: str) -> list[str]:
    """Split a command as a shell does."""
    return [
        word
        for word in shlex.split(re.sub(r"\[[^][]*\]", "", line) if "pip" not in line else line, True)
        if word != "..."
    ]
