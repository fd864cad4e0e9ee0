"""docs/tuning.md, written from the checks."""

from __future__ import annotations

from typing import Final

from runner.tune import measured
from runner.tune.finding import MEANING, Need
from runner.tune.kept import LIMITS_FILE, STATE_FILE, SYSCTL_FILE, unit_file
from runner.tune.report import CHECKS

_HEAD: Final = f"""# Tuning

Generated from `runner.tune` by `make docs`; do not edit. A test asserts that every check is here.

```
python -m runner tune --sessions 10000             # look: what is set, what 10,000 sessions need, and why
python -m runner tune --sessions 10000 --explain   # the reasons for all, also for what is fine
python -m runner tune --check                      # 0 fine, 1 something is advised, 8 so many do not fit
sudo python -m runner tune --sessions 10000 --apply
sudo python -m runner tune --undo
```

Without `--sessions` it judges for the sessions in the store, and for 1,000 when there are none. With a live
runner the limits of *its* process are judged, not those of the shell. `GET /api/system/doctor?sessions=N`
gives the same as `tune --json`, looked up on a thread and kept for 5 s.

## What is changed, and how

`--apply` makes only what is advised for so many sessions, and says for the rest where it can be made:

- `/{SYSCTL_FILE}`: kernel settings for the next boot; the same values are set at once.
- `/{LIMITS_FILE}`: the hard limit of open files, from the next login on.
- `/{unit_file("NAME.service")}`: the same for each systemd service whose
  `ExecStart=` starts the runner; `systemctl daemon-reload` and a restart make it hold.

First `/{STATE_FILE}` gets the values from before. Each kernel value is read back; one that
did not take is put back and stays out of the file. When a file cannot be written, everything of that run is
taken back. A file of one of these names that somebody else wrote is never touched. `--undo` restores
the values from before the *first* `--apply` and removes the files; a value that somebody else has changed
since is left alone, and said so.

In a container `--apply` changes what can be written there. For the rest it names the place: `--sysctl` and
`--ulimit` for whoever starts the container, the host for what the host owns. Nothing is installed, and no
program of others is called.

At start the runner does for itself what needs no right: it raises its soft limit of open files to the
hard one, bounds Trio's worker threads (`WHATSAPP_WORKER_THREADS`), freezes what is there after the start, so
that the collector never looks at it again, and gives every socket TCP_NODELAY and a TCP_USER_TIMEOUT of 30 s.
One log line, `process tuned`, says what is in force.

## Words

| status | meaning |
| --- | --- |"""


def document() -> str:
    """docs/tuning.md."""
    lines = [_HEAD]
    lines += [
        f"| {status.value.replace('_', ' ')} (`{status.value}`) | {text} |"
        for status, text in MEANING.items()
    ]
    lines += ["", *_needs(), *_checks(), *_figures()]
    return "\n".join(lines) + "\n"


def _needs() -> list[str]:
    lines = [
        "## What N sessions need",
        "",
        "With default settings: descriptors, memory of process and kernel, threads, share of a core.",
        "",
        "| sessions | descriptors | memory | in the kernel | threads | cores |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for sessions in (100, 1_000, 10_000, 50_000):
        need = Need(sessions)
        lines.append(
            f"| {sessions:,} | {need.descriptors:,} | {need.memory_bytes / 1e6:,.0f} MB | "
            f"{need.kernel_bytes / 1e6:,.1f} MB | {need.threads} | {need.cores:.2f} |"
        )
    return [*lines, ""]


def _checks() -> list[str]:
    lines = ["## Checks", ""]
    for check in CHECKS:
        lines += [
            f"### {check.name}",
            "",
            f"`{check.setting}`. {check.why}",
            "",
            f"Source: {check.source}.",
            "",
        ]
    return lines


def _figures() -> list[str]:
    return [
        "## Measured",
        "",
        "`python -m bench.scenarios.tuning`, rows in bench/results/tuning.json; medians of three runs.",
        "",
        *(f"- **{name}**: {text}." for name, text in measured.TEXTS.items()),
    ]
