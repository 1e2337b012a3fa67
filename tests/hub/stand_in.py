"""A stand-in of the Hub: the part of its HTTP interface that ``huggingface_hub`` calls, on this machine."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

#: Whoever has it may do everything.
TOKEN = "hf_of_the_owner"
#: Files that end so are stored by their SHA-256, and uploaded before the commit.
LARGE = ".safetensors"


@dataclass
class Repository:
    """Files by name at each commit, the newest last."""

    private: bool
    gated: bool = False
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)

    @property
    def newest(self) -> str:
        return [*self.commits][-1]

    def commit(self, files: dict[str, bytes]) -> str:
        state = repr((len(self.commits), sorted(files.items()))).encode()
        name = hashlib.sha1(state).hexdigest()
        self.commits[name] = files
        return name


class StandIn:
    """The server; what tests look at and change."""

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.large: dict[str, bytes] = {}  # by SHA-256
        self.requests: list[str] = []
        self.break_uploads = 0  # so many uploads of large files are cut off
        self.fail_with: int | None = None  # a status for all requests
        self.server = _Server(self)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.elsewhere = self.url.replace(
            "127.0.0.1", "localhost"
        )  # another host, as large files have
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def count(self, pattern: str) -> int:
        """How many requests, as "METHOD /path", match a pattern."""
        return sum(re.search(pattern, each) is not None for each in self.requests)


def _git_oid(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _described(name: str, content: bytes) -> dict[str, Any]:
    found: dict[str, Any] = {
        "type": "file", "path": name, "size": len(content), "oid": _git_oid(content),
    }  # fmt: skip
    if name.endswith(LARGE):
        sha = hashlib.sha256(content).hexdigest()
        found["lfs"] = {"oid": sha, "size": len(content), "pointerSize": 134}
    return found


class _Server(ThreadingHTTPServer):
    def __init__(self, hub: StandIn) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.hub = hub


class Handler(BaseHTTPRequestHandler):
    """Answers requests; see :data:`ROUTES`."""

    protocol_version = "HTTP/1.1"

    @property
    def hub(self) -> StandIn:
        assert isinstance(self.server, _Server)
        return self.server.hub

    def log_message(self, *_: Any) -> None:
        pass

    def answer(self, status: int, body: Any = b"", headers: dict[str, str] | None = None) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def refuse(self, status: int, code: str) -> None:
        self.answer(status, {"error": code}, {"X-Error-Code": code, "X-Error-Message": code})

    @property
    def known(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def handle_request(self) -> None:
        path = unquote(urlsplit(self.path).path)
        size = int(self.headers.get("Content-Length") or 0)
        body = self.chunks() if "Transfer-Encoding" in self.headers else self.rfile.read(size)
        self.hub.requests.append(f"{self.command} {path}")
        if self.hub.fail_with is not None:
            self.answer(self.hub.fail_with, {"error": "out of order"})
            return
        for pattern, action in ROUTES:
            found = re.fullmatch(pattern, f"{self.command} {path}")
            if found:
                action(self, body, **found.groupdict())
                return
        self.refuse(404, "EntryNotFound")

    do_GET = do_HEAD = do_POST = do_PUT = handle_request  # noqa: N815 - as the base class wants

    def chunks(self) -> bytes:
        found = b""
        while size := int(self.rfile.readline(), 16):
            found += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return found

    def create(self, body: bytes) -> None:
        value = json.loads(body)
        name = f"{value['organization']}/{value['name']}"
        if not self.known:
            self.answer(401, {"error": "Invalid username or password."})
        elif name in self.hub.repositories:
            self.answer(409, {"error": "You already created it", "url": f"{self.hub.url}/{name}"})
        else:
            private = value.get("visibility") == "private" or bool(value.get("private"))
            self.hub.repositories[name] = Repository(private)
            self.hub.repositories[name].commit({".gitattributes": b"*.safetensors filter=lfs\n"})
            self.answer(200, {"url": f"{self.hub.url}/{name}"})

    def found(self, name: str, revision: str) -> tuple[Repository, str] | None:
        """A repository and the commit that is asked for; else the refusal was sent."""
        repository = self.hub.repositories.get(name)
        if repository is None or (repository.private and not self.known):
            self.refuse(404 if self.known else 401, "RepoNotFound")
            return None
        commit = repository.newest if revision == "main" else revision
        if commit not in repository.commits:
            self.refuse(404, "RevisionNotFound")
            return None
        return repository, commit

    def info(self, body: bytes, name: str, revision: str | None = None) -> None:
        found = self.found(name, revision or "main")
        if found is not None:
            repository, commit = found
            files = [{"rfilename": each} for each in repository.commits[commit]]
            self.answer(
                200,
                {"id": name, "sha": commit, "private": repository.private, "siblings": files},
            )

    def tree(self, body: bytes, name: str, revision: str) -> None:
        found = self.found(name, revision)
        if found is not None:
            files = found[0].commits[found[1]]
            self.answer(200, [_described(*each) for each in files.items()])

    def resolve(self, body: bytes, name: str, revision: str, file: str) -> None:
        found = self.found(name, revision)
        if found is None:
            return
        repository, commit = found
        if repository.gated and not self.known:
            self.refuse(403, "GatedRepo")
            return
        if file not in repository.commits[commit]:
            self.refuse(404, "EntryNotFound")
            return
        content = repository.commits[commit][file]
        described = _described(file, content)
        headers = {"X-Repo-Commit": commit, "ETag": f'"{described["oid"]}"'}
        if file.endswith(LARGE):  # these lie elsewhere
            sha = described["lfs"]["oid"]
            self.hub.large.setdefault(sha, content)
            headers["X-Linked-Etag"] = f'"{sha}"'
            headers["X-Linked-Size"] = str(len(content))
            headers["Location"] = f"{self.hub.elsewhere}/large/{sha}"
            self.answer(302, b"", headers)
        else:
            self.answer(200, content, headers)

    def get_large(self, body: bytes, sha: str) -> None:
        self.answer(200, self.hub.large[sha], {"ETag": f'"{sha}"'})

    def put_large(self, body: bytes, sha: str) -> None:
        if self.hub.break_uploads:
            self.hub.break_uploads -= 1
            self.answer(403, {"error": "the connection was lost"})
            return
        assert hashlib.sha256(body).hexdigest() == sha
        self.hub.large[sha] = body
        self.answer(200)

    def batch(self, body: bytes, name: str) -> None:
        if not self.known:
            self.answer(401)
            return
        objects = []
        for each in json.loads(body)["objects"]:
            if each["oid"] not in self.hub.large:
                each["actions"] = {"upload": {"href": f"{self.hub.url}/large/{each['oid']}"}}
            objects.append(each)
        self.answer(200, {"transfer": "basic", "objects": objects})

    def preupload(self, body: bytes, name: str, revision: str) -> None:
        found = self.found(name, revision)
        if found is None:
            return
        there = found[0].commits[found[1]]
        files = []
        for each in json.loads(body)["files"]:
            path = each["path"]
            mode = "lfs" if path.endswith(LARGE) else "regular"
            oid = None
            if path in there:
                described = _described(path, there[path])
                oid = described.get("lfs", described)["oid"]
            files.append({"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": oid})
        self.answer(200, {"files": files})

    def commit(self, body: bytes, name: str, revision: str) -> None:
        found = self.found(name, revision)
        if found is None:
            return
        if not self.known:
            self.answer(403, {"error": "You don't have write access"})
            return
        files = dict(found[0].commits[found[1]])
        for line in body.splitlines():
            value = json.loads(line)["value"]
            match json.loads(line)["key"]:
                case "file":
                    files[value["path"]] = base64.b64decode(value["content"])
                case "lfsFile":
                    files[value["path"]] = self.hub.large[value["oid"]]
                case "deletedFile":
                    del files[value["path"]]
        new = found[0].commit(files)
        self.answer(200, {"commitUrl": f"{self.hub.url}/{name}/commit/{new}", "commitOid": new})

    def validate(self, body: bytes) -> None:
        head = json.loads(body)["content"].split("---\n")
        assert head[0] == ""
        self.answer(200, {"warnings": [], "errors": []})


_NAME = r"(?P<name>[^/]+/[^/]+)"
ROUTES = (
    ("POST /api/repos/create", Handler.create),
    ("POST /api/validate-yaml", Handler.validate),
    (f"GET /api/models/{_NAME}", Handler.info),
    (f"GET /api/models/{_NAME}/revision/(?P<revision>[^/]+)", Handler.info),
    (f"GET /api/models/{_NAME}/tree/(?P<revision>[^/]+)/?", Handler.tree),
    (f"POST /api/models/{_NAME}/preupload/(?P<revision>[^/]+)", Handler.preupload),
    (f"POST /api/models/{_NAME}/commit/(?P<revision>[^/]+)", Handler.commit),
    (f"POST /{_NAME}.git/info/lfs/objects/batch", Handler.batch),
    ("PUT /large/(?P<sha>[0-9a-f]+)", Handler.put_large),
    ("(GET|HEAD) /large/(?P<sha>[0-9a-f]+)", Handler.get_large),
    (f"(GET|HEAD) /{_NAME}/resolve/(?P<revision>[^/]+)/(?P<file>[^/]+)", Handler.resolve),
)
