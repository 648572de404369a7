"""What the command `kernelloop` starts: the command line, which takes a moment to load.

Loads nothing before it can answer an interrupt.
"""

from __future__ import annotations

import sys


def main() -> int:
    try:
        from agent import cli
    except KeyboardInterrupt:
        print("kernelloop: interrupted", file=sys.stderr)
        return 1
    return cli.main()
