"""``list treatments`` and ``explain`` say of every kind on disk what its file says."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys

import pytest
from test_documents import module
from typer.testing import CliRunner

from plasticbench import plugins
from plasticbench.contracts.treatment import FAMILIES
from plasticbench.platform import explain
from plasticbench.platform.cli import app

METHODS = module("docs/methods")
KINDS = [(family, kind) for family in FAMILIES for kind in plugins.names(family)]


def listed(*options: str) -> list[dict]:
    result = CliRunner().invoke(app, ["list", "treatments", "--json", *options])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def said(kind: str) -> str:
    result = CliRunner().invoke(app, ["explain", kind])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_the_list_of_treatments_holds_every_kind_of_all_three_families() -> None:
    rows = listed()
    assert [(row["family"], row["name"]) for row in rows] == KINDS
    assert [row["name"] for row in rows if not row["source"]] == ["none"]
    assert all(row["summary"].endswith(".") and row["hooks"] for row in rows)
    for row in rows:
        assert row["presets"] == sorted(plugins.load(row["family"], row["name"]).PRESETS)


def test_one_family_is_listed_by_its_name() -> None:
    rows = {row["name"]: row for row in listed("--family", "treatments")}
    assert list(rows) == plugins.names("treatments")
    assert rows["fire"]["hooks"] == ["event"]
    assert rows["hare_tortoise"]["hooks"] == ["event", "update"]
    assert rows["fire"]["source"].startswith("Frobenius-Isometry Reinitialization, Han et al., ICLR 2026")
    assert rows["fire"]["citation"] == "Frobenius-Isometry Reinitialization, Han et al., ICLR 2026, arXiv 2602.08040"
    assert {row["name"] for row in listed("--family", "optimizers")} == set(plugins.names("optimizers"))


@pytest.mark.parametrize("arguments", [("treatments", "--family", "networks"), ("agents", "--family", "structures")])
def test_a_family_that_there_is_not_is_named_with_those_that_there_are(arguments: tuple[str, ...]) -> None:
    result = CliRunner().invoke(app, ["list", *arguments])
    assert result.exit_code == 2
    assert "--family: must be one of treatments, structures, optimizers" in " ".join(result.stderr.split())
    assert repr(arguments[2]) in result.stderr


def test_kinds_are_described_without_torch() -> None:
    script = "import sys; from plasticbench.platform import explain; explain.kinds(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


@pytest.mark.parametrize(("family", "kind"), KINDS)
def test_every_kind_is_explained_with_its_settings_and_presets(family: str, kind: str) -> None:
    text, module = said(kind), plugins.load(family, kind)
    assert text.startswith(f"{kind} ({family})\n\n{plugins.summary(family, kind).replace('`', '')}")
    assert all(f"\n  {field.name} " in text for field in dataclasses.fields(module.Config))
    assert all(f"\n  {preset}: " in text for preset in module.PRESETS)
    assert all(f"agent {agent}: " in text for agent in plugins.names("agents"))


def test_an_explanation_holds_ranges_defaults_presets_and_where_it_works() -> None:
    text = said("shrink_perturb")
    assert "keep         number, at least 0, at most 1; default 0.8" in text
    assert "fire_paper_dqn: keep 0.2, noise 0.8" in text
    assert "Acts: at each event." in text
    assert "agent rllib: yes" in text
    assert "RLlib scripts: yes" in text
    assert "agent rllib: refused: 'parseval' acts at each gradient" in said("parseval")
    assert "RLlib scripts: refused: 'redo' looks at activations" in said("redo")
    assert "and any other optimizer" in said("muon")


def test_whoever_excludes_whom_both_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    config = plugins.load("treatments", "l2").Config
    monkeypatch.setattr(config, "excludes", {"l2_init": "both pull"}, raising=False)
    assert "l2_init: both pull" in said("l2")
    assert "l2: both pull" in said("l2_init")


def test_every_plug_in_is_listed_with_its_settings_and_explained() -> None:
    for group in plugins.PACKAGES:
        for name in plugins.names(group):
            row = explain.with_settings(group, name)
            assert list(row["settings"]) == [f.name for f in dataclasses.fields(plugins.load(group, name).Config)]
            assert f"{name} ({group})\n" in explain.explain(name)
    assert explain.explain("stationary").count("\n\n\nstationary (streams)") == 1


def test_one_of_a_group_is_listed_with_what_its_settings_may_be() -> None:
    result = CliRunner().invoke(app, ["list", "probes", "dormant_ratio"])
    assert result.stdout.splitlines()[-1].split(maxsplit=1) == ["tau", "number, at least 0, below 1; default 0.025"]
    result = CliRunner().invoke(app, ["list", "treatments", "muon", "--json"])
    assert json.loads(result.stdout)[0]["settings"]["learning_rate"]["default"]
    result = CliRunner().invoke(app, ["list", "probes", "dormant"])
    assert result.exit_code == 2
    assert "Did you mean 'dormant_ratio'?" in result.stderr


def test_an_unknown_kind_is_answered_with_the_nearest() -> None:
    result = CliRunner().invoke(app, ["explain", "shrink_and_perturb"])
    assert result.exit_code == 2
    assert "Did you mean 'shrink_perturb'?" in result.stderr


def test_a_source_is_cited_by_its_first_clause_that_names_a_year_or_a_paper() -> None:
    def cited(source: str) -> str:
        kind = explain.Kind(name="x", family="treatments", summary="", source=source, hooks=(), presets=())
        return kind.citation

    assert (
        cited("Lee et al., ICML 2024, arXiv 2406.02596: tortoise <- hare.") == "Lee et al., ICML 2024, arXiv 2406.02596"
    )
    assert cited("the loss plus ||w||^2; the baseline of Lyle et al. 2024.") == "the baseline of Lyle et al. 2024"


def test_the_page_of_methods_is_what_the_code_says() -> None:
    assert METHODS.PAGE.read_text(encoding="utf-8") == METHODS.page().rstrip("\n") + "\n", "run `make docs`"


def test_the_page_of_methods_has_a_row_for_every_kind() -> None:
    page = METHODS.page()
    assert all(f"\n| `{kind}` | " in page for _, kind in KINDS)
    assert "| `redo` | " in page
    assert " | event | `dopamine`, `fire_vision`, `paper`, `timoklein` |" in page


def test_the_taxonomy_names_the_kinds_on_disk_or_says_why_there_is_none() -> None:
    row = METHODS.Strategy("Name", "2405.00001", ["fire", "nothing_of_it"], "preset `x`", why_not="too dear")
    assert METHODS._here(row, {"fire"}) == "`fire` (preset `x`)"
    assert METHODS._here(row, {"redo"}) == "none: too dear"
    rows = METHODS.page().partition("| category |")[2]
    named = {kind for kinds in METHODS.TAXONOMY.values() for it in kinds for kind in it.kinds}
    others = rows.partition("Kinds that no row has:")[2]
    assert all((kind in named) != (f"`{kind}`" in others) for _, kind in KINDS if kind != "none")


def test_what_takes_more_than_half_as_long_again_says_how_long_and_why() -> None:
    told = "Costs: an update takes 1.5 to 2.7 times as long as with none, because all weights are sorted"
    assert told in explain.explain("wasserstein_init")
    assert "Costs:" not in explain.explain("l2")
