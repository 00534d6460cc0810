"""What the report's script does in a real browser, and what the page holds without it."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import Any

import pytest
from browser import Page, chromium
from run_directory import write_run

from plasticbench.analysis.report import write_report

pytestmark = [pytest.mark.slow, pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is missing")]

SCORES = {
    ("A", "none"): [0.0, 0.1, 0.2, 0.1, 0.1],
    ("A", "fire"): [0.8, 0.9, 0.9, 1.0, 0.9],
    ("A", "full_reset"): [0.5, 0.4, 0.6, 0.5, 0.5],
}
BOARD = "document.querySelector('table.board')"
NAMES = f"[...{BOARD}.tBodies[0].rows].map(row => row.cells[0].innerText.trim())"
SVG = "document.querySelector('#curves svg[data-scales]')"


async def look(page: Page, address: str) -> dict[str, Any]:
    seen: dict[str, Any] = {}
    await page.call("Log.enable")
    await page.open(address)
    await page.until("document.readyState === 'complete' && !!document.querySelector('.tools')")
    seen["by rank"] = await page.value(NAMES)
    await page.click(f"{BOARD}.tHead.rows[0].cells[3].querySelector('button')")  # mean behind the leader
    await page.click(f"{BOARD}.tHead.rows[0].cells[3].querySelector('button')")
    seen["behind, most first"] = await page.value(NAMES)
    await page.value(
        "Object.defineProperty(navigator, 'clipboard', {value: {writeText: async t => { window.copied = t }}})"
    )
    for label in ("CSV", "LaTeX"):
        await page.click(f"[...{BOARD}.querySelectorAll('.tools button')].find(one => one.innerText === '{label}')")
        seen[label] = await page.until("window.copied")
        await page.value("window.copied = ''")
    await page.value(f"{SVG}.scrollIntoView({{block: 'center'}})")
    x, y = await page.value(
        f"(box => [box.x + box.width * 0.5, box.y + box.height / 2])({SVG}.getBoundingClientRect())"
    )
    await page.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
    seen["tip"] = await page.until("document.querySelector('.tip')?.innerText")
    shown = f"[...{SVG}.querySelectorAll('g.line')].filter(one => getComputedStyle(one).display !== 'none').length"
    before = await page.value(shown)
    await page.click("document.getElementById('show-m1')")
    seen["lines"] = before, await page.value(shown)
    return seen


async def look_without_script(page: Page, address: str) -> list[str]:
    await page.call("Emulation.setScriptExecutionDisabled", value=True)
    await page.open(address)
    await asyncio.sleep(1)
    return [await page.value("document.body.innerText"), await page.value("document.querySelectorAll('svg').length")]


async def widths(page: Page, address: str) -> dict[int, int]:
    """How far the page reaches to the right, by the window's width."""
    found = {}
    await page.open(address)
    for width in (1440, 1024, 390):
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
        await page.call("Emulation.setDeviceMetricsOverride", **size)
        await asyncio.sleep(0.3)
        found[width] = await page.value("document.documentElement.scrollWidth")
    return found


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    return Path(write_report(write_run(tmp_path_factory.mktemp("run"), SCORES))).resolve().as_uri()


def test_tables_sort_and_copy_and_figures_tell_values_and_hide_methods(address: str) -> None:
    async def run() -> dict[str, Any]:
        async with chromium(1200, 900) as page:
            return await look(page, address)

    seen = asyncio.run(run())
    assert seen["by rank"] == ["fire", "full_reset", "none"]
    assert seen["behind, most first"] == ["none", "full_reset", "fire"]
    assert seen["CSV"].splitlines()[0].startswith('"Method","Rank","Final score')
    assert seen["CSV"].splitlines()[1].startswith('"none","3","0.100 [')
    assert seen["LaTeX"].startswith("\\begin{tabular}{lrrr")
    assert "full\\_reset & 2" in seen["LaTeX"]
    step, *values = seen["tip"].splitlines()
    assert step.startswith("step ")
    assert [value.split()[0] for value in values] == ["fire", "full_reset", "none"], "the best on top"
    assert float(values[0].split()[1]) == pytest.approx(0.9, abs=0.01)
    assert seen["lines"] == (3, 2)


def test_without_scripts_everything_is_there_and_nothing_is_wider_than_the_window(address: str) -> None:
    async def run() -> tuple[list[Any], dict[int, int]]:
        async with chromium(1200, 900) as page:
            return await look_without_script(page, address), await widths(page, address)

    (text, num_figures), reach = asyncio.run(run())
    assert "fire has the highest score (IQM 0.900), clearly ahead of every other method" in text
    assert num_figures > 4
    assert all(right <= width for width, right in reach.items())
