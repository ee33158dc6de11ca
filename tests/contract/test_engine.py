"""What a workforce needs of whatever starts its workers, of this machine and of a Ray cluster."""

from __future__ import annotations

import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from storage.errors import BadInput
from tests.clusters import RayCluster, ray_cluster
from tuning.launch.engines.cluster import Cluster
from tuning.launch.engines.engine import Engine, Start, WorkerProcess
from tuning.launch.engines.here import Here
from tuning.launch.engines.node import Data
from tuning.machine.devices import CPU, Device, Placement
from tuning.messages import Crashed, Refused, WorkerOptions, decode

# Ray leaves processes of its own behind, and says so as they are forgotten.
pytestmark = [
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

PLACE = Placement(Device("cpu", "cpu", CPU), 1, {"OF_THE_PLACE": "1"})

# What stands in for a worker: it says what it is asked to, and ends as it is asked to.
ACTED = """
import os, signal, sys
print("begun", os.environ["OF_ALL"], flush=True)
print("a word for the log", file=sys.stderr, flush=True)
def stopped(*_):
    print("stopped", flush=True)
    os._exit(7)
signal.signal(signal.SIGTERM, stopped)
for line in sys.stdin:
    if line == "end\\n":
        sys.exit(3)
    print("heard", line, end="", flush=True)
print("alone", flush=True)
"""


# Python imports it as it starts, on each node: there, too, a worker is that script.
ON_A_NODE = f"""
import os, sys
from tuning.machine import installation
from tuning.messages import WorkerOptions
WorkerOptions.command = lambda self: [sys.executable, "-c", {ACTED!r}]
if os.environ.get("UNLIKE"):
    known = installation._source
    installation._source = lambda checkout: {{**known(checkout), "tuning/other.py": "0"}}
"""


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayCluster]:
    folder = tmp_path_factory.mktemp("nodes")
    (folder / "sitecustomize.py").write_text(ON_A_NODE)
    with ray_cluster(folder, PYTHONPATH=str(folder)) as made:
        made.add(cpus=2)
        yield made


@pytest.fixture(autouse=True)
def acted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(WorkerOptions, "command", lambda _: [sys.executable, "-c", ACTED])


@pytest.fixture(scope="module")
def connected(nodes: RayCluster) -> Iterator[Cluster]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Ray's own
        cluster = Cluster.connected(nodes.cluster.address)
        yield cluster
        cluster.close()


@pytest.fixture(params=["here", "cluster"])
def engine(request: pytest.FixtureRequest) -> Engine:
    if request.param == "here":
        return Here()
    cluster: Cluster = request.getfixturevalue("connected")
    return cluster


class Talk:
    """A started worker, and what it has said so far."""

    def __init__(self, engine: Engine, log: Path) -> None:
        options = WorkerOptions.at(PLACE, "mnist", None, None)
        self.log = log
        self.process: WorkerProcess = engine.start(Start(options, PLACE, {"OF_ALL": "hunter2"}, log))
        self.said: list[str] = []
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()

    def _listen(self) -> None:
        for line in self.process.lines():
            self.said.append(line.strip())

    def until(self, holds: Callable[[], Any]) -> None:
        deadline = time.monotonic() + 60
        while not holds():
            assert time.monotonic() < deadline, (self.said, self.log.exists() and self.log.read_text())
            time.sleep(0.02)

    def end(self) -> None:
        if self.process.status() is None:
            self.process.kill()
        self._thread.join(20)
        self.process.close()


@pytest.fixture
def talk(engine: Engine, tmp_path: Path) -> Iterator[Talk]:
    begun = Talk(engine, tmp_path / "logs" / "worker-0.log")
    begun.until(lambda: begun.said)
    yield begun
    begun.end()


def test_it_is_told_and_heard_and_its_log_is_here(talk: Talk) -> None:
    assert talk.said == ["begun hunter2"]
    assert talk.process.status() is None
    for line in ("one\n", "two\n"):
        talk.process.say(line)
    talk.until(lambda: len(talk.said) == 3)
    assert talk.said[1:] == ["heard one", "heard two"]
    talk.until(lambda: talk.log.exists() and talk.log.read_text().endswith("a word for the log\n"))
    assert "hunter2" not in talk.log.read_text()


def test_it_ends_with_its_own_status_after_its_last_word(talk: Talk) -> None:
    talk.process.say("end\n")
    assert talk.process.wait() == 3
    assert talk.process.status() == 3
    talk.process.say("too late\n")


def test_it_is_asked_to_stop_by_a_signal(talk: Talk) -> None:
    talk.process.stop()
    assert talk.process.wait() == 7
    talk.until(lambda: talk.said[-1] == "stopped")


def test_it_is_killed(talk: Talk) -> None:
    talk.process.kill()
    assert talk.process.wait() == -signal.SIGKILL


def test_the_end_of_its_launcher_is_the_end_of_its_input(engine: Engine, tmp_path: Path) -> None:
    if isinstance(engine, Cluster):
        pytest.skip("there the launcher's end is Ray's to tell, see test_a_place_that_is_given_back_is_free")
    talk = Talk(engine, tmp_path / "worker-0.log")
    talk.until(lambda: talk.said)
    talk.process.close()
    assert talk.process.wait() == 0
    talk.end()
    assert talk.said[-1] == "alone"


# --- What only a cluster does


def test_a_place_that_is_given_back_is_free(connected: Cluster, tmp_path: Path) -> None:
    connected.place(2, None)
    for _ in range(2):
        talks = [Talk(connected, tmp_path / f"worker-{number}.log") for number in range(2)]
        for talk in talks:
            talk.until(lambda talk=talk: talk.said)  # type: ignore[misc]
            talk.end()


def test_a_worker_without_a_place_waits_and_is_taken_back(connected: Cluster, tmp_path: Path) -> None:
    connected.place(1, None)  # both cores
    first, second = (Talk(connected, tmp_path / f"worker-{number}.log") for number in range(2))
    first.until(lambda: first.said or second.said)
    waiting = second if first.said else first
    assert (waiting.said, waiting.process.status()) == ([], None)
    waiting.process.stop()
    assert waiting.process.wait() == -signal.SIGKILL
    first.end()
    second.end()
    connected.place(2, None)


def test_as_many_workers_as_there_is_room_for_with_the_cores_shared(connected: Cluster) -> None:
    assert [place.threads for place in connected.place(None, None)] == [1, 1]
    assert connected.room() == 2
    assert [place.threads for place in connected.place(1, None)] == [2]
    assert connected.room() == 1
    with pytest.raises(BadInput, match="--workers-per-device auto"):
        connected.place(None, "auto")
    connected.place(2, None)


def test_a_node_that_is_unlike_is_refused_with_the_difference_and_the_others_go_on(
    connected: Cluster, nodes: RayCluster, tmp_path: Path
) -> None:
    connected.place(3, None)
    unlike = nodes.add(cpus=1, UNLIKE="1")
    talks = [Talk(connected, tmp_path / f"worker-{number}.log") for number in range(3)]
    try:
        talks[0].until(lambda: [talk for talk in talks if talk.process.status() is not None])
        (one,) = (talk for talk in talks if talk.process.status() is not None)
        assert one.process.wait() == 75
        assert "is not used: its checkout differs in tuning/other.py" in one.said[-1]
        assert len(connected.nodes()) == 2  # the head, which has no cores, is one
    finally:
        for talk in talks:
            talk.end()
        nodes.remove(unlike)
        connected.place(2, None)


@pytest.mark.parametrize(("images", "said"), [({"unknown": 1}, Crashed), (None, Refused)])
def test_what_may_be_wrong_with_one_node_alone_does_not_end_the_study(
    connected: Cluster, tmp_path: Path, images: dict[str, Any] | None, said: type
) -> None:
    connected.serve(files="", data=Data(str(tmp_path / "nowhere"), "nowhere", "0", images))
    talk = Talk(connected, tmp_path / "worker-0.log")
    try:
        assert talk.process.wait() == (1 if said is Crashed else 2)
        talk.until(lambda: talk.said)
        assert isinstance(decode(talk.said[-1]), said)
    finally:
        talk.end()
        connected.serve(files="", data=None)


def test_a_cluster_that_does_not_answer_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def init(**_: Any) -> None:
        raise ConnectionError("Could not find any running Ray instance. Please specify the one to connect to.")

    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(init=init))  # the real one waits for half a minute
    with pytest.raises(
        BadInput, match=r"CLUSTER=auto: there is no Ray cluster that answers: Could not find any running"
    ):
        Cluster.connected("auto")


def test_without_ray_its_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(BadInput, match=r"CLUSTER=auto: Ray is not installed\. .*pip install '\.\[ray\]'"):
        Cluster.connected("auto")
