"""The peer of screens.py: a page of plain Gradio that lists projects and can add one."""

import sys
from collections.abc import Sequence

import gradio as gr


def serve(port: int, projects: Sequence[str]) -> None:
    """Until killed, as Gradio's own examples do."""
    rows = [[project, "yours"] for project in projects]
    with gr.Blocks(title="Projects", analytics_enabled=False) as page:
        gr.Markdown("# My projects")
        search = gr.Textbox(label="Search by name")
        table = gr.Dataframe(rows, headers=["Name", "Whose"])
        search.change(lambda text: [row for row in rows if text in row[0]], search, table)
        gr.Button("New project", variant="primary").click(lambda: [*rows, ["new", "yours"]], outputs=table)
    page.launch(server_name="127.0.0.1", server_port=port, quiet=True)


if __name__ == "__main__":
    serve(int(sys.argv[1]), sys.argv[2:])
