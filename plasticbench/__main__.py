"""The ``plasticbench`` command, also ``python -m plasticbench``."""

import os
import sys


def main() -> None:
    """Runs the command line. Where the platform's packages are not installed, says how to get them."""
    from plasticbench.extras import BENCH_MODULES, install_command

    try:
        from plasticbench.platform.cli import main as run

        run()
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in BENCH_MODULES:
            raise
        print(
            f"Error: plasticbench's commands need the package {error.name!r}, which the extra 'bench' brings: "
            f"{install_command('bench')}",
            file=sys.stderr,
        )
        raise SystemExit(2) from None


def _leave_out_the_current_folder() -> None:
    """``python -m`` puts it first on the import path, where a ``random.py`` of the user's would stand for Python's."""
    is_home = sys.path[0] == os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    if not sys.flags.safe_path and not is_home:
        del sys.path[0]


if __name__ == "__main__":
    _leave_out_the_current_folder()
    main()
