"""`python -m runner`, and the console script `runner`."""

from __future__ import annotations


def main() -> None:
    """Run the command line."""
    from runner.cli.main import cli
    from runner.redact import redact_text
    from runner.tracebacks import redact_tracebacks

    redact_tracebacks(redact_text)
    cli(prog_name="python -m runner")


if __name__ == "__main__":
    main()
