"""What the comments of shipped benchmark files say about running them small."""

import shlex
from itertools import pairwise
from pathlib import Path


def smoke_overrides(path: Path) -> list[str]:
    """What the comments of a file say to ``--set`` where its data are not at hand; nothing in most files."""
    lines = [line[1:] for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("#   ")]
    words = shlex.split(" ".join(lines))
    return [value for option, value in pairwise(words) if option == "--set"]
