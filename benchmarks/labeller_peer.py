"""The peer of annotator.py: Django Labeller's own Flask application on a folder of PNG with their labels."""

import sys
from collections.abc import Sequence
from pathlib import Path

from image_labelling_tool.flask_labeller import flask_labeller
from image_labelling_tool.labelled_image import LabelledImage
from image_labelling_tool.labelling_schema import ColourScheme, LabelClass, LabelClassGroup, LabellingSchema

_COLOURS = [(230, 159, 0), (86, 180, 233), (0, 158, 115)]


def serve(folder: Path, port: int, classes: Sequence[str]) -> None:
    """Until killed, as the example of its documentation does."""
    images = LabelledImage.for_image_files(sorted(folder.glob("*.png"), key=lambda file: int(file.stem)))
    group = LabelClassGroup("All", [LabelClass(name, name, _COLOURS[i]) for i, name in enumerate(classes)])
    schema = LabellingSchema("Nerve", "", [ColourScheme("default", "Default")], [group])
    flask_labeller(images, schema, debug=False, use_reloader=False, port=port)


if __name__ == "__main__":
    serve(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
