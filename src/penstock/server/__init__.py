"""HTTP/1.1 on a socket: requests in, under limits that hold before anything is parsed; responses out, at the caller's pace.

Nothing here knows what a request means. ``server`` opens the sockets and drains them; everything between a socket and
an ``Exchange`` is in this package.
"""
