"""What our dispatch modes have in common: they run where nothing is compiled, so they do without Dynamo.

By default torch wraps a mode so that Dynamo skips it, and imports all of Dynamo (1.6 s) at the mode's first call.
"""

from __future__ import annotations

from torch.utils._python_dispatch import TorchDispatchMode


class EagerMode(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """A TorchDispatchMode that never meets torch.compile."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False
