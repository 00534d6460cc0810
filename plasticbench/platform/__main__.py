"""``python -m plasticbench.platform``: the ``plasticbench`` command, also where only its source has travelled to."""

import sys

try:
    from plasticbench.platform.cli import main
except ModuleNotFoundError as error:
    lacking = (
        f"{sys.executable} lacks the package {error.name!r}: install what requirements.lock lists on every node, and "
        "start the cluster's Ray from the environment that has it"
    )
    raise SystemExit(f"Error: {lacking}") from error

if __name__ == "__main__":
    main()
