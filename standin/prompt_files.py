"""Where the stand-in's prompt templates lie, which every checkpoint of it carries along."""

from __future__ import annotations

from pathlib import Path

TEMPLATES = Path(__file__).parent / "templates"
TEMPLATE_FILES = ("prompt_template.txt", "repair.txt", "improve.txt")
