"""The words of the screens: English in the code, and all of it in the French catalogue."""

import json
import re
from pathlib import Path

from axons.train.config import TrainConfig

SCREENS = Path(__file__).parents[2] / "axons/app/static/screens"
OTHERS = {"openseadragon.js"}
SAID = re.compile(r'\bt\(\s*("(?:[^"\\]|\\.)*")')
EXPLAINED = re.compile(r'\b(?:name|meaning): ("(?:[^"\\]|\\.)*")')
VALUE = re.compile(r"\{\w+\}")
TERM = re.compile(r"\[\[([a-z-]+)")
OWN_WORDS = ("architecture", "device")  # names of networks, and what the screen says otherwise


def sentences() -> set[str]:
    """Every text that the screens show by `t`, and those of the glossary."""
    ours = [path.read_text() for path in SCREENS.glob("*.js") if path.name not in OTHERS]
    found = [quoted for text in ours for quoted in SAID.findall(text)]
    explained = EXPLAINED.findall((SCREENS / "glossary.js").read_text())
    return set(map(json.loads, [*found, *explained])) | settings()


def settings() -> set[str]:
    """What the form of a training takes from its schema: names, explanations, and choices that are words."""
    fields = TrainConfig.model_json_schema()["properties"]
    said = {text for each in fields.values() for text in (each["title"], each["description"])}
    kinds = [kind for name, each in fields.items() if name not in OWN_WORDS for kind in each.get("anyOf", [each])]
    return said | {choice for kind in kinds for choice in kind.get("enum", [kind.get("const")]) if choice}


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
