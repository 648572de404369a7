"""What every HTML page of ours is made with: templates that escape what they are given, a policy that lets nothing in.

Knows nothing of what a page says.
"""

from __future__ import annotations

import base64
import hashlib
from importlib.resources import files

from jinja2 import Environment, FunctionLoader, StrictUndefined

__all__ = ["Environment", "page_environment", "page_policy", "template_text"]


def page_environment() -> Environment:
    """Of the templates in this package; a name that is not given is an error."""
    return Environment(
        loader=FunctionLoader(template_text), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip


def template_text(name: str) -> str:
    return (files("agent") / "templates" / name).read_text(encoding="utf-8")


def page_policy(*, style: str, script: str | None) -> str:
    """Nothing is loaded, sent or framed; the one style sheet and the one script, if any, are known by their hashes."""
    scripts = "" if script is None else f"script-src '{_digest(script)}'; "
    return f"default-src 'none'; style-src '{_digest(style)}'; {scripts}base-uri 'none'; form-action 'none'"


def _digest(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
