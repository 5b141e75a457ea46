"""The client: both forms give the same answers, errors are readable, watching survives a hub that goes away."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest
from fake_hub import RUN, FakeHub, a_run

from bdw_fed.client import Client, Document, Profile, SyncClient, find_profile, has_ended
from bdw_fed.client.errors import Conflict, NoProfile, NotFound, Problems, TimedOut, Unavailable
from bdw_fed.v1 import model_pb2 as model
from wire.digests import bytes_digest


@pytest.fixture
def profile(hub: FakeHub) -> Profile:
    return Profile(hub.address, hub.user)


def test_both_clients_have_the_same_methods_with_the_same_arguments() -> None:
    def public(cls: type) -> dict[str, list[str]]:
        return {
            name: list(inspect.signature(method).parameters)
            for name, method in inspect.getmembers(cls, inspect.isfunction)
            if not name.startswith("_")
        }

    assert public(Client) == public(SyncClient)


async def test_the_async_client_asks_and_follows(profile: Profile) -> None:
    async with Client(profile) as client:
        run = (await client.submit("delays", {"late_minutes": 30})).run
        states = [state.state async for state in client.watch_run(run.name)]
        assert states == [model.RUN_STATE_RUNNING, model.RUN_STATE_SUCCEEDED]
        assert has_ended(await client.wait(run.name))
        assert [item.name for item in await client.list("Workflow")] == ["counts", "delays", "other"]
        with pytest.raises(NotFound):
            await client.get("Workflow", "nothing")
        assert (await client.get_run(RUN)).state == model.RUN_STATE_RUNNING


def test_the_blocking_client_does_without_an_event_loop(profile: Profile) -> None:
    with SyncClient(profile) as client:
        run = client.submit("delays").run
        assert [state.state for state in client.watch_run(run.name)][-1] == model.RUN_STATE_SUCCEEDED
        assert client.wait(run.name).state == model.RUN_STATE_SUCCEEDED
        assert len(client.list("Workflow")) == 3
        assert len(client.list("Workflow", limit=1)) == 1
        assert [piece.stream for piece in client.logs(RUN)] == ["stdout", "stderr"]
        assert client.get_run(RUN).name == RUN


def test_a_broken_off_stream_ends_its_call(profile: Profile, hub: FakeHub) -> None:
    with SyncClient(profile) as client:
        watching = client.watch_run("endless")
        next(watching)
        watching.close()
        assert client.status().version


def test_bundles_are_sent_once_and_named_by_their_digest(profile: Profile, hub: FakeHub) -> None:
    bundle = b"code" * 700_000  # more than one piece
    with SyncClient(profile) as client:
        assert client.put_blobs([bundle, bundle]) == 1
        client.apply([Document("kind: Step", bundle=bundle)])
        assert client.put_blobs([bundle]) == 0
    assert hub.blobs == {bytes_digest(bundle): bundle}
    assert hub.asked[-1].documents[0].bundle == bytes_digest(bundle)


def test_a_dry_run_sends_no_bundle(profile: Profile, hub: FakeHub) -> None:
    with SyncClient(profile) as client:
        client.apply([Document("kind: Step", bundle=b"code")], dry_run=True)
    assert hub.blobs == {}


def test_all_problems_arrive_with_file_line_and_remedy(profile: Profile) -> None:
    with SyncClient(profile) as client, pytest.raises(Problems) as caught:
        client.apply([Document("use: frobnicate@1", "a.yaml", 7)])
    (problem,) = caught.value.problems
    assert (problem.file, problem.line, problem.field) == ("a.yaml", 9, "spec.steps[0].use")
    assert problem.remedy


def test_errors_are_told_apart(profile: Profile) -> None:
    with SyncClient(profile) as client:
        with pytest.raises(Conflict, match="in use"):
            client.get("Workflow", "busy")
        with pytest.raises(NotFound, match="no run nothing"):
            client.wait("nothing")
        with pytest.raises(TimedOut, match="endless has not ended within"):
            client.wait("endless", timeout=0.3)


def test_a_hub_that_is_not_there_is_named(hub: FakeHub) -> None:
    hub.stop()
    with (
        SyncClient(Profile(hub.address, hub.user)) as client,
        pytest.raises(Unavailable, match=rf"the hub at {hub.address} can't be reached \(.*refused"),
    ):
        client.status()


def test_watching_goes_on_when_the_hub_has_been_away(profile: Profile, hub: FakeHub) -> None:
    hub.break_watch_after = 1
    with SyncClient(profile) as client:
        states = [state.state for state in client.watch_run(RUN)]
    assert states == [model.RUN_STATE_RUNNING, model.RUN_STATE_RUNNING, model.RUN_STATE_SUCCEEDED]


def test_watching_gives_up_on_a_hub_that_stays_away(hub: FakeHub) -> None:
    hub.stop()
    with SyncClient(Profile(hub.address, hub.user)) as client, pytest.raises(Unavailable):
        list(client.watch_run(RUN, patience=0.3))


def test_a_server_that_is_not_the_hub_is_not_believed(hub: FakeHub, tmp_path: Path) -> None:
    from wire.identity import Identity, Role

    hub.stop()
    hub.credentials = hub.authority.issue(Identity(Role.AGENT, "edge1"), tmp_path / "agent")
    hub.start()
    with SyncClient(Profile(hub.address, hub.user)) as client, pytest.raises(Unavailable):
        client.status()


def test_an_idempotency_key_is_made_for_who_gives_none(profile: Profile, hub: FakeHub) -> None:
    with SyncClient(profile) as client:
        client.submit("delays")
        client.submit("delays")
        client.submit("delays", idempotency_key="mine")
    keys = [request.idempotency_key for request in hub.asked]
    assert len(set(keys)) == 3
    assert keys[2] == "mine"


def test_the_profile_comes_from_the_state_the_environment_or_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("BDW_FED_HUB", "BDW_FED_CREDENTIALS", "BDW_FED_STATE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "home"))
    with pytest.raises(NoProfile, match="bdw-fed up"):
        find_profile()
    state = tmp_path / "state"
    state.mkdir()
    Profile("a:1", state / "credentials" / "me", data_root=tmp_path).write(state)
    assert find_profile(state) == Profile("a:1", state / "credentials/me", data_root=tmp_path)
    monkeypatch.setenv("BDW_FED_STATE", str(state))
    assert find_profile().hub == "a:1"
    monkeypatch.setenv("BDW_FED_HUB", "b:2")
    with pytest.raises(NoProfile, match="BDW_FED_CREDENTIALS"):
        find_profile()
    monkeypatch.setenv("BDW_FED_CREDENTIALS", "/creds")
    assert find_profile() == Profile("b:2", Path("/creds"))
    assert find_profile(state).hub == "a:1"


def test_a_profile_without_credentials_says_which_file_is_missing(tmp_path: Path) -> None:
    with pytest.raises(NoProfile, match=r"cert\.pem"):
        SyncClient(Profile("a:1", tmp_path))


def test_the_states_that_a_run_ends_in() -> None:
    ends = {state for state in model.RunState.values() if has_ended(a_run(state))}
    assert ends == {model.RUN_STATE_SUCCEEDED, model.RUN_STATE_FAILED, model.RUN_STATE_CANCELLED}
