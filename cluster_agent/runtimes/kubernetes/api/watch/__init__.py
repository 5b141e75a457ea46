"""A view of the objects of one kind that stays right whatever happens to connections and servers.

`core` decides, without a socket or a clock; `driver` does what it says.
"""
