"""What keeps the runner running: files for systemd, pm2 and containers, printed or installed.

The files lie beside this module, as they are printed but for `${…}`; docs/operating.md says how each is used.
"""

from runner.service.files import KINDS, written
from runner.service.unit import install, uninstall

__all__ = ["KINDS", "install", "uninstall", "written"]
