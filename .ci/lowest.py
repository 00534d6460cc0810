"""Prints the lowest versions that pyproject.toml allows, and what its tests need beside them as the lock has it."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
TOOLS = ("moto[server]", "packaging", "pytest", "pytest-timeout", "pytest-xdist", "stable_baselines3")


def main() -> None:
    """One requirement a line."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    for line in (*project["dependencies"], *extras["bench"], *extras["s3"]):
        requirement, _, marker = line.partition(";")
        lowest = re.sub(r">=([\w.]+).*", r"==\1", requirement.strip())
        print(f"{lowest}; {marker.strip()}" if marker else lowest)
    locked = dict(line.split("==") for line in (ROOT / "requirements.lock").read_text().splitlines())
    for tool in TOOLS:
        print(f"{tool}=={locked[tool.partition('[')[0]]}")


if __name__ == "__main__":
    main()
