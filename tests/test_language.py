"""Messages, docstrings, comments and pages use standard technical terms."""

import ast
import io
import re
import tokenize
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "ddarts"

#: Each phrase that a reader would have to translate, and the standard term.
BANNED = {
    r"\bgo(es)? on\b|\bgoing on\b|\bwent on\b": "resume, continue",
    r"\bmends?\b|\bmended\b": "fix",
    r"\bstrangers?\b": "untrusted",
    r"\bdear(ly)?\b": "expensive",
    r"\blaid (down|side)\b|\blays? (down|it down)\b": "stored, concatenated",
    r"\btries out\b|\bwas tried\b|\btried out\b": "tested",
    r"\bweighs?\b": "multiplies by the gate; mixed operation",
    r"\bfans?\b": "grouped edges",
    r"\bis the rule\b": "is the reference",
    r"\brightly\b": "correctly",
    r"\bis not there\b": "is not available, does not exist",
    r"\btells no\b|\bmay be told\b|\bis told\b|\bare told\b": "report, print, raise",
    r"\btell(s|ing)? (how|what|whether|that|why|of|where|which)\b": "report, return whether",
    r"\ba defect of ddarts\b": "a bug in ddarts",
    r"\bhow far it is\b": "status, progress",
    r"\b(images|MACs|batch|lines?|row|line|seconds|cells?|steps?) an? (image|batch|step|edge|cell|node|epoch)\b": "per",
    r"\bparts? of the data\b": "split",
    r"\bat no loss\b|\bin nobody's way\b": "plain words",
}


def texts(path: Path) -> list[tuple[int, str]]:
    """Return the lines of a page, or the strings and comments of a module, with their line numbers."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".py":
        return [(n, line) for n, line in enumerate(text.splitlines(), 1) if not line.startswith("ddarts: ")]  # output
    found = [
        (node.lineno, node.value)
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    comments = tokenize.generate_tokens(io.StringIO(text).readline)
    return found + [(token.start[0], token.string) for token in comments if token.type == tokenize.COMMENT]


PAGES = [*PACKAGE.rglob("*.py"), *PACKAGE.rglob("*.html"), *(ROOT / "docs").glob("*.md"), ROOT / "README.md"]


@pytest.mark.parametrize("path", [str(p.relative_to(ROOT)) for p in sorted(PAGES)])
def test_words_are_those_of_the_field(path: str):
    found = [
        f"{path}:{line}: {match[0]!r}: write {better}"
        for line, text in texts(ROOT / path)
        for phrase, better in BANNED.items()
        for match in re.finditer(phrase, " ".join(text.split()), re.IGNORECASE)
    ]
    assert found == []
