"""YAML from anyone: plain data only, with the line of every key.

Stricter than YAML itself: a mapping on top, no key twice, no aliases (a few lines of them can unfold to gigabytes), no
tags, and a bound on size and depth.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from ddarts.errors import SettingsError

MAX_BYTES = 1024 * 1024
_MAX_DEPTH = 20


@dataclass(frozen=True)
class YamlFile:
    """What a YAML file holds.

    Attributes:
        values: the mapping on top.
        lines: line number of each key, by path: ``("search", "epochs")`` -> 7.
    """

    values: dict[str, Any]
    lines: dict[tuple[str, ...], int] = field(default_factory=dict)


def read_yaml(path: Path, *, typed: bool = False) -> YamlFile:
    """Read a YAML file.

    Args:
        path: the file.
        typed: give scalars the types that YAML 1.1 gives them. By default they stay text (null is None), because
            YAML 1.1 would read ``ablation: off`` as False and ``lr: 1e-3`` as text; settings know their own types.

    Raises:
        SettingsError: the file is missing, unreadable, too large, or not YAML of the strict kind, with line and column.
    """
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise SettingsError(f"{path}: no such file; check the path") from None
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read: {error.strerror}; name another file") from None
    if len(data) > MAX_BYTES:
        raise SettingsError(f"{path}: more than {MAX_BYTES} bytes are too many for a settings file")
    try:
        return parse_yaml(data.decode("utf-8-sig"), str(path), typed=typed)
    except UnicodeDecodeError as error:
        raise SettingsError(f"{path}: not UTF-8 text at byte {error.start}; is this a settings file?") from None


def parse_yaml(text: str, where: str, *, typed: bool = False) -> YamlFile:
    """Parse YAML text; `where` (a file name) begins every message. See `read_yaml`."""
    loader: _Loader | None = None
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None or (isinstance(node, yaml.ScalarNode) and node.tag.endswith(":null")):
            return YamlFile({})
        if not isinstance(node, yaml.MappingNode):
            raise SettingsError(f"{where}: line {node.start_mark.line + 1}: expected lines of the form key: value")
        lines: dict[tuple[str, ...], int] = {}
        return YamlFile(_plain(node, loader, where, typed, (), lines), lines)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise SettingsError(f"{where}: {place}{error.problem or error.context or 'not YAML'}") from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise SettingsError(f"{where}: line {line}: character {error.character!r} is not allowed in YAML") from None
    except (RecursionError, ValueError) as error:
        raise SettingsError(f"{where}: not a settings file: {error}") from None
    finally:
        if loader is not None:
            loader.dispose()


class _Loader(yaml.SafeLoader):
    """SafeLoader that refuses aliases before they unfold."""

    _depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.events.AliasEvent):
            event: Any = self.peek_event()
            raise yaml.MarkedYAMLError(
                problem=f"alias *{event.anchor} is not allowed; write the value out", problem_mark=event.start_mark
            )
        if self._depth >= _MAX_DEPTH:
            raise yaml.MarkedYAMLError(
                problem=f"nested deeper than {_MAX_DEPTH} levels", problem_mark=self.peek_event().start_mark
            )
        self._depth += 1
        try:
            return super().compose_node(parent, index)
        finally:
            self._depth -= 1


_KNOWN_TAGS = {f"tag:yaml.org,2002:{name}" for name in ("null", "bool", "int", "float", "str", "timestamp", "value")}


def _plain(
    node: Any, loader: Any, where: str, typed: bool, path: tuple[str, ...], lines: dict[tuple[str, ...], int]
) -> Any:
    line = node.start_mark.line + 1
    if isinstance(node, yaml.SequenceNode) and node.tag == "tag:yaml.org,2002:seq":
        return [_plain(item, loader, where, typed, path, lines) for item in node.value]
    if isinstance(node, yaml.MappingNode) and node.tag == "tag:yaml.org,2002:map":
        values: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                raise SettingsError(f"{where}: line {line}: a key must be a single word")
            key = key_node.value
            if key in values:
                raise SettingsError(
                    f"{where}: line {line}: key {key!r} stands twice (first in line {lines[*path, key]})"
                )
            lines[*path, key] = line
            values[key] = _plain(value_node, loader, where, typed, (*path, key), lines)
        return values
    if isinstance(node, yaml.ScalarNode) and node.tag in _KNOWN_TAGS:
        if node.tag.endswith(":null"):
            return None
        return loader.construct_object(node) if typed else node.value
    raise SettingsError(f"{where}: line {line}: tag {node.tag!r} is not allowed; settings are plain data")
