"""What the dashboard's page is told by us is what Optuna's own dashboard tells it, of the same database.

Where the two differ, `as_ours` makes one out of the other, and says why. Nothing else may.
"""

from __future__ import annotations

import io
import json
import math
import warnings
from collections.abc import Callable, Iterator
from copy import deepcopy
from random import Random
from types import SimpleNamespace
from typing import Any
from wsgiref.util import setup_testing_defaults

import optuna
import optuna_dashboard
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial
from optuna_dashboard import (
    TextInputWidget,
    register_user_attr_form_widgets,
    save_note,
    save_plotly_graph_object,
)
from optuna_dashboard._serializer import serialize_frozen_trial

from storage import attributes
from storage.claims import Claim, Claims, Start, Thaw
from storage.database import Database
from storage.rows.ledger import is_frozen
from studies.trials import phase_of
from tests.databases import finish, fresh_database, new_study, second_connection
from tuning.commands.dashboard.answers import Answer, Answering, asking
from tuning.commands.dashboard.reads.answering import Reads, answered_from


def ask(answering: Answering, path: str, **headers: str) -> tuple[str, Any, Answer]:
    """Return the status, the document and the answer to a request."""
    place, _, query = path.partition("?")
    environ: dict[str, Any] = {"PATH_INFO": place, "QUERY_STRING": query, "HTTP_ACCEPT_ENCODING": "", **headers}
    setup_testing_defaults(environ)
    environ |= {"REQUEST_METHOD": "GET", "wsgi.errors": io.StringIO()}
    answer = answering(environ)
    content = b"".join(answer.body)
    return answer.status, json.loads(content) if content else None, answer


def stock_of(database: Database) -> Answering:
    """Optuna's own dashboard, which remembers nothing yet."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return asking(optuna_dashboard.wsgi(database))


def ours_of(database: Database) -> Answering:
    """Ours, which leaves nothing to Optuna's."""

    def unanswered(_environ: Any) -> Answer:
        raise AssertionError("this is to be answered by us")

    return answered_from(Reads(database), unanswered)


def in_order(document: Any) -> Any:
    """A document with what has no order sorted: attributes, and choices that two distributions have together."""
    if isinstance(document, list):
        return [in_order(one) for one in document]
    if not isinstance(document, dict):
        return document
    found = {key: in_order(value) for key, value in document.items()}
    for key in ("user_attrs", "union_user_attrs", "artifacts", "choices", "plotly_graph_objects", "fixed_params"):
        if key in found:
            found[key] = sorted(found[key], key=json.dumps)
    return found


def as_ours(
    stock: dict[str, Any], study: optuna.Study, serialized: Callable[[FrozenTrial], dict[str, Any]]
) -> dict[str, Any]:
    """What we answer where Optuna's dashboard answers this.

    - A note that nobody wrote is made of what is recorded, and so are plots beside those that somebody saved.
    - What a trial of ours reports has the seven digits that Keras computes with.
    - `Trial.set_constraint` counts: stock knows the former way alone (optuna#6825).
    - The best trial keeps to its constraints, is of the search, and is the first of equals.
    - What waits with a curve is shown with it. To the page what is Waiting has no curve, and only the parameters that
      were fixed beforehand. It asks for the trials from the first on that is Running or Waiting to it, and its history
      is of Complete and Pruned ones: so all are Pruned, but the first trial that is not over is Waiting, and its
      parameters are fixed.
    """
    trials = study.get_trials(deepcopy=False)
    first_open = next((trial.number for trial in trials if not trial.state.is_finished()), None)
    shown = [shown_by_us(one, trials[one["number"]], first_open) for one in stock["trials"]]
    names = {one["key"]: one for one in stock["union_user_attrs"]}
    if any(is_frozen(trial) and trial.intermediate_values for trial in trials):
        names[attributes.FROZEN] = {"key": attributes.FROZEN, "sortable": False}
    return stock | {
        "trials": shown,
        "best_trials": [shown_by_us(serialized(trial), trial, first_open) for trial in best_of(study)],
        "union_user_attrs": list(names.values()),
    }


def shown_by_us(stock: dict[str, Any], trial: FrozenTrial, first_open: int | None) -> dict[str, Any]:
    changed: dict[str, Any] = {"constraints": list(trial.constraints.values())}
    if attributes.CLAIM in trial.system_attrs:
        curve = [{**one, "value": in_digits(one["value"])} for one in stock["intermediate_values"]]
        changed |= {"intermediate_values": curve}
        changed |= {"values": [in_digits(value) for value in stock["values"]]} if "values" in stock else {}
    if trial.state == TrialState.WAITING and trial.last_step is not None:
        changed["state"] = "Waiting" if trial.number == first_open else "Pruned"
        changed["fixed_params"] = fixed_of(stock)
        last = trial.intermediate_values[trial.last_step]
        if not math.isnan(last):
            shown = last if math.isfinite(last) else str(last)
            changed["values"] = [in_digits(shown) if attributes.CLAIM in trial.system_attrs else shown]
        if is_frozen(trial):
            said = {"key": attributes.FROZEN, "value": f"after epoch {trial.system_attrs[attributes.FROZEN]}"}
            changed["user_attrs"] = [said, *stock["user_attrs"]]
    return stock | changed


def fixed_of(stock: dict[str, Any]) -> list[dict[str, str]]:
    drawn = {one["name"]: one["param_external_value"] for one in stock["params"]}
    known = {one["name"]: one["param_external_value"] for one in stock["fixed_params"]} | drawn
    return [{"name": name, "param_external_value": value} for name, value in known.items()]


def in_digits(value: float | str) -> float | str:
    return value if isinstance(value, str) else float(f"{value:.7g}")


def best_of(study: optuna.Study) -> list[FrozenTrial]:
    """The best trials, by other means than the dashboard's."""
    if len(study.directions) > 1:
        return study.best_trials
    complete = study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])
    fit = [trial for trial in complete if all(value <= 0 for value in trial.constraints.values())]
    sign = -1 if study.direction == StudyDirection.MINIMIZE else 1
    first = max(
        (trial for trial in fit if phase_of(trial) == attributes.SEARCH),
        key=lambda trial: sign * float(trial.values[0]),
        default=None,
    )
    return [first] if first is not None else []


def without_ours(document: dict[str, Any], stock: dict[str, Any]) -> dict[str, Any]:
    """Our document without the notes that nobody wrote, and without plots that nobody saved."""
    document = deepcopy(document)
    saved = [one for one in document["plotly_graph_objects"] if not one["id"].startswith("tuning-")]
    document["plotly_graph_objects"] = saved
    pairs = zip([document, *document["trials"]], [stock, *stock["trials"]], strict=True)
    for ours, other in pairs:
        if not other["note"]["body"]:
            ours["note"]["body"] = ""
    for best in document["best_trials"]:
        best["note"] = document["trials"][best["number"]]["note"] if len(document["trials"]) > best["number"] else None
    return document


def compare(ours: Answering, database: Database, study_id: int) -> dict[str, Any]:
    """Compare a study's page with stock's, and return ours."""
    study = optuna.load_study(study_name=database.get_study_name_from_id(study_id), storage=database)
    _, stock, _ = ask(stock_of(database), f"/api/studies/{study_id}")
    status, document, _ = ask(ours, f"/api/studies/{study_id}")
    assert status == "200 OK"
    system = database.get_study_system_attrs(study_id)
    wanted = as_ours(stock, study, lambda trial: serialize_frozen_trial(study_id, trial, system))
    shown, other = in_order(without_ours(document, wanted)), in_order(without_ours(wanted, wanted))
    # Part by part, since a study is long.
    assert {key: value for key, value in shown.items() if key != "trials"} == {
        key: value for key, value in other.items() if key != "trials"
    }
    for one, another in zip(shown["trials"], other["trials"], strict=True):
        assert one == another
    return dict(document)


def numbered(index: int) -> dict[str, Any]:
    return {"artifact_id": f"{index:032x}", "filename": "ü.png", "mimetype": "image/png", "encoding": None}


DISTRIBUTIONS: dict[str, BaseDistribution] = {
    "rate": FloatDistribution(1e-7, 1.0, log=True),
    "share": FloatDistribution(0.0, 1.0, step=0.25),
    "units": IntDistribution(1, 64, log=True),
    "layers": IntDistribution(2, 8, step=2),
    "name": CategoricalDistribution(["a", 'ü"\n', None, True, 2, 2.5]),
}
VALUES: dict[str, list[Any]] = {
    "rate": [1e-7, 0.1, 1.0, 1 / 3],
    "share": [0.0, 0.75],
    "units": [1, 64],
    "layers": [2, 8],
    "name": ["a", 'ü"\n', None, True, 2, 2.5],
}
ATTRIBUTES = st.dictionaries(
    st.sampled_from(["device", "ü", 'q"', "tuning:seconds"]),
    st.sampled_from([None, True, 0, -7, 1e-9, 2.5, math.nan, math.inf, -math.inf, "", "ü\n", '"<b>"', [1, {"a": None}]])
    | st.just("x" * 2000)
    | st.just(["x" * 2000]),
)
NUMBERS = st.sampled_from([0.1, 1 / 3, -2.5, 0.0, 1e300, math.inf, -math.inf])
SYSTEM = st.fixed_dictionaries(
    {},
    optional={
        "fixed_params": st.just({"rate": 0.1, "name": None}),
        "constraints": st.lists(st.sampled_from([-1.0, 0.0, 0.5]), max_size=2),
        "constraints:room": st.sampled_from([-1.0, 2.0]),
        "artifacts:00000000000000000000000000000001": st.just(json.dumps(numbered(1))),
        "artifacts:00000000000000000000000000000002": st.just("null"),
        "else": st.just({"a": 1}),
        attributes.FROZEN: st.none() | st.just(3),
        attributes.CLAIM: st.just({"owner": None, "count": 1, "id": None}),
        attributes.PHASE: st.sampled_from(attributes.PHASES),
    },
)


DIRECTIONS = [StudyDirection.MAXIMIZE, StudyDirection.MINIMIZE]


@st.composite
def trials(draw: st.DrawFn, objectives: int) -> FrozenTrial:
    state = draw(st.sampled_from(list(TrialState)))
    names = draw(st.lists(st.sampled_from(sorted(VALUES)), unique=True))
    over = state == TrialState.COMPLETE or (state == TrialState.PRUNED and objectives == 1 and draw(st.booleans()))
    return create_trial(
        state=state,
        values=draw(st.lists(NUMBERS, min_size=objectives, max_size=objectives)) if over else None,
        params={name: draw(st.sampled_from(VALUES[name])) for name in names},
        distributions={name: DISTRIBUTIONS[name] for name in names},
        user_attrs=draw(ATTRIBUTES),
        system_attrs=draw(SYSTEM),
        intermediate_values=draw(st.dictionaries(st.integers(0, 30), NUMBERS | st.just(math.nan), max_size=4)),
    )


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    with fresh_database(tmp_path_factory.mktemp("dashboard") / "studies.db") as opened:
        yield opened


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # to shrink takes minutes
)
@given(data=st.data())
def test_whatever_is_in_a_study(shared: Database, data: st.DataObject) -> None:
    directions = data.draw(st.lists(st.sampled_from(DIRECTIONS), min_size=1, max_size=3))
    study = optuna.create_study(storage=shared, directions=directions)
    for trial in data.draw(st.lists(trials(len(directions)), max_size=6)):
        shared.create_new_trial(study._study_id, template_trial=trial)
    for key, value in data.draw(ATTRIBUTES).items():
        study.set_user_attr(key, value)
    document = compare(ours_of(shared), shared, study._study_id)
    shared.delete_study(study._study_id)
    json.dumps(document, allow_nan=False)  # a browser reads no other


def test_what_else_a_study_has(database: Database) -> None:
    study = optuna.create_study(storage=database, directions=["maximize"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        study.set_metric_names(["accuracy"])
        save_note(study, "# *Mine* " + "ü" * 3000)
        for body in ("first", "of the trial", ""):
            trial = study.ask()
            save_note(trial, body)
            study.tell(trial, 0.5)
        figure = SimpleNamespace(to_json=lambda: json.dumps({"data": ["x" * 5000]}))
        save_plotly_graph_object(study, figure)
        register_user_attr_form_widgets(study, [TextInputWidget(description="why", user_attr_key="why")])
    last = study.ask()
    database.set_study_system_attr(study._study_id, "artifacts:1", json.dumps(numbered(1)))
    database.set_study_system_attr(study._study_id, "artifacts:2", "null")
    database.set_study_system_attr(study._study_id, f"dashboard:artifacts:{last._trial_id}:3", json.dumps(numbered(3)))
    document = compare(ours_of(database), database, study._study_id)
    assert document["note"]["body"].startswith("# *Mine*")
    assert document["trials"][1]["note"] == {"version": 1, "body": "of the trial"}
    assert [one["artifact_id"][-1] for one in document["trials"][3]["artifacts"]] == ["3"]


def test_the_list_of_studies(database: Database) -> None:
    for directions in (DIRECTIONS[:1], DIRECTIONS):
        study = optuna.create_study(storage=database, directions=directions)
        study.set_user_attr("long", ["x" * 2000])
        study.set_user_attr("ü", math.inf)
    _, stock, _ = ask(stock_of(database), "/api/studies")
    status, ours, _ = ask(ours_of(database), "/api/studies")
    assert status == "200 OK"
    assert in_order(ours) == in_order(stock)


@pytest.mark.parametrize("complete", [0, 1, 30])
def test_the_importance_of_parameters(database: Database, complete: int) -> None:
    study = optuna.create_study(storage=database, directions=["maximize", "minimize"])
    random = Random(1)
    drawn = dict(list(DISTRIBUTIONS.items())[:3])
    for number in range(complete + 3):
        params = {name: random.choice(VALUES[name]) for name in drawn}
        state = TrialState.COMPLETE if number < complete else TrialState.PRUNED
        values = [params["rate"] + random.random() / 10, random.random()]
        study.add_trial(create_trial(state=state, params=params, distributions=drawn, values=values))
    path = f"/api/studies/{study._study_id}/param_importances"
    _, stock, _ = ask(stock_of(database), path)
    ours = ours_of(database)
    for _ in range(2):
        status, document, _ = ask(ours, path)
        assert status == "200 OK"
        assert in_order(document) == in_order(stock)


@pytest.mark.parametrize("path", ["/api/studies/987", "/api/studies/987/param_importances"])
def test_a_study_that_is_not_there(database: Database, path: str) -> None:
    status, stock, _ = ask(stock_of(database), path)
    assert ask(ours_of(database), path)[:2] == (status, stock)


def test_what_we_do_not_answer_is_left_to_the_other(database: Database) -> None:
    study = optuna.create_study(storage=database)
    judged = optuna.create_study(storage=database)
    database.set_study_system_attr(judged._study_id, "preference:is_preferential", True)
    answering = answered_from(Reads(database), lambda _environ: Answer("418 Left", [], ()))
    known = f"/api/studies/{study._study_id}"
    for path in ("/api/meta", f"{known}/plot/slice", f"{known}?after=-1", f"/api/studies/{judged._study_id}"):
        assert ask(answering, path)[0] == "418 Left"
    assert ask(answering, known)[0] == "200 OK"


@pytest.mark.parametrize("seed", [0, 1])
def test_each_change_is_shown_to_who_asks_for_what_it_may_not_have(database: Database, seed: int) -> None:
    """A page keeps the trials before the first that is not over, and replaces the others by the answer."""
    random = Random(seed)
    claims = new_study(database, budget=1000)
    study_id, ours = claims._study_id, ours_of(database)
    running: list[Claim] = []
    page: list[dict[str, Any]] = []
    tag = ""
    for _ in range(40):
        changed = change_something(database, claims, running, random)
        after = next((place for place, one in enumerate(page) if one["state"] in ("Running", "Waiting")), len(page))
        status, document, answer = ask(ours, f"/api/studies/{study_id}?after={after}", HTTP_IF_NONE_MATCH=tag)
        assert (status == "304 Not Modified") is (not changed and bool(tag))
        if status == "200 OK":
            page = page[:after] + document["trials"]
            tag = answer.header("ETag")
        assert page == ask(ours_of(database), f"/api/studies/{study_id}")[1]["trials"]
    compare(ours, database, study_id)
    assert ask(ours, f"/api/studies/{study_id}", HTTP_IF_NONE_MATCH=tag)[0] == "304 Not Modified"


def change_something(database: Database, claims: Claims, running: list[Claim], random: Random) -> bool:
    """Do one of the things that happen to a study; return whether its page is another one then."""
    waiting = [trial for trial in database.get_all_trials(claims._study_id) if trial.state == TrialState.WAITING]
    what = random.choice(
        ["start", "thaw", "epoch", "epoch", "freeze", "finish", "note", "attribute", "beat", "enqueue"]
    )
    if what == "start" or (what == "thaw" and waiting):
        claim = claims.next(Start() if what == "start" else Thaw(random.choice(waiting).number))
        if claim is None:
            return False
        running.append(claim)
        if not database.get_trial(claim.trial_id).params:
            database.set_trial_param(claim.trial_id, "rate", random.random(), DISTRIBUTIONS["rate"])
        return True
    if what == "note" and waiting:
        key = f"dashboard:{random.choice(waiting)._trial_id}"
        database.set_study_system_attr(claims._study_id, f"{key}:note_ver", 1)
        database.set_study_system_attr(claims._study_id, f"{key}:note_str:0", str(random.random()))
        return True
    if what == "attribute" and waiting:
        with second_connection(database) as person:
            person.set_trial_user_attr(random.choice(waiting)._trial_id, "mine", random.random())
        return True
    if what == "enqueue":
        optuna.load_study(study_name="mnist", storage=database).enqueue_trial({"rate": random.random()})
        return True
    if not running:
        return False
    claim = running[random.randrange(len(running))]
    epochs = len(database.get_trial(claim.trial_id).intermediate_values)
    if what == "beat":
        claims.beat(claim)
        return False
    if what == "epoch":
        database.set_trial_intermediate_value(claim.trial_id, epochs + 1, random.choice([random.random(), math.inf]))
        claims.progressed(claim, epochs + 1)
        return True
    if what in ("freeze", "finish"):
        running.remove(claim)
        if what == "freeze" and epochs:
            claims.progressed(claim, epochs)
            claims.put_back(claim, "frozen", "frozen")
        else:
            state, value = random.choice(
                [(TrialState.COMPLETE, 0.5), (TrialState.PRUNED, None), (TrialState.FAIL, None)]
            )
            finish(database, claim, state, value or 0.5)
        return True
    return False


def test_a_study_of_the_same_name_and_id_is_another_one(sqlite: Database) -> None:
    ours = ours_of(sqlite)
    for value in (0.25, 0.5):
        study = optuna.create_study(study_name="again", storage=sqlite)
        study.add_trial(create_trial(value=value))
        assert study._study_id == 1
        assert [one["values"] for one in compare(ours, sqlite, 1)["trials"]] == [[value]]
        optuna.delete_study(study_name="again", storage=sqlite)
