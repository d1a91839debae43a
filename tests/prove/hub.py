#!/usr/bin/env python3
"""Pulls from a hub that misbehaves, over TLS. `make prove` runs it: honed pulls the starter's file, 94 MiB, from a hub on this
machine that redirects to another host. The connection is cut at every tenth; honed is killed at random moments; the disk
fills up under a download; a certificate is not trusted. Every file that arrives has the right hash, no byte that was on the
disk is fetched again but for what a cut lost in buffers, and the token is seen by the hub alone. Writes docs/evidence/hub.json.

usage: hub.py BINARIES STARTER [KILLS] [SEED]"""
import hashlib
import http.server
import json
import os
import pathlib
import random
import ssl
import subprocess
import sys
import tempfile
import threading
import time

from disk import fill, own_file_system
from prove import World, end, wait

REPO, COMMIT, TOKEN = "quiet/owl", "0123456789abcdef0123456789abcdef01234567", "hf_proof_of_the_hub"
# What a cut may lose: what lay in buffers of both sides.
LOST_MAX = 4 << 20
BLOCK = 1 << 16


class Serving:
    """A hub and the host that it redirects to, each with a port of its own."""

    def __init__(self, content, certificates):
        self.content, self.sha256 = content, hashlib.sha256(content).hexdigest()
        self.lock = threading.Lock()
        self.cut_at, self.pause_s, self.sent, self.leaked, self.tokens, self.ranges = None, 0.0, 0, 0, 0, []
        self.hub, self.store = self.listen(certificates, self.answer_hub), self.listen(certificates, self.answer_store)

    def listen(self, certificates, answer):
        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                try:
                    answer(self)
                except OSError:
                    pass
                self.close_connection = True

            def log_message(self, *_):
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificates / "leaf.pem", certificates / "leaf.key")
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return f"https://localhost:{server.server_port}"

    def reply(self, request, status, headers, body=b""):
        request.send_response(status)
        for name, value in {"Content-Length": len(body), **headers}.items():
            request.send_header(name, str(value))
        request.end_headers()
        request.wfile.write(body)

    def answer_hub(self, request):
        with self.lock:
            self.tokens += request.headers.get("Authorization") == f"Bearer {TOKEN}"
        if request.path.startswith("/api/"):
            lfs = {"sha256": self.sha256, "size": len(self.content)}
            body = {"sha": COMMIT, "siblings": [{"rfilename": "owl.gguf", "lfs": lfs}], "tags": ["license:apache-2.0"]}
            return self.reply(request, 200, {}, json.dumps(body).encode())
        tag = {"X-Repo-Commit": COMMIT, "X-Linked-Etag": f'"{self.sha256}"', "Location": self.store + "/blob"}
        return self.reply(request, 302, tag)

    def answer_store(self, request):
        start = int(request.headers.get("Range", "bytes=0-").removeprefix("bytes=").rstrip("-"))
        with self.lock:
            self.leaked += "Authorization" in request.headers
            self.ranges.append(start)
            stop, self.cut_at = self.cut_at or len(self.content), None
        request.send_response(206)
        request.send_header("Content-Length", str(len(self.content) - start))
        request.send_header("Content-Range", f"bytes {start}-{len(self.content) - 1}/{len(self.content)}")
        request.end_headers()
        for at in range(start, stop, BLOCK):
            block = self.content[at:min(at + BLOCK, stop)]
            request.wfile.write(block)
            with self.lock:
                self.sent += len(block)
            time.sleep(self.pause_s)


def certificates(folder):
    """An authority of this proof, and what it signed for localhost."""
    def openssl(*words):
        subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)
    (folder / "names").write_text("subjectAltName=DNS:localhost\nbasicConstraints=CA:FALSE\n")
    openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "ca.key", "-out", "ca.pem", "-days", "2", "-subj", "/CN=proof")
    openssl("req", "-newkey", "rsa:2048", "-nodes", "-keyout", "leaf.key", "-out", "leaf.csr", "-subj", "/CN=localhost")
    openssl("x509", "-req", "-in", "leaf.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "names", "-out", "leaf.pem")


def pull(world, name):
    source = {"hub": {"hub": "huggingface", "repo": REPO, "revision": "", "file": "", "weights": "as_stored"}}
    return world.connect().ask({"submit": {"spec": {"import_model": {"source": source, "name": name}}}})["record"]["id"]


def state(world, job):
    return world.connect().ask({"job": {"job": job}})["record"]["state"]


def arrived(world, job, serving, name):
    """Waits for the end of a pull that must succeed with the right hash."""
    ended = wait("the pull ends", lambda: (lambda s: s if s != "queued" else None)(state(world, job)), 300)
    if "succeeded" not in ended:
        sys.exit(f"prove: {name} ended as {json.dumps(ended)}")
    model = next(m for m in world.connect().ask("models") if m["record"]["name"] == name)
    found = model["versions"][0]["record"]["file"]["sha256"]
    if found != serving.sha256:
        sys.exit(f"prove: {name} arrived as {found}")
    # The disk is small, and no service has been told of the version.
    for path in (world.state / "models").glob("*.gguf"):
        path.unlink()


def again(serving):
    """Bytes that were sent more than once, counted anew from here on."""
    with serving.lock:
        extra, serving.sent, serving.ranges = serving.sent - len(serving.content), 0, []
    return extra


def cuts(world, serving):
    lost = []
    for tenth in range(1, 10):
        serving.cut_at = len(serving.content) * tenth // 10
        job = pull(world, f"cut-{tenth}")
        arrived(world, job, serving, f"cut-{tenth}")
        lost.append(again(serving))
        if lost[-1] > LOST_MAX:
            sys.exit(f"prove: a cut at {tenth}0 % lost {lost[-1]} bytes")
    return lost


def kills(world, serving, times, chance):
    serving.pause_s = 0.004
    job, done = pull(world, "killed"), 0
    partial = world.state / "jobs" / job / "fetched/hub-owl.gguf.partial"
    size = lambda: partial.stat().st_size if partial.exists() else 0
    while done < times and state(world, job) == "queued":
        least = size() + chance.randint(1, 8) * 2 ** 20
        wait("the download goes on", lambda: size() >= least or state(world, job) != "queued")
        if state(world, job) != "queued":
            break
        world.daemon.kill()
        world.daemon.wait()
        done += 1
        world.start()
    serving.pause_s = 0.0
    arrived(world, job, serving, "killed")
    extra = again(serving)
    if extra > LOST_MAX * max(done, 1):
        sys.exit(f"prove: {done} kills lost {extra} bytes")
    return {"kills": done, "bytes_fetched_again": extra}


def full_disk(world, serving, folder):
    ballast, sentences, honed_ended = folder / "ballast", [], 0
    fill(ballast, 20 << 20)
    job = pull(world, "full")
    failure = wait("a pull without room fails", lambda: state(world, job).get("failed") if state(world, job) != "queued" else None)
    said = lambda failure: failure["message_en"].replace(str(world.state), "STATE").replace(job, "JOB")
    sentences.append(said(failure))
    ballast.unlink()
    if failure["code"] != "disk_full" or serving.ranges:
        sys.exit(f"prove: {failure}, {serving.ranges}")
    serving.pause_s = 0.004
    world.connect().ask({"resume": {"job": job}})
    partial = world.state / "jobs" / job / "fetched/hub-owl.gguf.partial"
    wait("the download goes on", lambda: partial.exists() and partial.stat().st_size > 8 << 20)
    fill(ballast, 0)

    def failed_or_ended():
        if world.daemon.poll() is not None:
            return "ended"
        try:
            now = state(world, job)
        except OSError:
            return None
        return now["failed"] if now != "queued" else None

    failure = wait("the pull fails, or honed ends", failed_or_ended)
    ballast.unlink()
    serving.pause_s = 0.0
    if failure == "ended":
        honed_ended = 1
        world.start()
    elif failure["code"] == "disk_full":
        sentences.append(said(failure))
        world.connect().ask({"resume": {"job": job}})
    else:
        sys.exit(f"prove: failed with {failure}")
    arrived(world, job, serving, "full")
    return {"sentences": sentences, "honed_ended": honed_ended, "bytes_fetched_again": again(serving)}


def not_trusted(binaries, serving, seed, folder):
    os.environ.pop("SSL_CERT_FILE")
    world = World(binaries, seed, folder)
    before = serving.tokens
    job = pull(world, "stranger")
    failure = wait("a pull from a stranger fails", lambda: state(world, job).get("failed") if state(world, job) != "queued" else None)
    if "not safe" not in failure["message_en"] or serving.tokens != before:
        sys.exit(f"prove: {failure}, {serving.tokens - before} tokens")
    world.daemon.terminate()
    world.daemon.wait(90)
    world.log.unlink()
    return failure["message_en"]


def main():
    folder = own_file_system()
    begun, binaries, starter = time.monotonic(), pathlib.Path(sys.argv[1]).resolve(), pathlib.Path(sys.argv[2])
    times, seed = int((sys.argv[3:4] or ["8"])[0]), int((sys.argv[4:5] or [random.randrange(1 << 32)])[0])
    print(f"prove: {times} kills, seed {seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="hone-hub-") as scratch:
        scratch = pathlib.Path(scratch)
        certificates(scratch)
        serving = Serving(starter.read_bytes(), scratch)
        os.environ |= {"HF_ENDPOINT": serving.hub, "HF_TOKEN": TOKEN, "HF_HOME": str(scratch / "cache"),
                       "SSL_CERT_FILE": str(scratch / "ca.pem")}
        world = World(binaries, seed, folder)
        job = pull(world, "plain")
        arrived(world, job, serving, "plain")
        evidence = {"plain_bytes_fetched_again": again(serving), "cut_at_every_tenth_bytes_fetched_again": cuts(world, serving)}
        evidence["kills"] = kills(world, serving, times, random.Random(seed))
        evidence["full_disk"] = full_disk(world, serving, folder)
        kept = b"".join(path.read_bytes() for path in world.state.rglob("*") if path.is_file() and path.suffix != ".gguf")
        if TOKEN.encode() in kept + world.log.read_bytes():
            sys.exit("prove: the token is kept somewhere")
        evidence["certificate_not_trusted"] = not_trusted(binaries, serving, seed, folder)
        evidence |= {"token_to_the_hub": serving.tokens, "token_to_another_host": serving.leaked, "seed": seed}
        if serving.leaked or not serving.tokens:
            sys.exit(f"prove: {evidence}")
        end(world, "hub", begun, evidence)
    subprocess.run(["umount", "--lazy", folder], check=True)
    folder.rmdir()


if __name__ == "__main__":
    main()
