"""Looks up what README.md and docs/ name, and prints each name that there is not: ``python docs/check.py``.

* Links, paths, modules and ``module:name`` lead to something.
* Commands of plasticbench, of benchmarks/, of Ray and of MLflow take the options that stand behind them.
* Settings such as ``execution.num_gpus`` are fields; every other name in code type is a word of the repository's code.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "docs")]

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PLACEHOLDERS = re.compile(r"\S*<[^>]*>\S*|\b[A-Z][A-Z0-9]*\b(?!_)|[\w+]+://\S+|\.\.\.|…")
OWN = ("docs/check.py", "tests/test_documents.py")  # what they name need not exist
ELSEWHERE = {"docker", "kubectl", "ssh", "apt-get", "pip", "htpasswd", "git", "time", "export"}
"""Programs whose options nothing here can look up."""
_ENVPOOL = {"box2d", "gfootball", "highway", "jumanji", "myosuite", "toy_text", "Extreme", "Exploration"}
FOREIGN = {"--profile", "--scale", "ENABLE_INIT_CONTAINER_INJECTION", "autotune", "use_sde", *_ENVPOOL}
"""Names of Compose, KubeRay, EnvPool's groups, and of the codes that a page compares ours with."""


class Span(NamedTuple):
    """A piece of code type; ``command`` if it is a line of a block."""

    text: str
    line: int
    is_block: bool


def spans(text: str) -> Iterator[Span]:
    """All lines of ``text`` and ``bash`` blocks, and all code between backquotes outside blocks."""

    def blank(match: re.Match[str]) -> str:
        return re.sub(r"[^\n]", " ", match[0])

    for block in re.finditer(r"^ *```(\w+)[^\n]*\n(.*?)^ *```$", text, re.DOTALL | re.MULTILINE):
        first = text.count("\n", 0, block.start(2)) + 1
        if block[1] in ("bash", "text"):
            yield from (Span(line, first + i, True) for i, line in enumerate(block[2].splitlines()))
    prose = re.sub(r"^ *```\w+[^\n]*\n.*?^ *```$", blank, text, flags=re.DOTALL | re.MULTILINE)
    prose = re.sub(r"\[`[^`]+`\]\(http[^)]*\)", blank, prose)  # other people's files
    for span in re.finditer(r"`([^`]+)`", prose):
        yield Span(" ".join(span[1].split()), text.count("\n", 0, span.start()) + 1, False)


@cache
def tracked() -> tuple[str, ...]:
    """Paths of all files that git knows, or would take."""
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    return tuple(subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines())


@cache
def folders() -> frozenset[str]:
    """Those of the repository's root."""
    return frozenset(name.split("/")[0] for name in tracked() if "/" in name)


@cache
def code() -> str:
    """All files but pages, and the checker's own."""
    kinds = (".py", ".yaml", ".yml", ".toml", ".j2", ".lock", "Dockerfile", "Makefile", "run")
    files = [name for name in tracked() if name.endswith(kinds) and name not in OWN]
    return "\n".join((ROOT / name).read_text(encoding="utf-8") for name in files if (ROOT / name).exists())


@cache
def words() -> frozenset[str]:
    """Every word of the code."""
    return frozenset(re.findall(r"[A-Za-z_][A-Za-z0-9_]*", code()))


@cache
def options(program: str) -> frozenset[str]:
    """Options of a command, ``plasticbench run`` or ``python -m benchmarks.scale`` for example."""
    name, *rest = program.split()
    if name == "python":
        source = ROOT / f"{rest[-1].replace('.', '/')}.py" if rest[0] == "-m" else ROOT / rest[0]
        return frozenset(re.findall(r"add_argument\(\s*\"(--[\w-]+)", source.read_text(encoding="utf-8")))
    command = _click(name)
    for part in rest:
        command = command.commands[part]
    if subcommands := getattr(command, "commands", None):  # a line that stands for all of them
        return frozenset().union(*(options(f"{program} {name}") for name in subcommands))
    found = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    return frozenset(found | {"--help"})


@cache
def _click(program: str) -> Any:
    if program == "plasticbench":
        import typer

        from plasticbench.platform.cli import app

        return typer.main.get_command(app)
    module, name = {"ray": ("ray.scripts.scripts", "cli"), "mlflow": ("mlflow.cli", "cli")}[program]
    return getattr(importlib.import_module(module), name)


@cache
def all_options() -> frozenset[str]:
    """Of every command that can be looked up."""
    click = {"plasticbench": _click("plasticbench"), "ray": _click("ray"), "mlflow": _click("mlflow")}
    names = [f"{program} {name}" for program, group in click.items() for name in group.commands]
    names += [f"python -m benchmarks.{path.stem}" for path in (ROOT / "benchmarks").glob("*.py")]
    return frozenset().union(*map(options, names))


def commands(text: str) -> Iterator[str]:
    """The commands of a line, each from its program on; a job's own command stands behind ``--``."""
    for part in re.split(r"&&|\|\||;| -- |(?<= )#.*", text):
        words_ = [word for word in part.split() if not re.fullmatch(r"[A-Z_]+=\S*", word)]
        if words_:
            yield " ".join(words_).removeprefix(".venv/bin/")


def wrong_options(span: Span) -> Iterator[str]:
    """Options that their command does not take, and arguments that it needs and is not given."""
    for command in commands(span.text):
        program = _program(command)
        if program is None and command.split()[0] in ELSEWHERE:
            continue
        given = set(re.findall(r"(?<![\w-])--[a-z][\w-]*", command)) - FOREIGN
        try:
            known = options(program) if program else all_options() if given else frozenset()
        except (KeyError, FileNotFoundError):
            yield f"there is no {program}"
            continue
        if unknown := given - known:
            yield f"{program or 'no command'} has no {', '.join(sorted(unknown))}"
        if program is not None and program.startswith("python -m benchmarks."):
            first = (command.removeprefix(program).split() or ["nothing"])[0]
            if (choices := _choices(program)) and first not in choices:
                yield f"{program} needs one of {', '.join(choices)}, not {first}"


def _choices(program: str) -> list[str]:
    """What a benchmark's one positional argument may be, if it has one."""
    source = (ROOT / f"{program.split()[-1].replace('.', '/')}.py").read_text(encoding="utf-8")
    found = re.search(r"add_argument\(\"[a-z]+\", choices=\(([^)]*)\)\)", source)
    return re.findall(r"\w+", found[1]) if found else []


def _program(command: str) -> str | None:
    """What the options of a command belong to; ``None`` where only options are named."""
    if match := re.match(r"python (-m benchmarks\.\w+|benchmarks/\w+\.py|examples/\w+\.py)", command):
        return match[0]
    if match := re.match(r"(plasticbench jobs|ray job|plasticbench|ray|mlflow)( [a-z]+)?", command):
        return match[0]
    return None


def wrong_paths(span: Span, page: Path) -> Iterator[str]:
    """Paths that end in a known way or begin with a folder of the repository, and lead nowhere."""
    for token in PLACEHOLDERS.sub("", span.text).replace(",", " ").split():
        token = token.strip("()[]{}`'\"*").removeprefix("./")
        is_file = re.fullmatch(r"[\w./*-]+\.(py|md|ya?ml|toml|lock|png|jsonl?|j2|css|webp|html|db|stl)", token)
        is_folder = token.endswith("/") or ("/" in token and token.split("/")[0] in folders())
        if not (is_file or is_folder) or "*" in token or token.startswith(("/", "-", "runs/", "http")):
            continue
        if not _leads_somewhere(token.rstrip("/"), page):
            yield f"there is no {token}"


def _leads_somewhere(path: str, page: Path) -> bool:
    if (page.parent / path).exists() or any(f"/{path}/" in f"/{name}/" for name in tracked()):
        return True
    if f"/{path}" in (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines():
        return True
    if path.split("/")[0] in folders():
        return False
    return path.rsplit("/", 1)[-1] in code()  # what a run writes, or a store's own


def wrong_names(span: Span, fields: set[str]) -> Iterator[str]:
    """Modules, dotted settings and words of which the code knows nothing."""
    sections = {name.partition(".")[0] for name in fields}
    text = PLACEHOLDERS.sub(" ", span.text)
    for dotted in re.findall(r"(?<![\w./-])[a-zA-Z_]\w*(?:\.\w+)+(?::\w+)?", text):
        head, _, rest = dotted.partition(".")
        if head in ("plasticbench", "benchmarks") and not _is_importable(dotted):
            yield f"{dotted} cannot be imported"
        elif head in sections and "." not in rest and dotted not in fields and not re.search(r"\.(py|yaml)$", dotted):
            yield f"{dotted} is no setting"
    if span.is_block:
        return
    for word in re.findall(r"(?<![\w/.:@-])[A-Za-z_][A-Za-z0-9_]{2,}[A-Za-z0-9](?![\w@])", text):
        if word not in words() and word not in FOREIGN:
            yield f"the code knows no {word}"


def _is_importable(dotted: str) -> bool:
    from plasticbench import plugins

    module, _, name = dotted.partition(":")
    if module.removeprefix("plasticbench.") in plugins.PACKAGES or module.endswith((".py", ".yaml")):
        return True
    try:
        if importlib.util.find_spec(module) is not None:
            return not name or hasattr(importlib.import_module(module), name)
    except ModuleNotFoundError:
        pass
    parent, _, last = module.rpartition(".")
    return not name and parent != "" and hasattr(importlib.import_module(parent), last)


def wrong_links(text: str, page: Path) -> Iterator[tuple[int, str]]:
    """Links to files that are not there."""
    for match in re.finditer(r"\]\(([^)#]+)[^)]*\)", text):
        if not match[1].startswith("http") and not (page.parent / match[1]).exists():
            yield text.count("\n", 0, match.start()) + 1, f"there is no {match[1]}"


def problems(page: Path, text: str, fields: set[str]) -> Iterator[str]:
    """One line for each name of a page that leads nowhere."""
    for line, problem in wrong_links(text, page):
        yield f"{page.name}:{line}: {problem}"
    for span in spans(text):
        found: Mapping[str, Iterator[str]] = {
            "options": wrong_options(span),
            "paths": wrong_paths(span, page),
            "names": wrong_names(span, fields),
        }
        yield from (f"{page.name}:{span.line}: {problem}" for kind in found.values() for problem in kind)


def main() -> None:
    """Prints all problems; the exit status says whether there is one."""
    from settings import known

    found = [problem for page in PAGES for problem in problems(page, page.read_text(encoding="utf-8"), known())]
    print(*found, sep="\n", end="\n" if found else "")
    raise SystemExit(bool(found))


if __name__ == "__main__":
    main()
