"""What is on each screen. Gradio gives the frame; `static/screens.js` fills it from REST, so no event runs here."""

import gradio as gr
from gradio.components import Navbar


def build_screens() -> gr.Blocks:
    """The pages `/` (projects and their tiles) and `/annotate?tile=…` (the annotator in a frame)."""
    with gr.Blocks(title="Axons", analytics_enabled=False, fill_width=True) as screens:
        _page("axons-home")
    with screens.route("Annotate", "/annotate", show_in_navbar=False):
        _page("axons-frame")
    return screens


def _page(element: str) -> None:
    Navbar(main_page_name="Projects")
    # Not `gr.HTML`: it compiles its text to a script in the browser, which the gate's headers forbid.
    gr.Markdown(f"<{element}></{element}>", sanitize_html=False)
