"""Takes the pictures of docs/tour.md on a platform that runs: `python -m tests.browser.tour SIGN_IN_LINK`.

The link is the one that `axons up` prints. Shown is the first project with a model; without a class one is made.
"""

import argparse
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from PIL import Image as Picture
from playwright.sync_api import BrowserContext, Page, expect

from tests.browser.annotating import Annotator
from tests.browser.chromium import running_chromium

PICTURES = Path(__file__).parents[2] / "docs/pictures/tour"
WIDTH = 1440
# Micrographs do not pack well: smaller and with fewer colours, until the file is small.
SIZES = [(1440, 256), (1200, 256), (1200, 96), (1000, 96), (1000, 48), (800, 48)]
MOST_BYTES = 150_000


@dataclass(frozen=True, kw_only=True)
class Shot:
    """A picture of a screen, from the top or from a heading, `height` px of it."""

    name: str
    path: str
    height: int
    heading: str | None = None


class Rest:
    """REST as whoever the browser is signed in as."""

    def __init__(self, context: BrowserContext, url: str) -> None:
        self._request, self._url = context.request, url

    def get(self, path: str) -> Any:
        return self._answer(self._request.get(f"{self._url}/api/v1/{path}"))

    def post(self, path: str, form: dict[str, Any]) -> Any:
        return self._answer(self._request.post(f"{self._url}/api/v1/{path}", data=form, headers={"origin": self._url}))

    def _answer(self, answer: Any) -> Any:
        if not answer.ok:
            raise SystemExit(f"the platform answered {answer.status}: {answer.text()}")
        return answer.json()


def shots(rest: Rest) -> list[Shot]:
    """The eight screens, and the models, in the order of the tour."""
    project = _with_model(rest)
    query = f"project={project}"
    run = next(run for run in rest.get(f"runs?project_id={project}")["items"] if run["state"] == "done")
    tile = rest.get(f"projects/{project}/tiles?limit=1")["items"][0]
    predictions = rest.get(f"projects/{project}/predictions?limit=1")["items"]
    shown, heading = (f"&prediction={predictions[0]['id']}", predictions[0]["name"]) if predictions else ("", None)
    return [
        Shot(name="projects", path="/", height=760),
        Shot(name="images", path=f"/images?{query}", height=900),
        Shot(name="annotate", path=f"/annotate?{query}&tile={tile['id']}", height=900),
        Shot(name="dataset", path=f"/dataset?{query}", height=900, heading="Split by image"),
        Shot(name="train", path=f"/train?{query}&run={run['id']}", height=1460),
        Shot(name="results", path=f"/results?{query}&run={run['id']}", height=1180),
        Shot(name="models", path="/models", height=640),
        Shot(name="predict", path=f"/predict?{query}{shown}", height=900, heading=heading),
        Shot(name="class", path=f"/class?classroom={_classroom(rest, project)}", height=900),
    ]


def _with_model(rest: Rest) -> str:
    for row in rest.get("projects")["items"]:
        stages = rest.get(f"projects/{row['id']}")["stages"]
        if any(stage["name"] == "model" and stage["count"] for stage in stages):
            return row["id"]
    raise SystemExit("no project of yours has a model; wait until the sample's training is done")


def _classroom(rest: Rest, project: str) -> str:
    if found := rest.get("classrooms")["items"]:
        return found[0]["id"]
    classroom = rest.post("classrooms", {"name": "Biology 4b"})["id"]
    names = {"eva": "Eva Stone", "ben": "Ben Müller", "chloe": "Chloé Dubois"}
    students = [{"name": name, "display_name": display} for name, display in names.items()]
    rest.post(f"classrooms/{classroom}/students", {"students": students})
    task = {"title": "Find the axons", "text": "Label two tiles, train for a minute, say where the model errs."}
    rest.post("assignments", {"classroom_id": classroom, "template_project_id": project, **task})
    return classroom


def take(page: Page, shot: Shot) -> bytes:
    """The picture as PNG, once everything that it shows is loaded."""
    page.set_viewport_size({"width": WIDTH, "height": shot.height})
    page.goto(shot.path)
    page.locator("axons-screen[data-ready]").wait_for()
    if shot.name == "annotate":
        annotator = Annotator(page, page.locator("iframe").element_handle().content_frame())
        annotator.wait(lambda state: state["ready"])
    page.wait_for_load_state("networkidle")
    for picture in page.locator("main img").all():
        if picture.is_visible() and picture.get_attribute("loading") != "lazy":
            expect(picture).to_have_js_property("complete", True)
    if shot.heading:  # last, for a page grows by its pictures
        page.get_by_role("heading", name=shot.heading).first.evaluate("heading => heading.scrollIntoView()")
    return page.screenshot()


def small(png: bytes) -> bytes:
    """The same picture in at most `MOST_BYTES`."""
    whole = Picture.open(io.BytesIO(png)).convert("RGB")
    for width, colours in SIZES:
        smaller = whole.resize((width, round(whole.height * width / whole.width)), Picture.Resampling.LANCZOS)
        buffer = io.BytesIO()
        smaller.quantize(colours, dither=Picture.Dither.NONE).save(buffer, "PNG", optimize=True)
        if buffer.tell() <= MOST_BYTES:
            break
    return buffer.getvalue()


def main() -> None:
    """Write each picture to docs/pictures/tour."""
    parser = argparse.ArgumentParser(prog="python -m tests.browser.tour", description=__doc__)
    parser.add_argument("link", help="the sign-in link that `axons up` prints; it works once")
    link = parser.parse_args().link
    url = "{0.scheme}://{0.netloc}".format(urlsplit(link))
    with running_chromium() as browser:
        context = browser.new_context(base_url=url, locale="en-GB", viewport={"width": WIDTH, "height": 900})
        context.add_init_script("localStorage.setItem('axons-tour', 'seen')")
        page = context.new_page()
        page.goto(link)
        page.locator("axons-screen[data-ready]").wait_for(timeout=60_000)
        PICTURES.mkdir(parents=True, exist_ok=True)
        for shot in shots(Rest(context, url)):
            (PICTURES / f"{shot.name}.png").write_bytes(small(take(page, shot)))


if __name__ == "__main__":
    main()
