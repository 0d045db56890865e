"""The screens: pages that Gradio draws, with our own elements in them."""
