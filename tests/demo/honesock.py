"""A client of hone's socket in plain Python: one JSON document a line. Used by the demo and the proofs; short enough
to read before writing your own."""
import json
import os
import socket


class Failure(Exception):
    def __init__(self, failure):
        super().__init__(f"{failure['code']}: {failure['message_en']}" + (f" ({failure['place']})" if failure["place"] else ""))
        self.code = failure["code"]


class Hone:
    def __init__(self, state_dir):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(os.path.join(state_dir, "run", "hone.sock"))
        self.lines = self.socket.makefile("r", encoding="utf-8")
        self.next = 1

    def ask(self, request, on_part=None, once=None):
        """Asks, gives parts of a longer answer to on_part, and returns the answer."""
        number, self.next = self.next, self.next + 1
        line = json.dumps({"ask": {"id": number, "once": once, "request": request}})
        self.socket.sendall(line.encode() + b"\n")
        for line in self.lines:
            message = json.loads(line)
            if "part" in message and message["part"]["id"] == number and on_part:
                on_part(message["part"]["part"])
            if "answer" in message and message["answer"]["id"] in (number, 0):
                answer = message["answer"]["answer"]
                if "Err" in answer:
                    raise Failure(answer["Err"])
                # {"models": [...]} or just "done": the name of the answer is known to who asked.
                answer = answer["Ok"]
                return next(iter(answer.values())) if isinstance(answer, dict) else answer
        raise ConnectionError("honed closed the connection")

    def job(self, spec, on_event=None):
        """Submits a job, follows its events from 0 to its end, and returns the finished job."""
        job = self.ask({"submit": {"spec": spec}})["record"]["id"]
        done = self.ask({"follow": {"job": job, "from_seq": 0}}, on_part=lambda part: on_event and on_event(part["job"]))
        state = done["record"]["state"]
        if isinstance(state, dict) and "succeeded" in state:
            return done
        raise RuntimeError(f"job {job} did not succeed: {state}")

    def close(self):
        self.socket.close()
