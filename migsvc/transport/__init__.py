"""How streams and conversations travel: blocking sockets for threads, and runs of pages picked by numpy."""
