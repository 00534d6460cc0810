"""Names, paths and exceptions are printed as they stand: they steer neither the terminal nor a table."""

import io
import os
import subprocess
import sys

import pytest
import yaml
from own_environments import write_file, write_module
from rich.console import Console
from run_directory import write_run
from small_runs import small
from typer.testing import CliRunner

from plasticbench.analysis.leaderboard import leaderboard
from plasticbench.analysis.leaderboard_text import escaped, to_markdown
from plasticbench.platform.cli import app
from plasticbench.platform.display import LiveDisplay, PlainDisplay, standings
from plasticbench.platform.literal import LiteralConsole
from plasticbench.visible import visible

MARKUP = ["exp [/b]", "[red]x[/red]", "[/opt/robot]", "a\\[b]", "[link=http://h]x[/link]", ":warning:", "[b", "\\"]


def _printed(text, **options) -> str:
    file = io.StringIO()
    LiteralConsole(file=file, width=200).print(text, **options)
    return file.getvalue().rstrip("\n")


@pytest.mark.parametrize("text", MARKUP)
def test_a_console_prints_markup_as_it_stands(text):
    assert _printed(text) == text


def test_control_characters_are_spelled_out_and_colours_left_out():
    assert visible("a\x1b[2Jb\x07\tc\r\nd\x9b") == "a\\x1b[2Jb\\x07\tc\nd\\x9b"
    assert visible("\x1b[36mray::worker\x1b[39m") == "ray::worker"
    assert _printed("a\x1b]0;title\x07") == "a\\x1b]0;title\\x07"


@pytest.mark.parametrize("kind", [PlainDisplay, LiveDisplay])
@pytest.mark.parametrize("text", MARKUP)
def test_a_display_says_what_an_exception_says(kind, text):
    file = io.StringIO()
    kind(LiteralConsole(file=file, width=200)).message(f"p failed: {text}")
    assert file.getvalue() == f"p failed: {text}\n"


@pytest.mark.parametrize("text", MARKUP)
def test_tables_hold_names_as_they_stand(tmp_path, text):
    write_run(tmp_path, {(f"task {text}", f"method {text}"): [0.5, 0.6]})
    file = io.StringIO()
    for table in standings(leaderboard([tmp_path]).rows):
        Console(file=file, width=200).print(table)
    assert f"\ntask {text} " in file.getvalue()
    assert f"method {text} " in file.getvalue()


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("shrink_perturb", "shrink_perturb"),
        ("a|b", "a\\|b"),
        ("a\nb\r\n\nc", "a b c"),
        ("<script>x</script>", "&lt;script&gt;x&lt;/script&gt;"),
        ("[me](http://h)", "\\[me\\](http\\://h)"),
        ("![me](http://h)", "!\\[me\\](http\\://h)"),
        ("see http://h and www.h.org", "see http\\://h and www\\.h.org"),
        ("<http://h>", "&lt;http\\://h&gt;"),
        ("*a* _b_ `c` ~~d~~", "\\*a\\* \\_b\\_ \\`c\\` \\~\\~d\\~\\~"),
        ("a\\|b", "a\\\\\\|b"),
    ],
)
def test_a_name_in_markdown_shows_itself(tmp_path, name, line):
    assert escaped(name) == line
    write_run(tmp_path, {("task", name): [0.5, 0.6], ("task", "other"): [0.4, 0.5]})
    rows = to_markdown(leaderboard([tmp_path]).rows).splitlines()
    assert sum(f"| {line}" in row for row in rows) == 1


def _command(*arguments, folder):
    environment = os.environ | {"COLUMNS": "200"}
    return subprocess.run(
        [sys.executable, "-m", "plasticbench", *map(str, arguments)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_commands_print_names_and_folders_of_users_as_they_stand(tmp_path):
    runner = CliRunner(env={"COLUMNS": "200"})
    config = tmp_path / "small.yaml"
    config.write_text(yaml.safe_dump(small(name="exp [/b]", methods={"none [/b] x": {"kind": "none"}})))
    shown = runner.invoke(app, ["plan", str(config)])
    assert shown.exit_code == 0, shown.output
    assert "exp [/b]: segments" in shown.output
    run = write_run(tmp_path / "d[/b]", {("t", "none [/b] x"): [0.5, 0.6]})
    assert str(run / "report" / "index.html") in runner.invoke(app, ["report", str(run)]).output
    for arguments in (["report", tmp_path / "[red]x[/red]"], ["plan", tmp_path / "[/b].yaml"], ["list", "[/b]"]):
        result = runner.invoke(app, list(map(str, arguments)))
        assert result.exit_code == 2
        assert str(arguments[1]) in result.output.replace("\n", "") + result.stderr.replace("\n", "")


def test_a_run_survives_what_an_environment_raises(tmp_path):
    raising = "if self.age > 15:\n            raise RuntimeError('cannot open asset [/opt/robot] \\x1b[2J')\n"
    raising += "        return 1.0"
    write_module(tmp_path, reward=raising)
    file = write_file(tmp_path, name="exp [/b]", methods={"none [/b] x": {"kind": "none"}})
    done = _command("run", file, "--out", tmp_path / "d[/b]", folder=tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "RuntimeError: cannot open asset [/opt/robot] \\x1b[2J" in done.stdout + done.stderr
    assert "MarkupError" not in done.stdout + done.stderr
    assert "\x1b" not in done.stdout + done.stderr
