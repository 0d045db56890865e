"""The pages in `docs/` that are made from the code say what the code says."""

import re
from pathlib import Path

import pytest

from axons.app.describe import rest_page, settings_page
from axons.app.settings import Settings

DOCS = Path(__file__).parents[2] / "docs"
ROUTES = re.findall(r"^\| `((?:GET|POST|PUT|PATCH|DELETE) [^`]+)`", rest_page(), re.MULTILINE)


@pytest.mark.parametrize("route", ROUTES)
def test_each_route_is_documented(route):
    assert f"`{route}`" in (DOCS / "rest.md").read_text(), "run `make docs`"


def test_no_route_is_documented_that_is_not_there():
    assert (DOCS / "rest.md").read_text().count("\n| `") == len(ROUTES), "run `make docs`"


def test_the_page_of_settings_is_current():
    assert (DOCS / "settings.md").read_text() == settings_page(), "run `make docs`"


@pytest.mark.parametrize("name", sorted(Settings.model_fields))
def test_each_setting_says_what_it_is_for(name):
    assert Settings.model_fields[name].description
