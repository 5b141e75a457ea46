"""Where the API server is, and as whom we speak to it.
 The official client's loaders (`kubernetes.aio.config`) know every way of a kubeconfig: merged files, contexts,
tokens, certificates, credential plugins. What they find becomes an `Access`: an address, a TLS context and the value
of the Authorization header. They are imported when they are needed, in a thread, because that takes half a second and
20 MB, which an agent without Kubernetes shall not pay; the client's models and APIs, which take far more, never are.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from cluster_agent.runtimes.kubernetes.api.errors import ConfigurationError, one_line

SERVICE_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")


@dataclass(frozen=True, slots=True)
class Source:
    """Where to look: a kubeconfig and a context of it, where nothing is named what kubectl would take.

    Without a kubeconfig it is the service account of the pod that we run in.
    """

    context: str = ""
    kubeconfig: str = ""
    service_account: Path = SERVICE_ACCOUNT

    @property
    def files(self) -> str:
        """The kubeconfig files, separated as in the variable KUBECONFIG."""
        return self.kubeconfig or os.environ.get("KUBECONFIG") or str(Path.home() / ".kube" / "config")

    def __str__(self) -> str:
        named = f"context {self.context!r}" if self.context else "the current context"
        return f"{named} of kubeconfig {self.files}"


async def _nobody() -> str:
    return ""


@dataclass(frozen=True, slots=True)
class Access:
    """All that a connection needs. `authorization` gives the header anew each time: a pod's token changes."""

    server: str
    namespace: str = "default"
    tls: ssl.SSLContext | None = None
    server_name: str = ""
    proxy: str = ""
    authorization: Callable[[], Awaitable[str]] = _nobody
    anonymous: bool = False
    source: str = ""


async def load(source: Source) -> Access:
    """The access found at `source`; ConfigurationError says what is missing."""
    await asyncio.to_thread(_import)
    if _in_cluster(source):
        return await asyncio.to_thread(_of_pod, source)
    return await _of_kubeconfig(source)


def _import() -> None:
    import kubernetes.aio.config  # noqa: F401


def _in_cluster(source: Source) -> bool:
    if source.context or source.kubeconfig or _existing(source.files):
        return False
    return bool(os.environ.get("KUBERNETES_SERVICE_HOST"))


def _existing(files: str) -> list[str]:
    return [file for file in files.split(os.pathsep) if file and Path(file).expanduser().is_file()]


async def _of_kubeconfig(source: Source) -> Access:
    from kubernetes.aio.client.configuration import Configuration
    from kubernetes.aio.config import kube_config

    if not _existing(source.files):
        raise ConfigurationError(
            f"there is no kubeconfig at {source.files}: name one (KUBECONFIG), or run in a pod with a service account"
        )
    found = Configuration()
    try:
        loader = await kube_config.load_kube_config(
            config_file=source.files,
            context=source.context or None,
            client_configuration=found,
            persist_config=False,
        )
        namespace = loader.current_context["context"].get("namespace") or "default"
        tls = _tls(found)
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(f"can't read a certificate or key of {source}: {one_line(str(error))}") from error
    except Exception as error:  # the loaders raise whatever their parsers happen to
        raise ConfigurationError(f"can't use {source}: {one_line(str(error))}") from error
    finally:
        # The loader puts keys that stand in a kubeconfig into files, which only OpenSSL needs, and it has read them.
        kube_config._cleanup_temp_files()
    return Access(
        server=found.host,
        namespace=namespace,
        tls=tls,
        server_name=found.tls_server_name or "",
        proxy=found.proxy or "",
        authorization=_header(found),
        anonymous=not found.cert_file and not await _header(found)(),
        source=str(source),
    )


def _of_pod(source: Source) -> Access:
    from kubernetes.aio.client.configuration import Configuration
    from kubernetes.aio.config.config_exception import ConfigException
    from kubernetes.aio.config.incluster_config import InClusterConfigLoader

    place = source.service_account
    found = Configuration()
    try:
        InClusterConfigLoader(
            token_filename=str(place / "token"), cert_filename=str(place / "ca.crt"), environ=os.environ
        ).load_and_set(found)
        namespace = place / "namespace"
        return Access(
            server=found.host,
            namespace=namespace.read_text().strip() if namespace.is_file() else "default",
            tls=_tls(found),
            authorization=_header(found),
            source=f"the service account at {place}",
        )
    except (ConfigException, OSError, ssl.SSLError) as error:
        raise ConfigurationError(f"can't use the service account at {place}: {one_line(str(error))}") from error


def _tls(found: Any) -> ssl.SSLContext | None:
    if not found.host.startswith("https"):
        return None
    context = ssl.create_default_context(cafile=found.ssl_ca_cert or None)
    # Many clusters' authorities lack the extensions that strict checking, Python 3.13's default, asks for.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if not found.verify_ssl:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if found.cert_file:
        context.load_cert_chain(found.cert_file, found.key_file or None)
    return context


def _header(found: Any) -> Callable[[], Awaitable[str]]:
    """The loaders read a pod's token again when it is asked for."""

    async def authorization() -> str:
        return one_line(await found.get_api_key_with_prefix("BearerToken") or "")

    return authorization
