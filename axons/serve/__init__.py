"""Using a trained model: on arrays, as a Serve application, on images of any size."""
