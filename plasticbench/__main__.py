"""The ``plasticbench`` command, also ``python -m plasticbench``."""

import sys

from plasticbench.extras import BENCH_MODULES, install_command


def main() -> None:
    """Runs the command line. Where the platform's packages are not installed, says how to get them."""
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


if __name__ == "__main__":
    main()
