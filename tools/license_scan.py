"""Look for GPL headers in the sources of every crate in the release graph.

A manifest may say MIT over files that are AGPL (docs/decisions/0008-licence.md names such a crate), and cargo-deny reads
manifests only. This reads the files.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

RELEASE_ROOT = "runner-binding"
MARK = re.compile(
    rb"SPDX-License-Identifier:[^\n]*GPL|GNU (?:Affero |Lesser )?General Public License", re.IGNORECASE
)
SOURCES = {".rs", ".c", ".h", ".cc", ".cpp", ".S", ".py", ".proto"}
FEWEST_CRATES = 30
"""The release graph has about twice as many; a scan that finds fewer looked at nothing."""
ALLOWED = {
    # file name suffix -> why a mention of the GPL there is harmless
}


def release_crates() -> list[tuple[str, Path]]:
    """Name and folder of each foreign crate that the wheel links (normal dependencies only)."""
    tree = subprocess.run(
        [
            "cargo",
            "tree",
            "--locked",
            "-p",
            RELEASE_ROOT,
            "-e",
            "normal,build",
            "--prefix",
            "none",
            "-f",
            "{p}",
        ],
        check=True,
        capture_output=True,
        text=True,
    )
    wanted = {tuple(line.split()[:2]) for line in tree.stdout.splitlines() if line.strip()}
    meta = json.loads(
        subprocess.run(
            ["cargo", "metadata", "--locked", "--format-version=1"],
            check=True,
            capture_output=True,
            text=True,
        ).stdout
    )
    return [
        (p["name"], Path(p["manifest_path"]).parent)
        for p in meta["packages"]
        if p["source"] and (p["name"], "v" + p["version"]) in wanted
    ]


def main() -> int:
    """Print each find; 1 if there is any."""
    crates = release_crates()
    if len(crates) < FEWEST_CRATES:
        print(f"licence scan: only {len(crates)} crates found, the scan itself is broken", file=sys.stderr)
        return 1
    found = 0
    for name, folder in crates:
        for path in folder.rglob("*"):
            if path.suffix not in SOURCES or not path.is_file():
                continue
            if (hit := MARK.search(path.read_bytes())) and not any(str(path).endswith(s) for s in ALLOWED):
                print(
                    f"{name}: {path.relative_to(folder)}: {hit.group().decode(errors='replace')}",
                    file=sys.stderr,
                )
                found += 1
    print(f"licence scan: {len(crates)} crates in the release graph, {found} files with a GPL header")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
