"""What people can do: functions of a session, the actor and values; REST and screens both call them.

A service derives what the actor may do from the database, never from what came with the request, and writes its audit
row in the same transaction. Rows are passed on; what crosses the API is made of them in `axons.app.rest`.
"""
