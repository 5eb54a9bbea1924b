"""Receives trace datagrams at the path that it is given, parses each and counts
them: the receiver that most people write first. On SIGTERM it empties the
socket and says how many there were."""
import json
import signal
import socket
import struct
import sys


def main():
    stopping = []
    signal.signal(signal.SIGTERM, lambda *_: stopping.append(True))
    s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    # recvfrom gives up after 0.1 s of silence; the socket is empty then.
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("@ll", 0, 100000))
    s.bind(sys.argv[1])
    received = invalid = 0
    while True:
        try:
            datagram, _ = s.recvfrom(2048)
        except BlockingIOError:
            if stopping:
                break
            continue
        received += 1
        try:
            json.loads(datagram)
        except ValueError:  # lightningd escapes nothing, and cuts what is long
            invalid += 1
    print(json.dumps({"received": received, "invalid": invalid}))


main()
