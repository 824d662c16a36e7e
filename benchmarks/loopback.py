"""The physical limit beside a migration: the same bytes over one loopback TCP connection into fresh memory."""

from __future__ import annotations

import mmap
import multiprocessing
import os
import socket
import time
from multiprocessing.connection import Connection

CHUNK_BYTES = 1 << 20


def fresh_memory(size_bytes: int) -> mmap.mmap:
    """Return untouched shared memory of the kind guest RAM is made of: a memfd mapping."""
    fd = os.memfd_create("loopback")
    try:
        os.ftruncate(fd, size_bytes)
        return mmap.mmap(fd, size_bytes)
    finally:
        os.close(fd)


def _receive(size_bytes: int, pipe: Connection) -> None:
    """Child process: accept one connection and read `size_bytes` into fresh memory."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        pipe.send(server.getsockname())
        connection, _ = server.accept()
        with connection:
            view = memoryview(fresh_memory(size_bytes))
            received = 0
            while received < size_bytes:
                count = connection.recv_into(view[received : received + CHUNK_BYTES])
                if count == 0:
                    break
                received += count
            connection.sendall(b"k")


def copy_seconds(content: memoryview) -> float:
    """Send `content` to another process over loopback TCP; return seconds from connect to its acknowledgement."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    child = context.Process(target=_receive, args=(len(content), theirs))
    child.start()
    try:
        address = ours.recv()
        begin = time.perf_counter()
        with socket.create_connection(address) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for start in range(0, len(content), CHUNK_BYTES):
                connection.sendall(content[start : start + CHUNK_BYTES])
            connection.recv(1)
        return time.perf_counter() - begin
    finally:
        child.join()
