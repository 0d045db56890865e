"""Networks, model files, and prediction by windows: what training and serving share."""
