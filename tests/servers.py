"""A little OpenAI-compatible server for tests."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

DROP = object()  # an answer that never comes: the line is dropped


@contextmanager
def chat_server(answer):
    """A server of chat completions on a free port. `answer(asked)` gives the list of choices, each (text, its tokens,
    finish reason), or a status, or a whole body, or DROP. Yields its address and the list of the requests it got."""
    got: list[dict] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            got.append(asked | {"path": self.path})
            found = answer(asked)
            if found is DROP:
                self.close_connection = True
                return
            status = found if isinstance(found, int) else 200
            body = {} if isinstance(found, int) else found if isinstance(found, dict) else completion(asked, found)
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1", got
    finally:
        server.shutdown()
        server.server_close()


def answers(asked):
    """Right ones to "3+1=?"; that to 5 is cut off."""
    number = int(asked["messages"][0]["content"].partition("+")[0])
    return [(f"<think>{asked['seed']}</think>\\boxed{{{number + 1}}}", 7, "length" if number == 5 else "stop")]


def completion(asked, choices):
    """The body of an answer with these choices."""
    return {
        "id": "1", "object": "chat.completion", "created": 0, "model": asked["model"],
        "choices": [
            {"index": i, "finish_reason": reason, "message": {"role": "assistant", "content": text}}
            for i, (text, _, reason) in enumerate(choices)
        ],
        "usage": {
            "prompt_tokens": 1, "completion_tokens": sum(n for _, n, _ in choices),
            "total_tokens": 1 + sum(n for _, n, _ in choices),
        },
    }  # fmt: skip


def hurry(monkeypatch):
    """The client waits hundredths of a second before it tries again."""
    monkeypatch.setattr("openai._base_client.INITIAL_RETRY_DELAY", 0.01)
    monkeypatch.setattr("openai._base_client.MAX_RETRY_DELAY", 0.02)
