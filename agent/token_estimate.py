"""How long text is in tokens, where nobody counted. Needs nothing installed, so prompts can be written anywhere."""

from __future__ import annotations

# Python and Triton text under the Llama 3 tokeniser.
CHARACTERS_PER_TOKEN = 3.2
