"""Text that is data, such as a candidate's or a judge's, made fit for a prompt: it names no special token.

A tokeniser makes a special token of its name wherever that stands, so an attempt with "<|end_of_text|>" in a string
would end the prompt there. A template's own names must stay special, and a prompt is one text until it is encoded, by a
server even out of our sight. So a name in the data is broken, for all to see, by a space: "<|" becomes "< |".
Where there is none not a character changes, hence not a token either.
"""

from __future__ import annotations

import re
from collections.abc import Collection

# The form of most such names, and all that is known of a server without its tokeniser. Where that is at hand the names
# are given: many, such as "</s>", have a form that code may have.
FORM = r"<[|\uff5c][^\s<>|\uff5c]+[|\uff5c]>"


def as_data(text: str, *, special_names: Collection[str] = ()) -> str:
    """`text` with a space after the first character of each name: those of FORM, and those given.

    A name of one character cannot be broken, and stays.
    """
    names = [re.escape(name) for name in special_names if len(name) > 1 and not re.fullmatch(FORM, name)]
    # A look ahead, so that of names that overlap each is broken.
    return re.sub(rf"(?=(?:{'|'.join([FORM, *names])}))(.)", r"\1 ", text, flags=re.DOTALL)
