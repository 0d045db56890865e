"""Storage, images, tiles, labels and training sets: everything before a network."""
