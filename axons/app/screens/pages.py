"""What screens there are: Gradio gives the page, the element `axons-screen` fills it from REST; no event runs here."""

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


def build_screens() -> gr.Blocks:
    """The pages `/` (my projects) and `SCREENS`; what each shows depends on its address's query alone."""
    with gr.Blocks(title="Axons", analytics_enabled=False, fill_width=True) as screens:
        _fill("home")
    for path, title in SCREENS.items():
        with screens.route(title, path, show_in_navbar=False):
            _fill(path.removeprefix("/"))
    return screens


def head() -> str:
    """What goes into each page's head. Gradio drops `type="module"`, so the script calls for the module."""
    return f'<script>import("/static/{bundle("screens").version}/screens/shell.js")</script>'


def _fill(name: str) -> None:
    # Not `gr.HTML`: it compiles its text to a script in the browser, which the gate's headers forbid.
    gr.Markdown(f'<axons-screen name="{name}"></axons-screen>', sanitize_html=False)
