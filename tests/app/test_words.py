"""The words of the screens: English in the code, and all of it in the French catalogue."""

import json
import re
from pathlib import Path

SCREENS = Path(__file__).parents[2] / "axons/app/static/screens"
OTHERS = {"openseadragon.js"}
SAID = re.compile(r'\bt\(\s*("(?:[^"\\]|\\.)*")')
EXPLAINED = re.compile(r'\b(?:name|meaning): ("(?:[^"\\]|\\.)*")')
VALUE = re.compile(r"\{\w+\}")
TERM = re.compile(r"\[\[([a-z-]+)")


def sentences() -> set[str]:
    """Every text that the screens show by `t`, and those of the glossary."""
    ours = [path.read_text() for path in SCREENS.glob("*.js") if path.name not in OTHERS]
    found = [quoted for text in ours for quoted in SAID.findall(text)]
    return set(map(json.loads, [*found, *EXPLAINED.findall((SCREENS / "glossary.js").read_text())]))


def catalogue() -> dict[str, str]:
    return json.loads((SCREENS / "french.json").read_text())


def test_every_sentence_has_its_french():
    assert sorted(sentences() - set(catalogue())) == []


def test_the_catalogue_has_nothing_that_no_screen_says():
    assert sorted(set(catalogue()) - sentences()) == []


def test_the_french_keeps_values_and_terms():
    odd = [
        english
        for english, french in catalogue().items()
        for pattern in (VALUE, TERM)
        if sorted(pattern.findall(english)) != sorted(pattern.findall(french))
    ]
    assert odd == []
