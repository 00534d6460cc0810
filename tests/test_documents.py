"""The documents name what there is: by the checker of `make check`, which is itself held to made-up pages."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from sybil import Document

from plasticbench.platform.definition import benchmark
from plasticbench.platform.definition.yaml_text import parse_yaml
from plasticbench.platform.planning import changes

ROOT = Path(__file__).parents[1]


def module(path: str) -> ModuleType:
    """A script that lies outside the packages."""
    spec = importlib.util.spec_from_file_location("loaded_" + path.replace("/", "_"), ROOT / f"{path}.py")
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = made
    spec.loader.exec_module(made)
    return made


CHECK, SETTINGS, BLOCKS = module("docs/check"), module("docs/settings"), module("conftest")


def found(text: str) -> list[str]:
    """The problems of a page in docs/."""
    return [line.partition(": ")[2] for line in CHECK.problems(ROOT / "docs" / "page.md", text, SETTINGS.known())]


@pytest.mark.slow  # it imports MLflow's and Ray's command lines
def test_every_name_in_the_documents_leads_to_something() -> None:
    done = subprocess.run([sys.executable, "docs/check.py"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("see [there](nowhere.md)", "there is no nowhere.md"),
        ("`configs/quickstarts.yaml` is it", "there is no configs/quickstarts.yaml"),
        ("`plasticbench/learn/` is it", "there is no plasticbench/learn/"),
        ("`plasticbench.fires_`", "plasticbench.fires_ cannot be imported"),
        ("`plasticbench.sb3:ResetCallbacks`", "plasticbench.sb3:ResetCallbacks cannot be imported"),
        ("`execution.num_gpu` of a GPU", "execution.num_gpu is no setting"),
        ("`plasticbench run CONFIG --output DIR`", "plasticbench run has no --output"),
        ("`plasticbench jobs logs JOB --tail`", "plasticbench jobs logs has no --tail"),
        ("```bash\nplasticbench runs CONFIG\n```\n", "there is no plasticbench runs"),
        ("`python -m benchmarks.scale --member 1`", "python -m benchmarks.scale has no --member"),
        (
            "`python -m benchmarks.sac`",
            "python -m benchmarks.sac needs one of population, stable_baselines3, not nothing",
        ),
        ("`python -m benchmarks.sack`", "there is no python -m benchmarks.sack"),
        ("`huber_treshold` of the loss", "the code knows no huber_treshold"),
    ],
)
def test_what_there_is_not_is_found(text: str, problem: str) -> None:
    assert problem in found(text)


def test_what_there_is_passes() -> None:
    names = "`execution.num_gpus`, `plasticbench.fire_`, `plasticbench.sb3:ResetCallback`, `huber_threshold`"
    commands = "`plasticbench run CONFIG --out DIR`, `python -m benchmarks.scale --members 1`"
    assert found(f"{names}, {commands}, [a page](design.md), `records/<trial>.jsonl`, `report/index.html`") == []


def test_the_page_of_settings_is_what_the_code_says() -> None:
    assert SETTINGS.PAGE.read_text(encoding="utf-8") == SETTINGS.page().rstrip("\n") + "\n", "run `make docs`"


def test_the_page_of_settings_says_rule_default_and_presets() -> None:
    page = SETTINGS.page()
    assert "| `tau` | number, at least 0 | `0.1` |" in page
    assert "| `num_gpus` | number, at least 0 | `0` |" in page
    assert "| `adam_eps` | number, above 0 | `1.0e-08` |" in page, "YAML takes 1e-08 for text"
    assert "* preset `loss_of_plasticity`: `accumulate` `false`;" in page


def settings_in_prose() -> list[tuple[str, str, object]]:
    """Page and line, name and value of each ``name: value`` in code type outside blocks."""
    found = []
    for page in CHECK.PAGES:
        for span in CHECK.spans(page.read_text(encoding="utf-8")) if page != SETTINGS.PAGE else ():
            if re.fullmatch(r"\w+: [\w{].*", span.text) and not span.is_block:
                found += [(f"{page.name}:{span.line}", *item) for item in parse_yaml(span.text).items()]
    return found


@pytest.mark.parametrize(("place", "name", "value"), settings_in_prose())
def test_settings_in_prose_have_values_that_they_may_have(place: str, name: str, value: object) -> None:
    if isinstance(value, dict) and name in SETTINGS.SECTIONS:
        getattr(benchmark, name.capitalize())(**value)
    elif name == "preset":
        assert f"* preset `{value}`: " in SETTINGS.PAGE.read_text(encoding="utf-8")
    elif isinstance(value, str):
        page = SETTINGS.PAGE.read_text(encoding="utf-8")
        rows = re.findall(rf"^\| `{name}` \| (.*`.*`.*) \| [^|]* \|$", page, re.MULTILINE)
        assert not rows or any(f"`{value}`" in row for row in rows)


def test_blocks_that_only_ci_runs_are_what_it_runs() -> None:
    done = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    blocks = [re.findall(r"^```bash ci\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE) for page in CHECK.PAGES]
    commands = [line.partition("#")[0].strip() for found in blocks for block in found for line in block.splitlines()]
    assert commands == ["make demo", "make test"]
    assert set(commands) <= set(done)


@pytest.mark.parametrize("opening", ["```", "```python dockr", "```fortran"])
def test_a_block_without_a_known_language_or_with_an_unknown_word_is_refused(opening: str, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"{opening}\nx\n```\n")
    with pytest.raises(ValueError, match="must name one of python, bash, yaml, text, nginx"):
        Document.parse(str(page), BLOCKS.blocks)


def test_the_page_of_clusters_names_what_a_run_takes_over_later() -> None:
    page = " ".join((ROOT / "docs" / "cluster.md").read_text(encoding="utf-8").split())
    sentence = page.partition("Another description,")[2].partition("is taken over from then on")[0]
    named = set(re.findall(r"`([\w.]+)`", sentence))
    assert named == {key.rstrip(".") for key in changes._LATER} - {"description"} | {"step_timeout_s"}
    assert changes.can_come_later("environments.0.step_timeout_s")


def test_what_people_do_every_day_takes_ten_lines_at_most() -> None:
    page = (ROOT / "docs" / "everyday.md").read_text()
    found = re.findall(r"^```(?:python|bash|yaml)[^\n]*\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    assert len(found) >= 7
    assert max(sum(bool(line.strip()) for line in block.splitlines()) for block in found) <= 10
