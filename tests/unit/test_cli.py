"""What a command line says and how it exits, for mistakes of its user and for defects of ours."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, Never

import pytest
from pydantic import Field, ValidationError, field_validator

from cluster import cli
from cluster.session import Session
from train.core.settings import Settings, one_of

ROOT = Path(__file__).parents[2]


class Softmax(Settings):
    name: Literal["softmax"] = "softmax"
    temperature: float = Field(default=0.1, gt=0)

    @field_validator("temperature")
    @classmethod
    def not_hot(cls, value: float) -> float:
        if value > 10:
            raise ValueError(f"expected at most 10, got {value:g}")
        return value


class Optimizer(Settings):
    rate: float
    steps: int = 1


class Config(Settings):
    loss: Annotated[Any, one_of("loss", {"softmax": Softmax})] = None
    optimizer: Optimizer | None = None
    stages: tuple[Optimizer, ...] = ()


def explained(**values: Any) -> list[str]:
    with pytest.raises(ValidationError) as caught:
        Config.model_validate(values)
    return cli.explain(caught.value).splitlines()


@pytest.mark.parametrize(
    ("values", "line"),
    [
        (
            {"optimiser": {}},
            "optimiser: unknown key 'optimiser'; did you mean optimizer? "
            "available: loss, optimizer, stages",
        ),
        (
            {"optimizer": {"rate": 1, "step": 2}},
            "optimizer.step: unknown key 'step'; did you mean steps? available: rate, steps",
        ),
        (
            {"stages": [{"rate": 1}, {"rate": 1, "zzz": 2}]},
            "stages.1.zzz: unknown key 'zzz'; available: rate, steps",
        ),
        (
            {"loss": {"name": "softmax", "temprature": 1}},
            "loss.temprature: unknown key 'temprature'; did you mean temperature? "
            "available: name, temperature",
        ),
        ({"optimizer": {}}, "optimizer.rate: is needed, and was not given"),
        (
            {"optimizer": {"rate": "fast"}},
            "optimizer.rate: should be a valid number, unable to parse string as a number, "
            "got 'fast'",
        ),
        (
            {"loss": {"name": "softmax", "temperature": 0}},
            "loss.temperature: should be greater than 0, got 0",
        ),
        (
            {"loss": {"name": "softmax", "temperature": 99}},
            "loss.temperature: expected at most 10, got 99",
        ),
        ({"loss": "bprr"}, "loss: unknown loss 'bprr'; available: softmax"),
    ],
)
def test_a_config_error_names_its_key_and_what_to_do(values: dict[str, Any], line: str) -> None:
    assert explained(**values) == [line]


def test_every_config_error_has_its_line() -> None:
    assert [line.split(":")[0] for line in explained(loss="x", optimizer={"y": 1})] == [
        "loss",
        "optimizer.rate",
        "optimizer.y",
    ]


def exit_of(main: Callable[[list[str]], int | None], *arguments: str) -> int | str | None:
    with pytest.raises(SystemExit) as caught:
        cli.run(main, arguments)
    return caught.value.code


def raises(error: BaseException) -> Callable[[list[str]], Never]:
    def main(_: list[str]) -> Never:
        raise error

    return main


@pytest.mark.parametrize(("result", "code"), [(None, None), (0, 0), (3, 3)])
def test_the_exit_code_is_what_main_returns(result: int | None, code: int | None) -> None:
    assert exit_of(lambda _: result) == code


def missing_file(_: list[str]) -> None:
    Path("nowhere/run.toml").read_text()


@pytest.mark.parametrize(
    ("main", "says"),
    [
        (raises(ValueError("expected 1, got 2")), "error: expected 1, got 2\n"),
        (missing_file, "error: nowhere/run.toml: No such file or directory\n"),
        (
            raises(OSError("[Errno 20] Cannot list directory 'x'. Detail: [errno 20] Not so")),
            "error: Cannot list directory 'x': Not so\n",
        ),
        (raises(ConnectionError("no Ray answers")), "error: no Ray answers\n"),
        (raises(ExceptionGroup("some", [ValueError("first")])), "error: first\n"),
    ],
)
def test_a_users_mistake_is_one_message_and_code_2(
    main: Callable[[list[str]], None], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_of(main) == 2
    assert capsys.readouterr() == ("", says)


def test_debug_adds_the_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_of(raises(ValueError("expected 1")), "--debug") == 2
    said = capsys.readouterr().err
    assert said.startswith("Traceback")
    assert said.endswith("error: expected 1\n")


def test_debug_is_not_an_argument_of_main_but_behind_two_dashes() -> None:
    seen: list[list[str]] = []
    exit_of(seen.append, "submit", "--debug", "--", "train", "--debug")
    assert seen == [["submit", "--", "train", "--debug"]]


def test_an_interruption_is_a_line_and_code_130(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_of(raises(KeyboardInterrupt())) == 130
    assert capsys.readouterr().err == "\ninterrupted\n"


def test_a_defect_of_ours_keeps_its_traceback() -> None:
    with pytest.raises(RuntimeError, match="impossible"):
        cli.run(raises(RuntimeError("impossible")), [])


def test_a_mistake_found_on_a_ray_worker_is_the_users_too(
    local_ray: Session, capsys: pytest.CaptureFixture[str]
) -> None:
    import ray
    from ray.train import ControllerError, WorkerGroupError

    @ray.remote
    def work() -> None:
        raise ValueError("expected a column 'item'")

    def main(_: list[str]) -> None:
        ray.get(work.remote())

    assert exit_of(main) == 2
    assert capsys.readouterr().err == "error: expected a column 'item'\n"
    inner = FileNotFoundError(2, "No such file or directory", "data.csv")
    assert exit_of(raises(WorkerGroupError("Ray's text", {1: inner}))) == 2
    assert exit_of(raises(ControllerError(inner))) == 2
    assert capsys.readouterr().err == "error: data.csv: No such file or directory\n" * 2
    with pytest.raises(WorkerGroupError):
        cli.run(raises(WorkerGroupError("Ray's text", {0: RuntimeError("ours")})), [])


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["submit"], "error: expected a command after --: submit -- python -m train fit RUN.toml"),
        (["status"], "error: no head runs here; start one: python -m cluster start"),
        (["status", "--address", "nowhere"], "error: expected HOST:PORT of a Ray head"),
        (["status", "--address", "127.0.0.1:9"], "error: no Ray answers at 127.0.0.1:9"),
    ],
)
def test_the_command_line_itself(arguments: list[str], says: str) -> None:
    command = [sys.executable, "-m", "cluster", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(says)
    assert "Traceback" not in done.stderr
