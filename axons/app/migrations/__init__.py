"""How the tables of one release become those of the next; `axons.app.migrate` runs it."""
