"""The words of the screens: English in the code, and all of it in the French catalogue."""

import ast
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from axons.train.config import TrainConfig

STATIC = Path(__file__).parents[2] / "axons/app/static"
SCREENS = STATIC / "screens"
ANNOTATOR = STATIC / "annotator"
OTHERS = {"openseadragon.js"}
SAID = re.compile(r'\bt\(\s*("(?:[^"\\]|\\.)*")')
EXPLAINED = re.compile(r'\b(?:name|meaning): ("(?:[^"\\]|\\.)*")')
KEY = re.compile(r'^  \["([^"]+)", "[^"]+", "([^"]+)"', re.MULTILINE)
HELD = re.compile(r'^  \["[^"]+", "([^"]+)", "[^"]+"\]', re.MULTILINE)
VALUE = re.compile(r"\{\w+\}")
TERM = re.compile(r"\[\[([a-z-]+)")
OWN_WORDS = ("architecture", "device")  # names of networks, and what the screen says otherwise


class Markup(HTMLParser):
    """The texts of a page, and the attributes that are shown or read aloud."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.said: set[str] = set()
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.said |= {value for name, value in attrs if value and name in ("aria-label", "title", "alt")}

    def handle_data(self, data: str) -> None:
        if any(letter.isalpha() for letter in data):
            self.said.add(data.strip())


def sentences() -> set[str]:
    """Every text that the screens and the annotator show by `t`, and those of the glossary and of the keys."""
    modules = [path for part in (SCREENS, ANNOTATOR) for path in part.glob("*.js") if path.name not in OTHERS]
    found = [quoted for path in modules for quoted in SAID.findall(path.read_text())]
    explained = EXPLAINED.findall((SCREENS / "glossary.js").read_text())
    return (
        set(map(json.loads, [*found, *explained]))
        | settings()
        | keys()
        | Markup((ANNOTATOR / "index.html").read_text()).said
    )


def keys() -> set[str]:
    """What the sheet of keys says; of keys that have a name of their own, only what they do."""
    table = (ANNOTATOR / "keys.js").read_text()
    held = table[table.index("HELD = ") :]
    return {text for row in KEY.findall(table) for text in row} | set(HELD.findall(held))


def settings() -> set[str]:
    """What the form of a training takes from its schema: names, explanations, and choices that are words."""
    fields = TrainConfig.model_json_schema()["properties"]
    said = {text for each in fields.values() for text in (each["title"], each["description"])}
    kinds = [kind for name, each in fields.items() if name not in OWN_WORDS for kind in each.get("anyOf", [each])]
    return said | {choice for kind in kinds for choice in kind.get("enum", [kind.get("const")]) if choice}


def catalogue(name: str = "french.json") -> dict[str, str]:
    return json.loads((SCREENS / name).read_text())


def sentences_of_the_server() -> set[str]:
    """Every text in the code of the server, with {} where a value stands."""
    found = set()
    for path in STATIC.parents[1].rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr):
                found.add("".join(part.value if isinstance(part, ast.Constant) else "{}" for part in node.values))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.add(node.value)
    return found


def test_every_sentence_has_its_french():
    assert sorted(sentences() - set(catalogue())) == []


def test_the_catalogue_has_nothing_that_no_screen_says():
    assert sorted(set(catalogue()) - sentences()) == []


def test_the_server_still_says_what_has_its_french():
    said = sentences_of_the_server()
    assert [english for english in catalogue("french-server.json") if VALUE.sub("{}", english) not in said] == []


@pytest.mark.parametrize("name", ["french.json", "french-server.json"])
def test_the_french_keeps_values_and_terms(name):
    odd = [
        english
        for english, french in catalogue(name).items()
        for pattern in (VALUE, TERM)
        if sorted(pattern.findall(english)) != sorted(pattern.findall(french))
    ]
    assert odd == []
