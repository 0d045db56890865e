"""The texts that people may write into fields: bounded, and without characters that nobody can see."""

import unicodedata
from typing import Annotated

from pydantic import AfterValidator, StringConstraints

_LAYOUT = "\n\r\t"


def is_printable(text: str, *, allowed: str = "") -> bool:
    """Whether no character is a control character, apart from those allowed."""
    return all(character in allowed or unicodedata.category(character) not in ("Cc", "Cs") for character in text)


def _one_line(text: str) -> str:
    if not is_printable(text):
        raise ValueError("the text has a control character; write it on one line of ordinary characters")
    return text


def _many_lines(text: str) -> str:
    if not is_printable(text, allowed=_LAYOUT):
        raise ValueError("the text has a control character; keep to ordinary characters and line breaks")
    return text


OneLine = Annotated[str, AfterValidator(_one_line)]
_Line = Annotated[str, StringConstraints(strip_whitespace=True), AfterValidator(_one_line)]

Name = Annotated[_Line, StringConstraints(min_length=1, max_length=120)]
ClassName = Annotated[_Line, StringConstraints(min_length=1, max_length=80)]
FileName = Annotated[_Line, StringConstraints(min_length=1, max_length=255)]
ShortLine = Annotated[_Line, StringConstraints(max_length=300)]
LongText = Annotated[str, StringConstraints(max_length=20_000), AfterValidator(_many_lines)]
Colour = Annotated[str, StringConstraints(pattern="^#[0-9A-Fa-f]{6}$")]
Identifier = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern="^[A-Za-z0-9_-]+$")]
AccountName = Annotated[_Line, StringConstraints(min_length=1, max_length=60, pattern=r"^\w[\w.@+-]*$")]
