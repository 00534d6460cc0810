"""``python -m plasticbench``: the ``plasticbench`` command."""

from plasticbench.platform.cli import main

if __name__ == "__main__":
    main()
