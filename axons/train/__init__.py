"""Training and evaluation of one run: `python -m axons.train RUN_URI`."""
