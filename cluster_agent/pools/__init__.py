"""How many warm workers of each step version this cluster keeps."""
