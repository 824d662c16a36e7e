"""One repository per kind of row."""
