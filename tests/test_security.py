"""What files from strangers can do: nothing but name things."""

import html.parser
from importlib.resources import files
from pathlib import Path

import pytest
from run_directory import write_run
from small_runs import small

from plasticbench.analysis.report import write_report
from plasticbench.platform.definition.reading import BenchmarkError, from_dict, load
from plasticbench.platform.planning.plan import make_plan
from plasticbench.platform.rundir import RunDirectory

HOSTILE = ["../../evil", "/etc/passwd", "a/../../b", "<script>alert(1)</script>", "$(touch x)", "-rf 1"]


@pytest.mark.parametrize("name", HOSTILE)
def test_names_in_a_file_become_single_plain_parts_of_paths(name: str, tmp_path: Path) -> None:
    (environment,) = small()["environments"]
    methods = {name: {"kind": "none"}, "fire": {"kind": "fire"}}
    plan = make_plan(from_dict(small(name=name, methods=methods, environments=[environment | {"name": name}])))
    directory = RunDirectory(tmp_path)
    for trial in plan.trials:
        for path in (directory.record_file(trial.id), directory.film_file(trial.id)):
            assert path.resolve().parent == path.parent, path
            assert path.relative_to(tmp_path).as_posix().isprintable()
    paths = [*(trial.id for trial in plan.trials), *(segment.id for segment in plan.segments)]
    assert all(set(path) <= set("abcdefghijklmnopqrstuvwxyz0123456789.-") for path in paths)
    assert not any(path.startswith((".", "-")) for path in paths)


@pytest.mark.parametrize("name", ["a\0b", "a\nb", "a\x1b[31mb", "a\x85b", "a\u2028b", "a\tb"])
def test_a_name_that_would_steer_a_terminal_is_refused(name: str) -> None:
    with pytest.raises(BenchmarkError, match="name: must be one line without control characters"):
        from_dict(small(name=name))
    with pytest.raises(BenchmarkError, match="must be one line without control characters"):
        from_dict(small(methods={name: {"kind": "none"}, "fire": {"kind": "fire"}}))


@pytest.mark.parametrize("name", ["..", ".", "../..", "/"])
def test_a_name_that_is_nothing_but_a_path_is_refused(name: str) -> None:
    with pytest.raises(BenchmarkError, match="name: must contain a letter or a digit"):
        from_dict(small(name=name))


@pytest.mark.parametrize(
    "value",
    [
        "!!python/object/apply:os.system ['touch {mark}']",
        "!!python/object/new:subprocess.Popen [['touch', '{mark}']]",
        "!!python/name:os.system",
        "!!python/module:this",
        "!!python/tuple [1]",
    ],
)
def test_a_benchmark_file_cannot_execute_code(value: str, tmp_path: Path) -> None:
    mark, file = tmp_path / "mark", tmp_path / "benchmark.yaml"
    file.write_text(f"name: {value.format(mark=mark)}\n")
    with pytest.raises(BenchmarkError, match=r"benchmark\.yaml"):
        load(file, [])
    with pytest.raises(BenchmarkError):
        load(Path("configs/quickstart.yaml"), [f"name={value.format(mark=mark)}"])
    assert not mark.exists()


class _Tags(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}


def test_names_cannot_add_markup_to_a_report(tmp_path: Path) -> None:
    task, method = "<script>alert(1)<script>", "<img src=x onerror=alert(2)>"
    run = write_run(tmp_path, {(task, method): [0.1, 0.5, 0.9], (task, '"><iframe onload=x>'): [0.2, 0.3, 0.4]})
    page = write_report(run).read_text()
    own = f"<script>{files('plasticbench.analysis').joinpath('report.js').read_text(encoding='utf-8')}</script>"
    assert page.count(own) == 1, "the page's own script, which holds no name"
    found = _Tags()
    found.feed(page.replace(own, ""))
    assert "alert(1)" in page, "the name is shown"
    assert not found.tags & {"script", "img", "iframe"}
    assert not {name for name in found.attributes if name.startswith("on")}
