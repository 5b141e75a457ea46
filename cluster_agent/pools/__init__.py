"""How many warm workers of each step version this cluster keeps, who gets them, and what is cleared away after them."""
