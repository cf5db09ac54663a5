"""The command line: parses arguments, calls the public function of the same name, prints a table or JSON.

A command is one entry of `ddarts.cli.table.COMMANDS`; its options are made from the fields of the settings classes.
Values stay text here: the public functions check them, so that messages are the same from Python.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import importlib
import os
import re
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from ddarts.cli.table import COMMANDS, Command
from ddarts.errors import DDartsError, RunError, SettingsError, Stopped, nearest, printable
from ddarts.runtime.allocator import keep_memory
from ddarts.runtime.distributed import is_lost, note_for_torchrun, says_it
from ddarts.runtime.processes import find_place, speaks, world_size
from ddarts.runtime.signals import end_silently, end_with_a_word

if TYPE_CHECKING:
    from ddarts.cli.options import SettingDoc

#: Commands that several processes can run together.
_TOGETHER = ("run", "search", "train")
#: Commands that compute for a long time.
_HEAVY = (*_TOGETHER, "compare", "study", "measure-operations")
#: How PyTorch says that there is no memory, on GPUs and on CPUs.
_NO_MEMORY = ("out of memory", "can't allocate memory")
#: What a write to a full or vanished standard output raises.
_NO_OUTPUT = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF)
#: Characters of a path in such a message.
_LONGEST_SHOWN = 100
#: What the user's choice of a path can raise anywhere, even where it is only asked whether a file exists.
_BAD_PATH = (errno.ENAMETOOLONG, errno.ELOOP, errno.EACCES, errno.EPERM, errno.EROFS)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status.

    0: done. 1: a bug in ddarts. 2: an error that the user can fix. 3: done, but files were skipped (`predict`).
    130: stopped by a signal. 141: the reader of the output has gone.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in arguments
    try:
        if argv is None:
            _prepare_streams()
            end_with_a_word()
            if world_size() > 1:  # PyTorch warns of a lost process with 50 lines of C++
                os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
        status = _dispatch(arguments, alone=argv is None)
        sys.stdout.flush()
        return status
    except Stopped as error:
        # of several processes that stop together, rank 0 says so; to the launcher above, the others have not failed
        return _complain(str(error), 130, debug) if speaks() else 0
    except DDartsError as error:
        return _complain(str(error), 2, debug)
    except KeyboardInterrupt as error:
        return _complain(str(error) or "interrupted", 130, debug)
    except BrokenPipeError:
        _drop_output()
        return 141
    except Exception as error:
        first = next(iter(str(error).strip().splitlines()), "")
        if isinstance(error, OSError) and error.filename is None and error.errno in _NO_OUTPUT:
            _drop_output()
            return _complain(f"the output cannot be written: {error.strerror}; redirect it elsewhere", 2, debug)
        if isinstance(error, OSError) and error.filename is not None and error.errno in _BAD_PATH:
            path = os.fsdecode(error.filename)
            path = path if len(path) <= _LONGEST_SHOWN else f"{path[:_LONGEST_SHOWN]}..."
            return _complain(f"{path}: {error.strerror}; name another path", 2, debug)
        if world_size() > 1 and is_lost(error):  # before the loops watch for it: while they join, or share the data
            lost = f"another of the {world_size()} processes has ended or cannot be reached"
            return _complain(f"{lost}; start all again, with --resume RUN if there is a run", 2, debug)
        if isinstance(error, MemoryError) or any(sign in first.lower() for sign in _NO_MEMORY):
            return _complain(f"out of memory: {first}; choose a smaller batch or fewer channels", 2, debug)
        return _complain(
            f"unexpected {type(error).__name__}: {first}; this is a bug in ddarts; rerun with --debug for a traceback",
            1,
            debug,
        )
    finally:
        if argv is None:
            end_silently()


def _prepare_streams() -> None:
    """Check that there is an output; let characters that its encoding lacks become escapes.

    Raises:
        SettingsError: standard output is closed.
    """
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 (as long as the process)
    if sys.stdout is None:
        raise SettingsError("standard output is closed; redirect it to a file or to /dev/null")
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # pyright: ignore[reportAttributeAccessIssue]


def _drop_output() -> None:
    """Let what is left in the buffer of standard output go nowhere: the interpreter writes it when it ends."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _complain(message: str, status: int, debug: bool) -> int:
    if debug:
        import traceback

        traceback.print_exc()
    if not says_it():
        return status
    line = f"ddarts: {'' if status == 130 else 'error: '}{printable(' '.join(message.split()))}"
    note_for_torchrun(line)
    with contextlib.suppress(OSError):  # the terminal may have gone
        print(line, file=sys.stderr)
    return status


def _dispatch(arguments: list[str], *, alone: bool) -> int:
    """Run a command; `alone` says that the process does nothing else."""
    names = [a for a in arguments if a != "--debug"]
    if not names or names[0] in ("-h", "--help", "help"):
        _overview()
        return 0 if names else 2
    if names[0] in ("-V", "--version"):
        import ddarts

        print(f"ddarts {ddarts.__version__}")
        return 0
    name, *rest = names
    if name not in COMMANDS:
        what = "option" if name.startswith("-") else "command"
        raise SettingsError(f"unknown {what} {name!r}{nearest(name, COMMANDS)}")
    command = COMMANDS[name]
    given = _parse(name, command, rest)
    if given is None:
        return 0
    as_json = given.pop("json")
    place = [given.pop(command.positional)] if command.positional in given else []

    function = getattr(importlib.import_module(command.home), name.replace("-", "_"))
    if name not in _TOGETHER and find_place().size > 1:
        raise SettingsError(f"ddarts {name} runs in one process; start it without torchrun")
    if alone and name in _HEAVY:
        keep_memory()
    result = function(*place, **given)
    if not speaks():
        return 0
    if as_json:
        import json

        try:
            print(json.dumps(result.to_dict(), indent=2, allow_nan=False))
        except ValueError as error:
            raise RunError(f"the result of ddarts {name} holds a number that is not finite ({error})") from None
    else:
        _print_table(result.table())
        if result.conclusion:
            print(f"\n{printable(result.conclusion)}")
    return result.exit_status


class _Printable:
    """A table in which no text, such as the name of a file, can hold a command to the terminal."""

    def __init__(self, table: Any) -> None:
        self._table = table

    def __rich_console__(self, console: Any, options: Any) -> Iterator[Any]:
        for segment in console.render(self._table, options):
            yield segment._replace(text="\n".join(map(printable, segment.text.split("\n"))))


def _print_table(table: Any) -> None:
    from rich.console import Console

    if sys.stdout.isatty():
        Console(highlight=False).print(_Printable(table))
        return
    console = Console(highlight=False, width=120, no_color=True)
    with console.capture() as captured:
        console.print(_Printable(table))
    print("\n".join(line.rstrip() for line in captured.get().splitlines()).strip())


def _overview() -> None:
    width = max(map(len, COMMANDS))
    print("usage: ddarts COMMAND ...\n\nNeural architecture search: images in, a network designed for them out.\n")
    print("commands:")
    for name, command in COMMANDS.items():
        print(f"  {name:<{width}}  {command.help}")
    print(
        "\nddarts COMMAND --help shows the options of a command; every command accepts --json and --debug.\n"
        "First steps: ddarts run --data digits"
    )


class _Parser(argparse.ArgumentParser):
    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        # what begins like a negative number is a value, such as -1e-3 or -5m, which argparse would take for an option
        self._negative_number_matcher = re.compile(r"-\.?\d")

    def error(self, message: str) -> NoReturn:
        raise SettingsError(f"{message}; see {self.prog} --help")


class _Lines(argparse.HelpFormatter):
    """Wraps each line of a help text separately; a line that is indented stays so."""

    def _split_lines(self, text: str, width: int) -> list[str]:
        lines = []
        for line in text.splitlines():
            inner = line.lstrip()
            indent = "  " if inner != line else ""
            wrapped = super()._split_lines(inner, width - 2 * len(indent))
            lines += [indent + wrapped[0], *(2 * indent + more for more in wrapped[1:])]
        return lines


#: A stage with at most so many settings shows all of them with ``--help``.
_FEW = 12


def _parse(name: str, command: Command, rest: list[str]) -> dict[str, Any] | None:
    """Return the keywords that were given; None after help was printed."""
    parser = _Parser(
        prog=f"ddarts {name}",
        usage=f"ddarts {name} {_positional(command)}[OPTION ...]",
        description=command.help,
        formatter_class=_Lines,
        allow_abbrev=False,
        add_help=False,
        argument_default=argparse.SUPPRESS,
    )
    parser.add_argument("-h", "--help", action="store_true", help="show the usual options")
    parser.add_argument("--help-all", action="store_true", help="show all options")
    for flags, options in command.options:
        parser.add_argument(*flags, **options)
    parser.add_argument("--json", action="store_true", default=False, help="print the result as JSON")
    parser.add_argument("--debug", action="store_true", help="show a traceback with errors")
    tokens = [_with_dashes(token) for token in rest]
    everything = "--help-all" in tokens
    wants_help = everything or bool({"-h", "--help"} & set(tokens))
    if command.stage:
        parser.epilog = _add_settings(parser, command.stage, tokens, wants_help, everything)
    if wants_help:
        print(parser.format_help(), end="")
        return None
    given, unknown = parser.parse_known_args(tokens)
    options = [token.partition("=")[0] for token in unknown if token.startswith("-")]
    if options:
        known = [flag for action in parser._actions for flag in action.option_strings]
        raise SettingsError(f"unknown option {options[0]!r} of ddarts {name}{_nearest_option(options[0], known)}")
    if unknown:
        raise SettingsError(f"unexpected argument {unknown[0]!r}; see ddarts {name} --help")
    return {name: _at_home(value) for name, value in vars(given).items()}


def _at_home(value: Any) -> Any:
    """Expand a leading ``~/`` that the shell has left because it stood in quotes; otherwise a folder ``~`` is made."""
    if isinstance(value, list):
        return [_at_home(item) for item in value]
    return os.path.expanduser(value) if isinstance(value, str) and value.startswith("~/") else value


def _positional(command: Command) -> str:
    for flags, options in command.options:
        if flags == (command.positional,):
            nargs, word = options.get("nargs"), options["metavar"]
            return f"[{word}] " if nargs == "?" else f"{word} [...] " if nargs else f"{word} "
    return ""


def _nearest_option(option: str, known: list[str]) -> str:
    """Name the nearest option; a list of more than a hundred would not help."""
    grouped = [flag for flag in known if flag.endswith(f".{option.lstrip('-')}")]
    if grouped:
        return f"; did you mean {' or '.join(repr(flag) for flag in grouped)}?"
    suggestion = nearest(option, known)
    return suggestion if "did you mean" in suggestion else "; --help-all lists all options"


def _with_dashes(token: str) -> str:
    """Accept ``--alpha_lr`` for ``--alpha-lr``."""
    name, equals, value = token.partition("=")
    return name.replace("_", "-") + equals + value if name.startswith("--") else token


def _add_settings(
    parser: argparse.ArgumentParser, stage: str, tokens: Sequence[str], wants_help: bool, everything: bool
) -> str | None:
    """Add the settings of a stage as options; return the text below the help.

    Args:
        parser: gets the options.
        stage: a key of `ddarts.config.layers.STAGES`.
        tokens: the command line; the settings of the search strategy that it names are among the options.
        wants_help: whether it asks for help: the defaults shown are those of the preset and the file that it names.
        everything: whether the help shows all settings, or only the common ones.
    """
    from ddarts.cli.options import documented_fields
    from ddarts.config.layers import STAGES, groups_of
    from ddarts.config.loading import WITH_PRESET, default_preset, load_settings
    from ddarts.config.strategies import BUILT_IN

    preset, config, data = (
        _value_of(tokens if wants_help else (), f"--{name}") for name in ("preset", "config", "data")
    )
    overrides: dict[str, Any] = {"data": data} if data else {}
    searches = "search" in groups_of(stage)
    chosen = (_value_of(tokens, "--strategy") or _value_of(tokens, "--search.strategy")) if searches else None
    settings = load_settings(
        stage, preset=preset, config=config, overrides=overrides | ({"strategy": chosen} if chosen else {})
    )
    options = list(documented_fields(stage, settings))
    everything = everything or len(options) <= _FEW
    if not wants_help and searches:  # what has no effect deserves a better error than "unknown"
        names = ({"strategy": name} for name in (*BUILT_IN, chosen or "d-darts"))
        every = (documented_fields(stage, STAGES[stage].model_validate({"search": n})) for n in names)
        options = list({option.name: option for some in every for option in some}.values())
    groups: dict[str, Any] = {}
    for option in options:
        if option.group not in groups:
            groups[option.group] = parser.add_argument_group(option.group)
        for dest in filter(None, (option.name, option.other)):
            shown = dest == option.name and (everything or option.common)
            text = option.help.replace("%", "%%") if shown else argparse.SUPPRESS
            _add_option(groups[option.group], dest, option, text)
    more = (
        "" if everything else f"--help-all shows the other {len(options) - sum(o.common for o in options)} settings. "
    )
    if stage not in WITH_PRESET:
        return more or None
    preset = preset or default_preset(data or "digits", free=stage == "run" and not chosen)
    return (
        f"{more}Defaults are those of the preset {preset}; --preset NAME --help shows another's. A setting comes from "
        "the command line, else from --config, else from the preset."
    )


def _add_option(group: Any, dest: str, option: SettingDoc, text: str) -> None:
    """Add an option under one of its names; a switch gets its opposite too."""
    flag = dest.replace("_", "-")
    if not option.is_switch:
        group.add_argument(f"--{flag}", dest=dest, metavar=option.metavar, help=text)
        return
    head, dot, tail = flag.rpartition(".")
    opposite = text if text is argparse.SUPPRESS else f"the opposite of --{flag}"
    group.add_argument(f"--{flag}", dest=dest, action="store_const", const=True, help=text)
    group.add_argument(f"--{head}{dot}no-{tail}", dest=dest, action="store_const", const=False, help=opposite)


def _value_of(tokens: Sequence[str], flag: str) -> str | None:
    """Return the value of a flag on a command line that is not parsed, or None."""
    for i, token in enumerate(tokens):
        name, equals, value = token.partition("=")
        if name == flag:
            return value if equals else next(iter(tokens[i + 1 :]), None)
    return None
