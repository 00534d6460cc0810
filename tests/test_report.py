import itertools
import json
import re
from html.parser import HTMLParser

import pytest
from run_directory import write_run

from plasticbench.analysis import leaderboard
from plasticbench.analysis.colours import palette
from plasticbench.analysis.leaderboard_text import to_json
from plasticbench.analysis.report import write_leaderboard_html, write_report
from plasticbench.analysis.runs import load_run, read_table
from plasticbench.analysis.settings import settings_tables

SCORES = {
    ("A", "none"): [0.0, 0.1, 0.2],
    ("A", "fire"): [0.8, 0.9, 1.0],
    ("A", "shrink & <perturb>"): [0.5, 0.4, 0.6],
}
VOID = {"meta", "br", "link", "img", "hr", "input", "col"}


class Structure(HTMLParser):
    """Checks that elements are closed in order, and collects ids and what the page would load."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.loads: list[str] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.ids += [value for name, value in attrs if name == "id"]
        self.loads += [value for name, value in attrs if name in {"src", "href", "xlink:href"}]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> str:
    run = write_run(tmp_path_factory.mktemp("run"), SCORES)
    return write_report(run).read_text(encoding="utf-8")


def test_the_page_is_well_formed_with_unique_ids_that_resolve(page):
    structure = Structure()
    structure.feed(page)
    assert structure.open == []
    assert {"main", "h1", "h2", "table", "figure", "svg", "details"} <= structure.tags
    assert len(structure.ids) == len(set(structure.ids))
    assert {target[1:] for target in structure.loads} <= set(structure.ids)
    assert set(re.findall(r"url\(#([^)]+)\)", page)) <= set(structure.ids)


def test_the_page_is_one_file_that_loads_nothing(page):
    structure = Structure()
    structure.feed(page)
    assert all(target.startswith("#") for target in structure.loads)
    assert not structure.tags & {"link", "img", "iframe"}
    assert "fetch(" not in page
    assert "import(" not in page
    assert "http:" not in page
    assert "https:" not in page
    assert "@import" not in page


def test_the_page_shows_every_method_escaped(page):
    for method in ("none", "fire", "shrink &amp; &lt;perturb&gt;"):
        assert page.count(method) > 5
    assert "<perturb>" not in page


def test_a_method_can_be_hidden_in_all_figures_without_a_script(page):
    for name in ("m0", "m1", "m2"):
        assert f'<input type="checkbox" id="show-{name}" checked>' in page
        assert f"body:has(#show-{name}:not(:checked)) .{name} {{ display: none; }}" in page
        assert page.count(f'class="{name} line"') == page.count('class="m0 line"') > 0


def test_every_figure_has_a_text_for_readers_who_do_not_see_it(page):
    labels = re.findall(r'<svg [^>]*role="img" aria-label="([^"]+)"', page)
    assert len(labels) == page.count("<svg") == page.count("<figcaption>")
    assert any(label.startswith("Score on A over agent steps; last value: none 0.1, fire 0.9") for label in labels)


def test_the_page_holds_networks_as_a_whole_and_leaves_layers_to_the_records(page):
    assert "Dormant units" in page
    assert "Target network: figures (1)" in page
    assert "fc1" not in page


def test_tick_labels_are_the_values_they_stand_at(page):
    (svg,) = re.findall(r'<svg [^>]*aria-label="Score on A.*?</svg>', page, flags=re.DOTALL)
    ticks = [float(text) for text in re.findall(r"text-anchor: end[^>]*>([0-9.]+)<", svg)]
    assert ticks.pop(0) == 100.0, "the last step, which ends at the figure's edge"
    steps = {round(b - a, 9) for a, b in itertools.pairwise(ticks)}
    assert len(ticks) >= 4
    assert len(steps) == 1


def test_two_builds_are_identical_byte_for_byte(tmp_path):
    run = write_run(tmp_path, SCORES)
    first = write_report(run).read_bytes()
    assert write_report(run).read_bytes() == first


def test_the_report_leaves_the_leaderboard_as_json_and_markdown(tmp_path):
    run = write_run(tmp_path, SCORES)
    write_report(run)
    document = json.loads((run / "report" / "leaderboard.json").read_text())
    assert document == json.loads(json.dumps(to_json(leaderboard.leaderboard([run]))))
    assert {
        "task",
        "method",
        "n_seeds",
        "iqm",
        "iqm_low",
        "iqm_high",
        "mean",
        "median",
        "optimality_gap",
        "rank",
        "diverged_trials",
    } <= set(document["rows"][0])
    text = (run / "report" / "leaderboard.md").read_text()
    assert text.startswith("* At the end of training, fire has the highest score")
    assert "\n\n### A\n" in text


def test_incomplete_trials_raise_a_banner_that_lists_them(tmp_path):
    run = write_run(tmp_path, SCORES, last_step=lambda task, method, seed: 60 if (method, seed) == ("fire", 1) else 100)
    page = write_report(run).read_text()
    assert "1 of 9 trials lack their final evaluation" in page
    assert "<li>A, fire, seed 1</li>" in page


def test_two_seeds_raise_a_banner_and_show_no_interval(tmp_path):
    page = write_report(write_run(tmp_path, {key: values[:2] for key, values in SCORES.items()})).read_text()
    assert "Too few seeds." in page
    assert "no interval: 2 seeds, 5 are needed" in page


def test_a_run_without_any_record_still_has_a_report(tmp_path):
    page = write_report(write_run(tmp_path, SCORES, last_step=lambda task, method, seed: 0)).read_text()
    assert "9 of 9 trials lack their final evaluation" in page
    assert "nothing is ranked" in page


def test_several_tasks_have_a_board_each_and_one_for_all(tmp_path):
    scores = {(task, method): values for task in ("A", "B") for (_, method), values in SCORES.items()}
    page = write_report(write_run(tmp_path, scores)).read_text()
    assert [page.count(f"<caption>{title}<small") for title in ("All tasks", "A", "B")] == [1, 1, 1]
    assert "Score over all tasks over agent steps" in page


def test_enough_runs_have_a_performance_profile(tmp_path):
    scores = {key: [values[0] + 0.01 * seed for seed in range(10)] for key, values in SCORES.items()}
    assert "Performance profile" in write_report(write_run(tmp_path, scores)).read_text()


def test_settings_stand_where_they_differ(tmp_path):
    scores = {(task, method): values for task in ("A", "B") for (_, method), values in SCORES.items()}
    tables = settings_tables(load_run(write_run(tmp_path, scores)))
    assert ("agent.network.hidden", "[64, 64]") in tables.shared
    assert [key for key, _ in tables.by_task] == ["environment.task"]
    by_method = {key: [(cell.text, cell.stands_out) for cell in cells] for key, cells in tables.by_method}
    assert by_method["method.iterations"] == [("–", False), ("5", True), ("–", False)]  # noqa: RUF001
    assert by_method["schedule.at"] == [("–", False), ("[0.5]", False), ("[0.5]", False)]  # noqa: RUF001


def test_a_method_keeps_its_colour_and_the_control_is_grey():
    colours = palette(["none", "fire", "redo"], {"none"})
    assert len(set(colours.values())) == 3
    assert palette(["fire", "none"], {"none"})["fire"] == colours["fire"]


def test_table_reads_special_values_and_only_the_names_asked_for(tmp_path):
    run = load_run(write_run(tmp_path, SCORES))
    table = read_table(run, 'loss/[^"]*')
    assert set(table["name"]) == {"loss/td"}
    assert table.loc[table["step"] == 10, "value"].isna().all()
    assert len(table) == 9 * 10


def test_the_leaderboard_page_loads_nothing_and_names_every_method(tmp_path):
    board = leaderboard.leaderboard([write_run(tmp_path / "run", SCORES)])
    write_leaderboard_html(board, tmp_path / "board.html")
    page = (tmp_path / "board.html").read_text()
    structure = Structure()
    structure.feed(page)
    assert (structure.open, structure.loads) == ([], [])
    assert all(name in page for name in ("none", "fire", "shrink &amp; &lt;perturb&gt;"))


def test_each_of_many_methods_has_a_small_figure_over_the_control(tmp_path):
    scores = {("A", "none"): [0.1] * 5} | {("A", f"method_{i}"): [0.2] * 5 for i in range(7)}
    page = write_report(write_run(tmp_path, scores)).read_text()
    labels = re.findall(r'aria-label="(Score|Dormant units), (method_\d)"', page)
    assert labels == [(title, f"method_{i}") for title in ("Score", "Dormant units") for i in range(7)]
    assert 'class="grid small"' in page
    few = write_report(write_run(tmp_path / "few", SCORES)).read_text()
    assert 'class="grid small"' not in few


def test_of_very_many_methods_figures_show_the_controls_and_the_best(tmp_path):
    scores = {("task", f"m{n}"): [0.01 * n + 0.001 * seed for seed in range(5)] for n in range(40)}
    page = write_report(write_run(tmp_path, {("task", "none"): [0.0, 0.1, 0.2, 0.1, 0.0]} | scores)).read_text()
    shown = set(re.findall(r'id="show-m\d+" checked><span class="swatch[^>]*></span>(\w+)<', page))
    assert shown == {"none", *(f"m{n}" for n in range(17, 40))}
    assert "show 24 of the 41 methods" in page
    (board,) = re.findall(r'<table class="board data">.*?</table>', page, re.S)
    assert all(f"</span>m{n}<" in board for n in range(40))
    (matrix,) = re.findall(r'<table class="matrix">.*?</table>', page, re.S)
    assert matrix.count("<tr>") == 1 + 24


@pytest.mark.slow
def test_the_page_of_three_hundred_methods_stays_below_five_megabytes(tmp_path):
    scores = {("task", "none"): [0.1, 0.2]} | {("task", f"method_{n:03}"): [n / 300, n / 400] for n in range(299)}
    page = write_report(write_run(tmp_path, scores))
    assert page.stat().st_size < 5_000_000
    text = page.read_text().replace("<wbr>", "")
    assert all(f"</span>method_{n:03}<" in text for n in (0, 150, 298))


def test_a_page_tells_where_it_comes_from_and_how_to_make_it_again(tmp_path):
    run = write_run(tmp_path, SCORES)
    (run / "benchmark.yaml").write_text("name: tiny  # <tag>\n")
    page = write_report(run).read_text()
    (source,) = json.loads((run / "report" / "leaderboard.json").read_text())["provenance"]["runs"]
    assert (source["first_record"], source["wall_s"]) == ("2023-11-14T22:13:30+00:00", 90.0)
    assert (source["methods"], source["controls"]) == (["none", "fire", "shrink & <perturb>"], ["none"])
    assert source["benchmark_yaml"] == "name: tiny  # <tag>\n"
    assert "name: tiny  # &lt;tag&gt;" in page
    assert f"<code>{source['records_sha256'][:16]}</code>" in page


def test_methods_have_the_colours_of_the_report_in_a_leaderboard_page(tmp_path):
    run = write_run(tmp_path, SCORES)
    write_leaderboard_html(leaderboard.leaderboard([run]), tmp_path / "board.html")
    variables = re.compile(r"--m\d: #[0-9a-f]{6};")
    board, report = (path.read_text() for path in (tmp_path / "board.html", write_report(run)))
    assert variables.findall(board) == variables.findall(report) != []
