"""What README.md and the pages in docs/ tell people to run: commands as lists of words, Python as text."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = ("README.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")))

#: What a line of a block may begin with to count as a command.
PROGRAMS = ("ddarts", "python", "torchrun", "srun", "pip", "hf", "make", "tensorboard")

_FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_INDENTED = re.compile(r"(?:(?<=\n\n)|\A)(?: {4}.*\n|\n(?= {4}))+")
_EXPRESSION = re.compile(r"`(ddarts\.[^`]+)`")
_CODE = re.compile(r"`(ddarts [^`]+)`")


def text_of(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(page: str) -> Iterator[tuple[str, str]]:
    """Yield (language, text) of each block in order, fenced or indented; an indented one has the language ""."""
    text = text_of(page)
    found = [(match.start(), match[1], match[2]) for match in _FENCED.finditer(text)]
    rest = _FENCED.sub(lambda match: "\n" * len(match[0]), text)  # of the same length: places stay what they are
    for match in _INDENTED.finditer(rest):
        found.append((match.start(), "", re.sub(r"^ {4}", "", match[0], flags=re.MULTILINE)))
    yield from ((language, block) for _, language, block in sorted(found))


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


@dataclass(frozen=True)
class Python:
    """A block of Python; `prints` is the block of text right below it, which shows what it prints."""

    code: str
    prints: str | None


def steps(page: str) -> list[list[str] | Python]:
    """Return what a page tells people to run, in order: commands as `commands` has them, and blocks of Python."""
    shown = list(blocks(page))
    found: list[list[str] | Python] = []
    for number, (language, block) in enumerate(shown):
        below, text = shown[number + 1] if number + 1 < len(shown) else ("", "")
        if language == "python":
            found.append(Python(block, text if below == "text" and _follows(page, block) else None))
        elif language != "yaml":
            assert not block.startswith(("import ", "from ")), f"Python without its fence is not run: {block}"
            found += [words_of(line) for line in lines(language, block)]
    return found


def _follows(page: str, code: str) -> bool:
    """Tell whether nothing but space stands between a block of Python and a block of text."""
    return re.match(r"```\s+```text\n", text_of(page).partition(code)[2]) is not None


def commands(page: str) -> list[list[str]]:
    """Return the commands of a page's blocks in order, without comments, options in brackets and "..."."""
    return [step for step in steps(page) if isinstance(step, list)]


def python(page: str) -> list[Python]:
    """Return the blocks of Python of a page."""
    return [step for step in steps(page) if isinstance(step, Python)]


def mentioned(page: str) -> list[list[str]]:
    """Return the commands of `ddarts` that stand in the sentences of a page."""
    return [words_of(code) for code in _CODE.findall(_INDENTED.sub("\n", _FENCED.sub("", text_of(page))))]


def mentioned_python(page: str) -> list[str]:
    """Return the expressions with names of `ddarts` that stand in the sentences of a page."""
    return _EXPRESSION.findall(_INDENTED.sub("\n", _FENCED.sub("", text_of(page))))


def words_of(line: str) -> list[str]:
    """Split a command as a shell does."""
    return [
        word
        for word in shlex.split(re.sub(r"\[[^][]*\]", "", line) if "pip" not in line else line, True)
        if word != "..."
    ]
