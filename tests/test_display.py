"""What a person sees of many populations."""

import io

from rich.console import Console

from plasticbench.platform.display import LiveDisplay, PlainDisplay
from plasticbench.platform.training.segment import Progress


def _running(count: int) -> list[Progress]:
    return [Progress(f"population-{n}", 10, 0, 100, 2, 5.0, None, {}) for n in range(count)]


def _plain(count: int) -> str:
    text = io.StringIO()
    PlainDisplay(Console(file=text, width=200)).update(_running(count), 180 * count)
    return text.getvalue()


def test_a_log_names_a_few_populations_and_counts_many():
    assert _plain(20).count("step 10 of 100, 2 members") == 20
    assert _plain(21) == "21 populations run: 3,780 member-steps to go, about -\n"


def test_a_terminal_shows_as_many_populations_as_fit_and_counts_the_rest():
    text = io.StringIO()
    display = LiveDisplay(Console(file=text, width=200, height=60, force_terminal=True))
    display.start()
    display.update(_running(23), 4_140)
    display.stop()
    shown = text.getvalue()
    assert "population-19 " in shown
    assert "population-20 " not in shown
    assert "and 3 more populations; 4,140 member-steps to go" in shown
