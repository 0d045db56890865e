"""The peer of serve.py: one model behind LitServe, PNG in and palette PNG out."""

import sys

import litserve
import numpy as np
import torch
from fastapi import Request, Response
from PIL import Image

from axons.data.pictures import encode_mask
from axons.serve.predictor import load_predictor, segment


class Api(litserve.LitAPI):
    """What LitServe's own examples do: decode, predict, encode, in one worker."""

    def __init__(self, model_uri: str) -> None:
        super().__init__()
        self._model_uri = model_uri

    def setup(self, device: str) -> None:
        """Load the model."""
        self._predictor = load_predictor(self._model_uri, device=torch.device(device))

    def decode_request(self, request: Request) -> np.ndarray:
        """The pixels of the file in the form, which LitServe hands on in place of the request."""
        return np.asarray(Image.open(request["data"].file))

    def predict(self, image: np.ndarray) -> np.ndarray:
        """The mask."""
        return segment(image, self._predictor).mask

    def encode_response(self, mask: np.ndarray) -> Response:
        """The mask as a file."""
        colours = [found.colour for found in self._predictor.card.classes]
        return Response(encode_mask(mask, colours), media_type="image/png")


if __name__ == "__main__":
    server = litserve.LitServer(Api(sys.argv[1]), accelerator="cpu", timeout=120)
    server.run(host="127.0.0.1", port=int(sys.argv[2]), log_level="warning", generate_client_file=False)
