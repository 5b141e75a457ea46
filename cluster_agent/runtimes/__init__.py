"""How workers are started and stopped, one package for each runtime."""
