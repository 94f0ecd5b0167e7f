"""A hub of our own: so much of huggingface.co's HTTP as publishing and fetching take."""

import base64
import hashlib
import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@contextmanager
def serving(repositories: dict[str, dict[str, bytes]]):
    """The address of a hub with these files by repository; what is published joins them."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *arguments) -> None:
            pass

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            repo, _, place = self.path.removeprefix("/").partition("/resolve/")
            revision, _, name = place.partition("/")
            file = repositories.get(repo, {}).get(name)
            if file is None or revision not in ("main", "v1"):
                found = repo in repositories
                code = "EntryNotFound" if found else "RepoNotFound"
                return self.answer(b"", 404, {"X-Error-Code": code, "X-Error-Message": code})
            digest = hashlib.sha256(file).hexdigest()
            return self.answer(file, 200, {"ETag": f'"{digest}"', "X-Repo-Commit": COMMIT})

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.path == "/api/repos/create":
                asked = json.loads(body)
                name = "/".join(filter(None, (asked.get("organization"), asked["name"])))
                repositories.setdefault(name, {})
                return self.say({"url": f"http://{self.headers['Host']}/{name}"})
            if self.path == "/api/validate-yaml":
                return self.say({"errors": [], "warnings": []})
            repo, verb, _ = self.path.removeprefix("/api/models/").rsplit("/", 2)
            if verb == "preupload":
                names = [each["path"] for each in json.loads(body)["files"]]
                kept = {"uploadMode": "regular", "shouldIgnore": False}
                return self.say({"files": [{"path": name, **kept} for name in names]})
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    file = base64.b64decode(line["value"]["content"])
                    repositories[repo][line["value"]["path"]] = file
            url = f"http://{self.headers['Host']}/{repo}/commit/{COMMIT}"
            return self.say({"commitUrl": url, "commitOid": COMMIT})

        def say(self, answer: dict) -> None:
            self.answer(json.dumps(answer).encode(), 200, {"Content-Type": "application/json"})

        def answer(self, body: bytes, status: int, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
