"""Draw the rooms of the package, in the order in which they may import each other, from the imports of its modules.

python docs/make_architecture.py    # writes docs/pictures/architecture.svg
"""

from __future__ import annotations

import ast
from html import escape
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "ddarts"
PICTURE = ROOT / "docs" / "pictures" / "architecture.svg"
_WIDTH, _HEIGHT, _STEP, _LEFT, _TOP, _BEND = 620, 26, 40, 90, 16, 13


def imports() -> dict[str, set[str]]:
    """Return the rooms, each with the rooms that it imports from; the top package and `__main__` are left out."""
    rooms = {
        p.stem if p.suffix else p.name for p in SOURCE.iterdir() if p.suffix == ".py" or (p / "__init__.py").exists()
    }
    found: dict[str, set[str]] = {room: set() for room in sorted(rooms) if not room.startswith("__")}
    for path in SOURCE.rglob("*.py"):
        room = path.relative_to(SOURCE).with_suffix("").parts[0]
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if room in found else ():
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            found[room] |= {n.split(".")[1] for n in names if n.startswith("ddarts.")} & set(found) - {room}
    return found


def order(graph: dict[str, set[str]]) -> list[str]:
    """Return the rooms from the top down: every room stands above those that it imports from."""
    left, rows = dict(graph), []
    while left:
        top = sorted(room for room in left if not any(room in others for others in left.values()))
        if not top:
            raise SystemExit(f"imports run in a circle among {', '.join(sorted(left))}")
        rows += top
        left = {room: below for room, below in left.items() if room not in top}
    return rows


def draw(graph: dict[str, set[str]]) -> str:
    """Return the picture: a box for each room and a curve for each import that no other path of imports implies."""
    rows = order(graph)
    at = {room: _TOP + i * _STEP for i, room in enumerate(rows)}
    parts = []

    def reach(room: str) -> set[str]:
        return {room}.union(*(reach(below) for below in graph[room]))

    for room in rows:
        for below in sorted(graph[room] - {far for near in graph[room] for far in reach(near) - {near}}):
            side = 1 if (rows.index(room) + rows.index(below)) % 2 else -1
            x = _WIDTH / 2 + side * 90
            bend = x + side * _BEND * (rows.index(below) - rows.index(room))
            y, end = at[room] + _HEIGHT / 2, at[below] + _HEIGHT / 2
            parts.append(f'<path d="M{x} {y} C{bend} {y} {bend} {end} {x + side * 6} {end}"/>')
    boxes = [
        f'<rect x="{_WIDTH / 2 - 90}" y="{y}" width="180" height="{_HEIGHT}" rx="5"/>'
        f'<text x="{_WIDTH / 2}" y="{y + 17}">{escape(room)}</text>'
        for room, y in at.items()
    ]
    height = _TOP + len(rows) * _STEP
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}" '
        'font-family="sans-serif" font-size="13">\n<title>Rooms of ddarts and their imports</title>\n'
        '<defs><marker id="a" viewBox="0 0 6 6" refX="5" refY="3" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0 6 3 0 6z" fill="#5b6470"/></marker></defs>\n'
        f'<rect width="{_WIDTH}" height="{height}" fill="#ffffff"/>\n'
        '<g fill="none" stroke="#5b6470" stroke-width="1.1">\n'
        + "\n".join(p.replace("/>", ' marker-end="url(#a)"/>') for p in parts)
        + '\n</g>\n<g fill="#e3f0f8" stroke="#0072b2">\n'
        + "\n".join(b.replace("<text", '<text stroke="none" fill="#16191d" text-anchor="middle"') for b in boxes)
        + "\n</g>\n</svg>\n"
    )


if __name__ == "__main__":
    PICTURE.write_text(draw(imports()), encoding="utf-8")
