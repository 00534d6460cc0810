"""The house as documents describe it: imports without a circle, floors that can be overseen, files of one idea."""

from pathlib import Path

import grimp
import networkx

PACKAGE = Path(__file__).parents[1] / "plasticbench"


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph = grimp.build_graph("plasticbench")
    imports = networkx.DiGraph(
        (module, imported) for module in graph.modules for imported in graph.find_modules_directly_imported_by(module)
    )
    assert imports.number_of_edges() > 500
    assert [sorted(circle) for circle in networkx.strongly_connected_components(imports) if len(circle) > 1] == []


def test_no_floor_of_the_platform_holds_more_than_fifteen_files() -> None:
    folders = [folder for folder in (PACKAGE / "platform").rglob("*") if folder.is_dir()]
    counts = {folder.name: len(list(folder.glob("*.py"))) for folder in [PACKAGE / "platform", *folders]}
    assert counts["training"] > 3
    assert max(counts.values()) <= 15


def test_no_file_has_more_than_400_lines() -> None:
    lengths = {path: len(path.read_text().splitlines()) for path in PACKAGE.rglob("*.py")}
    assert {path.name: length for path, length in lengths.items() if length > 400} == {}
