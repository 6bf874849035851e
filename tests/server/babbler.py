"""A worker that talks nonsense; it ends when nobody listens any more."""

import socket
import sys

if __name__ == "__main__":
    connection = socket.socket(fileno=int(sys.argv[1]))
    connection.sendall(b"\xff" * 100)
    while connection.recv(1000):
        pass
