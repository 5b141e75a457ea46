"""What a workflow says about its own flow: conditions, loops, and workflows used as steps.

All of it is decided when a run is submitted, since it rests on parameters alone: `unfold` makes of a workflow the plain
one, without any of these, that is planned and executed. Pure.
"""
