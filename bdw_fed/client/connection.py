"""Which hub to speak to, and as whom: the profile, and where it is looked for.

A profile is the hub's address and a directory with credentials: cert.pem, key.pem and ca.pem, or for who logs in
with a token of an issuer ca.pem and a file `token`. It comes from, in order: the state directory named by the caller;
`BDW_FED_HUB` and `BDW_FED_CREDENTIALS`; the `profile.json` that `bdw-fed up` wrote into the default state directory
(`BDW_FED_STATE`, else `~/.local/state/bdw-fed`). `BDW_FED_TOKEN` is a token that goes before whatever is in files.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bdw_fed.client.errors import NoProfile
from wire.identity.credentials import Credentials

if TYPE_CHECKING:  # it takes time to import, and only downloads need it
    import ssl

PROFILE_FILE = "profile.json"
TOKEN_FILE = "token"  # noqa: S105 - its name
TOKEN = "BDW_FED_TOKEN"  # noqa: S105 - the variable
DEFAULT_NAMESPACE = "default"


@dataclass(frozen=True)
class Profile:
    """How to reach a hub, or an agent. `data_root`: its datasets' directory, where it runs on this machine."""

    hub: str
    credentials: Path
    namespace: str = DEFAULT_NAMESPACE
    data_root: Path | None = None
    agent: str = ""  # the cluster whose agent is spoken to instead of the hub, at that address

    def load_credentials(self) -> Credentials:
        """The files in `credentials`. NoProfile names what is missing."""
        try:
            return Credentials.load(self.credentials)
        except FileNotFoundError as error:
            raise NoProfile(str(error)) from error

    def token(self) -> str:
        """The token to log in with, as it is now; empty for who has a certificate."""
        if told := os.environ.get(TOKEN):
            return told.strip()
        file = self.credentials / TOKEN_FILE
        if (self.credentials / "cert.pem").exists() or not file.exists():
            return ""
        return file.read_text().strip()

    def authority(self) -> Path:
        """The certificate of the federation's authority. NoProfile if it is missing."""
        path = Credentials.at(self.credentials).ca
        if not path.is_file():
            raise NoProfile(f"{path}: no such file; it says whom to believe to be the hub")
        return path

    def tls_context(self) -> ssl.SSLContext:
        """For connections to the nodes' data servers: with the certificate, if there is one."""
        from wire.identity.credentials import ssl_client_context

        if not self.token():
            return ssl_client_context(self.load_credentials())
        import ssl

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.load_verify_locations(self.authority())
        return context

    def write(self, state: Path) -> None:
        """Put it into `state` as profile.json, whole or not at all."""
        content = {
            "hub": self.hub,
            "credentials": os.path.relpath(self.credentials, state),
            "namespace": self.namespace,
        }
        if self.data_root is not None:
            content["data_root"] = str(self.data_root)
        fresh = state / f".{PROFILE_FILE}.{os.getpid()}"
        fresh.write_text(json.dumps(content, indent=2) + "\n")
        fresh.replace(state / PROFILE_FILE)


def default_state() -> Path:
    """The state directory when none is named: BDW_FED_STATE, else ~/.local/state/bdw-fed."""
    named = os.environ.get("BDW_FED_STATE")
    if named:
        return Path(named)
    base = os.environ.get("XDG_STATE_HOME")
    return (Path(base) if base else Path.home() / ".local" / "state") / "bdw-fed"


def read_profile(state: Path) -> Profile:
    """The profile that `bdw-fed up` wrote into `state`. NoProfile if there is none."""
    path = state / PROFILE_FILE
    try:
        content: dict[str, Any] = json.loads(path.read_text())
        data_root = content.get("data_root")
        return Profile(
            hub=content["hub"],
            credentials=state / content["credentials"],
            namespace=content.get("namespace", DEFAULT_NAMESPACE),
            data_root=Path(data_root) if data_root else None,
        )
    except FileNotFoundError as error:
        raise NoProfile(
            f"no federation is known: {path} does not exist. Start one with 'bdw-fed up', name its state with "
            "--state DIR, or set BDW_FED_HUB and BDW_FED_CREDENTIALS"
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise NoProfile(f"{path}: is not a profile ({error}); run 'bdw-fed up' again") from error


def find_profile(state: Path | None = None) -> Profile:
    """The profile to use: see the module. NoProfile says what to set when there is none."""
    if state is not None:
        return read_profile(state)
    hub = os.environ.get("BDW_FED_HUB")
    if not hub:
        return read_profile(default_state())
    credentials = os.environ.get("BDW_FED_CREDENTIALS")
    if not credentials:
        raise NoProfile(
            "BDW_FED_HUB is set, so BDW_FED_CREDENTIALS must name the directory with your cert.pem or token"
        )
    return Profile(hub, Path(credentials), os.environ.get("BDW_FED_NAMESPACE", DEFAULT_NAMESPACE))
