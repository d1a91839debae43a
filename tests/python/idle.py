"""Holds many connections that say nothing, one that sends a byte a second, and one that asks for a long stream and never
reads: `idle.py HOST:PORT COUNT`, the key in HONE_KEY. Prints `held` when all are open, then waits until its stdin
closes; then prints how the slow one ended."""
import json
import os
import resource
import socket
import sys
import threading

soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
host, port = sys.argv[1].rsplit(":", 1)
count = int(sys.argv[2])


def connect():
    return socket.create_connection((host, int(port)), timeout=60)


idle = [connect() for _ in range(count)]
deaf = socket.socket()
# A small window, so that the answer does not disappear into buffers.
deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
deaf.connect((host, int(port)))
# Never ends by itself, and every token brings its 20 likeliest: far more than all buffers on the way hold.
body = json.dumps({"model": "base", "stream": True, "max_tokens": 1900, "logit_bias": {"0": -100, "1": -100, "2": -100}, "logprobs": True,
                   "top_logprobs": 20, "messages": [{"role": "user", "content": "Tell a story."}]})
deaf.sendall((f"POST /v1/chat/completions HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {os.environ['HONE_KEY']}\r\n"
              f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}").encode())
slow, over = connect(), threading.Event()
ended = []


def drip():
    for letter in b"GET /v1/models HTTP/1.1\r\nX-Slow: " + b"a" * 600:
        try:
            slow.sendall(bytes([letter]))
        except OSError:
            break
        if over.wait(1):
            return
    ended.append(True)


dripping = threading.Thread(target=drip)
dripping.start()
print("held", flush=True)
sys.stdin.read()
# The endpoint gives headers ten seconds; what is dripped after that is refused.
dripping.join(60)
over.set()
print("ended" if ended else "still open", flush=True)
