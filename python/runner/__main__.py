"""`python -m runner`, and the console script `runner`."""

from __future__ import annotations


def main() -> None:
    """Run the command line."""
    from runner.cli.main import cli

    cli(prog_name="python -m runner")


if __name__ == "__main__":
    main()
