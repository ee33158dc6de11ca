"""What a workforce needs of whatever starts its workers, of this machine and of a Ray cluster."""

from __future__ import annotations

import signal
import sys
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from storage.errors import BadInput
from tests.clusters import RayCluster, ray_cluster
from tuning.launch.engines.cluster import GROW_S, Cluster, Growth, handed_on
from tuning.launch.engines.engine import Engine, Start, WorkerProcess
from tuning.launch.engines.here import Here
from tuning.launch.engines.node import Data
from tuning.launch.engines.shipped import Shipped
from tuning.machine.devices import CPU, Device, Placement
from tuning.messages import Crashed, Note, Refused, WorkerOptions, decode
from tuning.user_classes import UserFile

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
    if line == "unfit\\n":
        print('{"Refused": {"message": "sees no accelerator.", "exit_status": 2, "elsewhere": true}}', flush=True)
        sys.exit(2)
    if line == "device\\n":
        print(os.environ["CUDA_VISIBLE_DEVICES"], flush=True)
        continue
    if line == "file\\n":
        print(sys.argv[1], open(sys.argv[1].rpartition(":")[0]).read(), flush=True)
        continue
    print("heard", line, end="", flush=True)
print("alone", flush=True)
"""


# Python imports it as it starts, on each node: there, too, a worker is that script. Ray looks for no GPUs where it is
# told how many there are, and what stands in for NVIDIA's driver has as many.
ON_A_NODE = f"""
import os, sys
from types import SimpleNamespace
from tuning.machine import installation
from tuning.messages import WorkerOptions
WorkerOptions.command = lambda self: [sys.executable, "-c", {ACTED!r}, str(self.user_file)]
if os.environ.get("UNLIKE"):
    known = installation._source
    installation._source = lambda checkout: {{**known(checkout), "tuning/other.py": "0"}}
if os.environ.get("GPUS"):
    import pynvml
    answers = dict(
        Init=None, Shutdown=None, DeviceGetCount=int(os.environ["GPUS"]), DeviceGetName="a GPU of the tests",
        DeviceGetCudaComputeCapability=(8, 0), DeviceGetMigMode=(0, 0), DeviceGetMemoryInfo=SimpleNamespace(total=1),
    )
    for name, answer in answers.items():
        setattr(pynvml, f"nvml{{name}}", lambda *_, answer=answer: answer)
    pynvml.nvmlDeviceGetHandleByIndex = lambda index: index
    pynvml.nvmlDeviceGetUUID = lambda index: f"GPU-{{index}}"
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
    monkeypatch.setattr(WorkerOptions, "command", lambda self: [sys.executable, "-c", ACTED, str(self.user_file)])


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

    def __init__(self, engine: Engine, log: Path, place: Placement = PLACE, user_file: UserFile | None = None) -> None:
        options = WorkerOptions.at(place, "mnist", user_file, None)
        self.log = log
        self.process: WorkerProcess = engine.start(Start(options, place, {"OF_ALL": "hunter2"}, log))
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


def test_it_has_the_file_of_the_users_that_it_was_started_with(engine: Engine, tmp_path: Path) -> None:
    file = UserFile(tmp_path / "mine.py", "Mine")
    file.path.write_text("of the user's")
    if isinstance(engine, Cluster):
        engine.serve(files="", data=None, shipped=Shipped.of([file]))
        file.path.unlink()  # no node has it
    talk = Talk(engine, tmp_path / "worker-0.log", user_file=file)
    try:
        talk.until(lambda: talk.said)
        talk.process.say("file\n")
        talk.until(lambda: len(talk.said) == 2)
        assert talk.said[1] == f"{file} of the user's"
    finally:
        talk.end()
        if isinstance(engine, Cluster):
            engine.serve(files="", data=None)


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


@pytest.mark.parametrize(("trials_left", "workers"), [(10, 2), (1, 1)])
def test_there_are_as_many_workers_as_there_is_room_and_use_for(
    connected: Cluster, trials_left: int, workers: int
) -> None:
    slots: list[Placement] = []
    now = [0.0]
    growth = Growth(SimpleNamespace(slots=slots, add=slots.append), connected, PLACE, lambda: now[0])
    growth.adjust(trials_left)
    assert not slots  # it has just been looked
    for _ in range(2):
        now[0] += GROW_S
        growth.adjust(trials_left)
        assert len(slots) == workers


def test_a_node_that_cannot_be_used_is_refused_with_the_reason_and_the_others_go_on(
    connected: Cluster, nodes: RayCluster, tmp_path: Path
) -> None:
    connected.place(4, None)
    unfit = [nodes.add(cpus=1, UNLIKE="1"), nodes.add(cpus=1, TUNING_HOME="/dev/null/home")]
    talks = [Talk(connected, tmp_path / f"worker-{number}.log") for number in range(4)]
    try:
        talks[0].until(lambda: len([talk for talk in talks if talk.process.status() is not None]) == 2)
        refused = [talk for talk in talks if talk.process.status() is not None]
        assert [talk.process.wait() for talk in refused] == [75, 75]
        notes = [note for note in (decode(talk.said[-1]) for talk in refused) if isinstance(note, Note)]
        homeless, unlike = sorted(note.message.partition(" is not used: ")[2] for note in notes)
        assert unlike == "its checkout differs in tuning/other.py. Make them alike, and start Ray there anew"
        assert homeless.startswith("cannot create the folder /dev/null/home: ")
        assert len(connected.nodes()) == 2  # the head, which has no cores, is one
    finally:
        for talk in talks:
            talk.end()
        for node in unfit:
            nodes.remove(node)
        connected.place(2, None)


def nowhere(images: dict[str, Any] | None) -> Data:
    return Data("/nowhere/to/be/had", "had", "0", images)


@pytest.mark.parametrize(
    ("data", "status", "said"),
    [
        (nowhere({"unknown": 1}), 1, Crashed),
        (nowhere(None), 75, Refused),
        (None, 75, Refused("sees no accelerator. Then start Ray there anew", 2)),
    ],
    ids=["it may pass", "the node cannot", "its worker cannot"],
)
def test_where_no_node_is_left_the_study_is_refused_but_for_what_may_pass(
    connected: Cluster, tmp_path: Path, data: Data | None, status: int, said: type | Refused
) -> None:
    import ray

    alone = Cluster(ray, connected.address)
    alone.serve(files="", data=data)
    talk = Talk(alone, tmp_path / "worker-0.log")
    try:
        talk.process.say("unfit\n")
        assert talk.process.wait() == status
        talk.until(lambda: talk.said)
    finally:
        talk.end()
    last = decode(talk.said[-1])
    assert isinstance(last, said if isinstance(said, type) else Refused)
    if isinstance(last, Refused):
        assert last.exit_status == 2
        assert last.message.partition(" is not used: ")[2].endswith(
            said.message if isinstance(said, Refused) else "anew"
        )


def test_workers_that_share_gpus_each_get_the_one_that_ray_gave_them(
    connected: Cluster, nodes: RayCluster, tmp_path: Path
) -> None:
    with pytest.raises(BadInput, match="--workers-per-device 2: the cluster has no GPU, or Ray was not told of it"):
        connected.place(None, 2)
    node = nodes.add(cpus=5, gpus=2, GPUS="4", CUDA_VISIBLE_DEVICES="1,3")
    talks = []
    try:
        # As many threads as the cores allow where the GPUs are: those of the other node are of no use to them.
        asked: list[tuple[int | None, int | None]] = [(None, None), (1, 1), (4, None), (None, 2)]
        placed = [connected.place(*one) for one in asked]
        assert [(len(places), places[0].threads) for places in placed] == [(2, 2), (1, 5), (4, 1), (4, 1)]
        assert connected.room() == 4
        talks = [Talk(connected, tmp_path / f"worker-{number}.log", placed[-1][0]) for number in range(5)]
        talks[0].until(lambda: len([talk for talk in talks if talk.said]) == 4)
        begun = [talk for talk in talks if talk.said]
        for talk in begun:
            talk.process.say("device\n")
            talk.until(lambda talk=talk: len(talk.said) == 2)  # type: ignore[misc]
        assert Counter(talk.said[1] for talk in begun) == {"GPU-1": 2, "GPU-3": 2}
    finally:
        for talk in talks:
            talk.end()
        nodes.remove(node)
        connected.place(2, None)


def test_a_node_is_handed_values_and_nothing_that_names_what_is_on_this_machine() -> None:
    handed = {"AWS_ACCESS_KEY_ID": "a", "AWS_ENDPOINT_URL_S3": "b", "PGPASSWORD": "c", "KERAS_BACKEND": "jax"}
    named = ("PROFILE", "CONFIG_FILE", "WEB_IDENTITY_TOKEN_FILE", "CA_BUNDLE", "CONTAINER_CREDENTIALS_FULL_URI")
    own = [*(f"AWS_{name}" for name in named), "GOOGLE_APPLICATION_CREDENTIALS", "PGPASSFILE", "HOME"]
    assert handed_on({**handed, **dict.fromkeys(own, "mine")}) == handed


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
