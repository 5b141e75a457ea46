"""The topology model and its questions: distance, reachability, transfer time and cost. Pure."""
