"""What screens there are: Gradio gives the page, the element `axons-screen` fills it from REST; no event runs here."""

import gzip
import re
from functools import cache

import gradio as gr

from axons.app.pages import bundle

# Path and title; the path's name is that of the module in `static/screens`.
SCREENS = {
    "/images": "Images",
    "/annotate": "Annotate",
    "/dataset": "Training set",
    "/train": "Train",
    "/results": "Results",
    "/models": "Models",
    "/predict": "Predict",
    "/class": "My class",
    "/account": "Account",
    "/admin": "Administration",
}
_IMPORT = re.compile(r'from "\./([\w-]+\.js)"')


def build_screens() -> gr.Blocks:
    """The pages `/` (my projects) and `SCREENS`; what each shows depends on its address's query alone."""
    with gr.Blocks(title="Axons", analytics_enabled=False, fill_width=True) as screens:
        _fill(_name("/"))
    for path, title in SCREENS.items():
        with screens.route(title, path, show_in_navbar=False):
            _fill(_name(path))
    return screens


def head() -> str:
    """What goes into each page's head: the script that draws the screen; and no icon, for browsers ask for one."""
    return f'<link rel="icon" href="data:,"><script type="module" src="{_address("shell.js")}"></script>'


@cache
def files_of(path: str) -> str:
    """The header `Link` by which a browser loads the modules of a page side by side, not as one names the other."""
    found = bundle("screens")
    waiting, modules = ["shell.js", f"{_name(path)}.js"], []
    while waiting:
        name = waiting.pop()
        if name not in modules:
            modules.append(name)
            waiting += _IMPORT.findall(gzip.decompress(found.files[name][0]).decode())
    links = [f"<{_address(name)}>; rel=modulepreload" for name in modules]
    return ", ".join([f"<{_address('screens.css')}>; rel=preload; as=style", *links])


def _address(name: str) -> str:
    return f"/static/{bundle('screens').version}/screens/{name}"


def _name(path: str) -> str:
    return path.removeprefix("/") or "home"


def _fill(name: str) -> None:
    # Not `gr.HTML`: it compiles its text to a script in the browser, which the gate's headers forbid.
    gr.Markdown(f'<axons-screen name="{name}"></axons-screen>', sanitize_html=False)
