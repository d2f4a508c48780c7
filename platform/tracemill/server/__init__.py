"""The server: the API of every provider over one client, one log, one set of keys.

`app.create` makes the ASGI application; a dialect is a module with `ROUTES`.
"""
