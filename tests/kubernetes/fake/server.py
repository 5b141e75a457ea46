"""A Kubernetes API server in this process: the verbs of the API over HTTPS, and nothing behind them but memory.

    async with FakeServer(directory) as fake:
        client = await Client.connect(fake.source)

What the rest of a cluster would do is done by the test, through `kubelet`; what goes wrong, through `faults`,
`compact`, `cut`, `finish`, `hush` and `bookmark`.
"""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Self

import yaml
from aiohttp import web

from cluster_agent.runtimes.kubernetes.api.configuration import Source
from tests.kubernetes.fake import admission, merging, statuses
from tests.kubernetes.fake.faults import Faults, refusal
from tests.kubernetes.fake.identity import Identity
from tests.kubernetes.fake.kubelet import Kubelet
from tests.kubernetes.fake.selecting import Selector
from tests.kubernetes.fake.statuses import Refused
from tests.kubernetes.fake.store import Key, Manifest, Store, now
from tests.kubernetes.fake.watching import Stream

KINDS = {
    "pods": "Pod",
    "nodes": "Node",
    "events": "Event",
    "resourcequotas": "ResourceQuota",
    "limitranges": "LimitRange",
}
_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class FakeServer:
    """Listens while it is entered. `token` is the bearer token that it wants."""

    def __init__(self, directory: Path) -> None:
        self.store = Store()
        self.kubelet = Kubelet(self.store)
        self.faults = Faults()
        self.token = "let-me-in"
        self.requests: list[tuple[str, str, dict[str, str]]] = []  # method, path, query
        self.expire_by_event = False  # a watch from too old a version is refused by an event, not by the status
        self.forgetful = False  # tokens for the next page are always too old
        self.identity = Identity(directory)
        self.kubeconfig = directory / "kubeconfig"
        self._streams: set[Stream] = set()
        self._opened = asyncio.Event()
        self._moments: dict[int, list[Manifest]] = {}
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> Self:
        app = web.Application(middlewares=[self._answered], client_max_size=2**22)
        for root in ("/api/v1/namespaces/{namespace}/{plural}", "/api/v1/{plural}"):
            app.router.add_get(root, self._list)
            app.router.add_post(root, self._create)
            app.router.add_get(root + "/{name}", self._get)
            app.router.add_patch(root + "/{name}", self._patch)
            app.router.add_delete(root + "/{name}", self._delete)
            app.router.add_get(root + "/{name}/log", self._log)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self.identity.certificate, self.identity.key)
        await web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=context).start()
        self.port: int = self._runner.addresses[0][1]
        self.kubeconfig.write_text(yaml.safe_dump(self.configuration()))
        return self

    async def __aexit__(self, *_: object) -> None:
        self.cut()
        assert self._runner is not None
        await self._runner.cleanup()

    @property
    def source(self) -> Source:
        return Source(context="fake", kubeconfig=str(self.kubeconfig))

    def configuration(self) -> dict[str, Any]:
        """A kubeconfig for this server."""
        authority = base64.b64encode(self.identity.authority.read_bytes()).decode()
        cluster = {"server": f"https://127.0.0.1:{self.port}", "certificate-authority-data": authority}
        return {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "fake",
            "clusters": [{"name": "fake", "cluster": cluster}],
            "users": [{"name": "tester", "user": {"token": self.token}}],
            "contexts": [{"name": "fake", "context": {"cluster": "fake", "user": "tester", "namespace": "team"}}],
        }

    def put(self, plural: str, manifest: Manifest, namespace: str = "team") -> Manifest:
        """Create or replace an object without asking anybody."""
        key = Key(plural, "" if plural == "nodes" else namespace, manifest["metadata"]["name"])
        manifest = {"apiVersion": "v1", "kind": KINDS[plural], **manifest}
        return self.store.replace(key, manifest) if key in self.store.objects else self.store.create(key, manifest)

    def compact(self) -> None:
        """Forget all history: tokens and versions up to now are too old."""
        self.store.compact()
        self._moments.clear()

    def cut(self) -> None:
        """Break the connections of all watches."""
        for stream in list(self._streams):
            stream.cut()

    def finish(self) -> None:
        """End all watches in good order."""
        for stream in list(self._streams):
            stream.finish()

    def hush(self) -> None:
        """The watches that are open say nothing any more, and stay open."""
        for stream in list(self._streams):
            stream.hush()

    def bookmark(self) -> None:
        """Send a bookmark to all watches."""
        for stream in list(self._streams):
            stream.bookmark(self.store.version)

    async def watched(self) -> None:
        """Wait until a watch is open."""
        while not self._streams:
            self._opened.clear()
            await self._opened.wait()

    @web.middleware
    async def _answered(self, request: web.Request, handler: _Handler) -> web.StreamResponse:
        """Credentials, faults, and refusals as Status objects."""
        self.requests.append((request.method, request.path, dict(request.query)))
        try:
            scheme, _, token = request.headers.get("Authorization", "").partition(" ")
            if (scheme.lower(), token) != ("bearer", self.token):
                raise Refused("Unauthorized", "Unauthorized")
            fault = self.faults.strike(request.method, request.path, "watch" in request.query)
            if fault is None:
                return await handler(request)
            if fault.event:
                return await self._streamed(request, [{"type": "ERROR", "object": refusal(fault).status}])
            if fault.page:
                return web.Response(status=fault.status, text=fault.page, content_type="text/html")
            if fault.status:
                raise refusal(fault)
            if fault.after:
                await handler(request)
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        except Refused as refused:
            headers = {} if refused.retry_after is None else {"Retry-After": str(refused.retry_after)}
            return web.json_response(refused.status, status=refused.code, headers=headers)

    async def _list(self, request: web.Request) -> web.StreamResponse:
        plural, namespace = _kind(request), request.match_info.get("namespace", "")
        selector = Selector(request.query.get("labelSelector", ""), request.query.get("fieldSelector", ""))
        if "watch" in request.query:
            return await self._watch(request, plural, namespace, selector)
        version, start = self.store.version, 0
        if token := request.query.get("continue"):
            version, start = json.loads(base64.b64decode(token))
            if self.forgetful or version not in self._moments:
                raise Refused("Expired", "The provided continue parameter is too old to display a consistent list.")
            found = self._moments[version]
        else:
            found = [manifest for manifest in self.store.within(plural, namespace) if selector.matches(manifest)]
        limit = int(request.query.get("limit", 0)) or len(found)
        meta: dict[str, Any] = {"resourceVersion": str(version)}
        if start + limit < len(found):
            self._moments[version] = found
            meta["continue"] = base64.b64encode(json.dumps([version, start + limit]).encode()).decode()
            meta["remainingItemCount"] = len(found) - start - limit
        items = found[start : start + limit]
        return web.json_response({"apiVersion": "v1", "kind": f"{KINDS[plural]}List", "metadata": meta, "items": items})

    async def _watch(self, request: web.Request, plural: str, namespace: str, selector: Selector) -> web.StreamResponse:
        stream = Stream(plural, namespace, selector)
        try:
            missed = self.store.since(int(request.query["resourceVersion"]))
        except Refused as refused:
            if not self.expire_by_event:
                raise
            return await self._streamed(request, [{"type": "ERROR", "object": refused.status}])
        for change in missed:
            stream.told(change)
        self.store.listeners.add(stream.told)
        self._streams.add(stream)
        self._opened.set()
        try:
            return await stream.serve(request, float(request.query.get("timeoutSeconds", 1800)))
        finally:
            self.store.listeners.discard(stream.told)
            self._streams.discard(stream)

    async def _streamed(self, request: web.Request, events: list[Manifest]) -> web.StreamResponse:
        """A watch that says this, and ends."""
        response = web.StreamResponse()
        await response.prepare(request)
        for event in events:
            await response.write(json.dumps(event).encode() + b"\n")
        return response

    async def _get(self, request: web.Request) -> web.StreamResponse:
        return web.json_response(self.store.get(_key(request)))

    async def _create(self, request: web.Request) -> web.StreamResponse:
        manifest = await request.json()
        plural, namespace = _kind(request), request.match_info.get("namespace", "")
        if manifest.get("kind") != KINDS[plural]:
            raise Refused(
                "BadRequest", f'{manifest.get("kind")} in version "v1" cannot be handled as a {KINDS[plural]}'
            )
        key = Key(plural, namespace, manifest["metadata"]["name"])
        if key in self.store.objects:
            raise statuses.exists(plural, key.name)
        return web.json_response(self._created(key, manifest, request.query.get("fieldManager", "unknown")), status=201)

    def _created(self, key: Key, manifest: Manifest, manager: str) -> Manifest:
        owned = merging.leaves(manifest)
        if key.plural == "pods":
            admission.admit(self.store, manifest, key.namespace)
        created = self.store.create(key, manifest)
        self.store.owners[key] = {path: {manager} for path in owned}
        return created

    async def _patch(self, request: web.Request) -> web.StreamResponse:
        key, type = _key(request), request.content_type
        patch = yaml.safe_load(await request.text())
        if type == "application/apply-patch+yaml":
            manager = request.query.get("fieldManager")
            if not manager:
                raise Refused("BadRequest", "PatchOptions.meta.k8s.io is invalid: fieldManager: Required value")
            if key not in self.store.objects:
                return web.json_response(self._created(key, patch, manager), status=201)
            owners = self.store.owners.setdefault(key, {})
            force = request.query.get("force") == "true"
            changed = merging.apply(self.store.get(key), patch, owners, manager, force=force)
        elif type in ("application/merge-patch+json", "application/strategic-merge-patch+json"):
            changed = merging.merge(self.store.get(key), patch, by_name="strategic" in type)
        else:
            raise Refused("UnsupportedMediaType", f"the body of the request was in an unknown format: {type}")
        return web.json_response(self.store.replace(key, changed))

    async def _delete(self, request: web.Request) -> web.StreamResponse:
        """A pod with a node goes when its kubelet says so, or at once without grace; anything else at once."""
        key = _key(request)
        options = await request.json() if request.can_read_body else {}
        found = self.store.get(key)
        wanted, uid = options.get("preconditions", {}).get("uid"), found["metadata"]["uid"]
        if wanted not in (None, uid):
            why = f"the UID in the precondition ({wanted}) does not match the UID in record ({uid})"
            raise statuses.conflict(KINDS[key.plural], key.name, why)
        grace = options.get("gracePeriodSeconds")
        if key.plural == "pods":
            ended = found["status"]["phase"] in ("Failed", "Succeeded")
            grace = found["spec"]["terminationGracePeriodSeconds"] if grace is None else grace
            if grace and found["spec"].get("nodeName") and not ended:
                leaving = {"deletionTimestamp": now(), "deletionGracePeriodSeconds": grace}
                return web.json_response(self.store.change(key, lambda pod: pod["metadata"].update(leaving)))
            self.kubelet.uncount(key)
        return web.json_response(self.store.delete(key))

    async def _log(self, request: web.Request) -> web.StreamResponse:
        key = _key(request)
        containers = [container["name"] for container in self.store.get(key)["spec"]["containers"]]
        name = request.query.get("container", containers[0])
        if name not in containers:
            raise Refused("BadRequest", f"container {name} is not valid for pod {key.name}")
        text = self.kubelet.logs.get((key.name, name, request.query.get("previous") == "true"))
        if text is None:
            raise Refused(
                "BadRequest", f'container "{name}" in pod "{key.name}" is waiting to start: ContainerCreating'
            )
        lines = text.splitlines(keepends=True)[-int(request.query.get("tailLines", 10**6)) :]
        return web.Response(body="".join(lines).encode()[: int(request.query.get("limitBytes", 2**24))])


def _kind(request: web.Request) -> str:
    plural = request.match_info["plural"]
    if plural not in KINDS:
        raise Refused("NotFound", "the server could not find the requested resource")
    return plural


def _key(request: web.Request) -> Key:
    return Key(_kind(request), request.match_info.get("namespace", ""), request.match_info["name"])
