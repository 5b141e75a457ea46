"""What the agent says to a Kubernetes API server, and how it understands the answers.

`configuration` finds the server and the credentials, `connection` sends a request and says what went wrong, `client`
offers the verbs on the few kinds of `objects`, `watch` keeps a view of a namespace. `reasons` and `quota` are pure:
they turn statuses and limits into what a person or the runtime wants to know. Nothing here knows of steps or workers.
"""
