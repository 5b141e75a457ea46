"""Step and workflow models, parameters and the shapes of units. Pure."""
