"""Exit codes and error messages of every command line here.

0 done; 1 a defect of ours, with its traceback, or the death of Ray, as one message; 2 a mistake
that the user can mend, as one message on stderr; 130 interrupted (Ctrl-C), 143 terminated
(SIGTERM), 129 hung up on (SIGHUP). With `--debug`, anywhere before `--`, mistakes show their
traceback too.
"""

import contextlib
import difflib
import os
import re
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn, get_args

from pydantic import BaseModel, ValidationError

from cluster.environment import in_job
from cluster.vitals import EXIT_CODE, RayEndedError


def run(
    main: Callable[[list[str]], int | None],
    arguments: Sequence[str] | None = None,
    grace: float | None = None,
) -> NoReturn:
    """Call `main` with the arguments of the command line (without `--debug`) and exit.

    Args:
        main: returns the exit code, None for 0.
        arguments: of the command line; by default this process's.
        grace: seconds after Ctrl-C or SIGTERM within which the process ends; None for no limit.

    Raises:
        SystemExit: always; its code is `main`'s result (None is 0), or see this module.
    """
    own, rest = split(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in own
    # Called by another program, with arguments, the signals are that program's.
    alone = arguments is None
    if alone:
        end_orderly(grace)
    try:
        code = main([word for word in own if word != "--debug"] + rest)
    except KeyboardInterrupt:
        code = _interrupted(grace, alone)
    except BrokenPipeError:
        # Who reads (`| head`) has had enough; what is still to be flushed goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except RayEndedError as error:
        print(f"error: {error}", file=sys.stderr)
        code = EXIT_CODE
    except Exception as error:
        mistake = users_mistake(error)
        if mistake is None:
            raise
        if debug:
            traceback.print_exc()
        print(f"error: {message(mistake)}{_where(mistake)}", file=sys.stderr)
        code = 2
    sys.exit(code)


# Seconds that a command has to end in order once it is told to end.
GRACE = 5.0
# The signal that told this process to end, if one did: Ray makes one exception of all of them.
_told: list[int] = []


def end_orderly(grace: float | None) -> None:
    """Have SIGTERM and SIGHUP raise KeyboardInterrupt, as SIGINT does, and the rest end in time.

    Ray takes SIGTERM for itself when it starts, and SIGINT while it trains. SIGHUP stays ignored
    where it is (nohup).

    Args:
        grace: seconds after which the process ends however far it is; None for no limit.
    """
    if threading.current_thread() is not threading.main_thread():
        return

    def end(number: int, _: object) -> NoReturn:
        _told.append(number)
        if grace is not None:
            _end_within(grace, 128 + number)
        raise KeyboardInterrupt

    for number in _ending():
        signal.signal(number, end)


@contextlib.contextmanager
def stopping(seconds: float = 30.0) -> Iterator[threading.Event]:
    """Have SIGINT, SIGTERM and SIGHUP set an event, for work that ends in order when it is told to.

    Args:
        seconds: after which the process ends however far it is. It ends at once when it is told
            again.
    """
    told = threading.Event()

    def end(number: int, _: object) -> None:
        if told.is_set():
            os._exit(128 + number)
        told.set()
        _end_within(seconds, 128 + number)

    before = {number: signal.signal(number, end) for number in _ending()}
    try:
        yield told
    finally:
        if not told.is_set():
            for number, handler in before.items():
                signal.signal(number, handler)


def _ending() -> list[signal.Signals]:
    """Return the signals that tell a process to end."""
    hung_up = signal.getsignal(signal.SIGHUP) != signal.SIG_IGN
    return [signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hung_up else [])]


def _end_within(seconds: float, code: int) -> None:
    """End this process after some seconds, with whatever it has started."""
    timer = threading.Timer(seconds, os._exit, [code])
    timer.daemon = True
    timer.start()


def _interrupted(grace: float | None, alone: bool) -> int:
    """Say what ended the work, see that the rest is short, and return the exit code."""
    number = _told[0] if _told else signal.SIGINT
    words = "interrupted" if number == signal.SIGINT else "terminated"
    print(f"\n{words}", file=sys.stderr, flush=True)
    code = 128 + number
    if alone and grace is not None:
        _end_within(grace, code)
        # It is heard already, and would end what is being put away with a traceback.
        for ending in _ending():
            signal.signal(ending, signal.SIG_IGN)
    return code


def split(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the arguments before the first `--`, and the rest from `--` on."""
    words = list(arguments)
    end = words.index("--") if "--" in words else len(words)
    return words[:end], words[end:]


def users_mistake(error: BaseException) -> ValueError | OSError | None:
    """Return the user's mistake (ValueError, OSError) in an error, Ray's wrappers unpacked."""
    if isinstance(error, ExceptionGroup):
        return users_mistake(error.exceptions[0])
    # Where Ray's errors keep the original: a task's `cause`, a training's failures by worker.
    failures = getattr(error, "worker_failures", None) or {}
    causes = [
        *failures.values(),
        getattr(error, "cause", None),
        getattr(error, "controller_failure", None),
    ]
    for cause in causes:
        if isinstance(cause, BaseException) and (mistake := users_mistake(cause)):
            return mistake
    return error if isinstance(error, ValueError | OSError) else None


# An error of pyarrow's file systems.
_ARROW = re.compile(
    r"(\[Errno \d+\] )?(?P<what>.*?)\.? Detail: \[errno \d+\] (?P<why>.*)", re.DOTALL
)


def message(error: ValueError | OSError) -> str:
    """Return the message of an error: configuration errors by key, file errors by file."""
    if isinstance(error, ValidationError):
        return explain(error)
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{error.filename}: {error.strerror}"
    if isinstance(error, OSError) and (parts := _ARROW.match(str(error))):
        return f"{parts['what']}: {parts['why']}"
    return str(error) or type(error).__name__


def _where(error: ValueError | OSError) -> str:
    """Return whose files a job has looked among: not those of the machine it was sent from."""
    if not (in_job() and isinstance(error, FileNotFoundError)):
        return ""
    return (
        f" (on {socket.gethostname()}, where this job runs: its paths are those of the cluster's "
        "machines; ship small files with `cluster submit --with FILE`)"
    )


def explain(error: ValidationError) -> str:
    """Return a line for each error in a configuration, as `path.to.key: message`.

    For an unknown key it suggests the nearest name, and lists the available ones.
    """
    return "\n".join(dict.fromkeys(_lines(error, ())))


def _lines(error: ValidationError, above: tuple[int | str, ...]) -> Iterator[str]:
    for entry in error.errors(include_url=False):
        # A choice among models is made by a validator, which hands on the chosen one's errors.
        inner = getattr(entry.get("ctx", {}).get("error"), "__cause__", None)
        path = above + entry["loc"]
        if isinstance(inner, ValidationError):
            yield from _lines(inner, path)
        else:
            key = ".".join(str(part) for part in path)
            yield f"{key}: {_message(entry, error.title)}" if key else _message(entry, error.title)


def _message(entry: Any, title: str) -> str:
    if entry["type"] == "extra_forbidden":
        *above, key = entry["loc"]
        return unknown("key", str(key), _fields(_model(title), above))
    if entry["type"] == "missing":
        return "is needed, and was not given"
    if entry["type"] == "value_error":
        return str(entry["ctx"]["error"])
    return f"{entry['msg'].removeprefix('Input ')}, got {entry['input']!r}"


def unknown(kind: str, name: str, available: Sequence[str]) -> str:
    """Return `unknown KIND 'NAME'; did you mean X? available: ...`."""
    near = difflib.get_close_matches(name, available, n=1)
    guess = f"; did you mean {near[0]}?" if near else ";"
    return f"unknown {kind} {name!r}{guess} available: {', '.join(sorted(available))}"


def _model(title: str) -> type[BaseModel] | None:
    """Return the model with a title; pydantic's error has no more of it than its name."""
    todo = list(BaseModel.__subclasses__())
    while todo:
        model = todo.pop()
        if model.__name__ == title:
            return model
        todo += model.__subclasses__()
    return None


def _fields(model: type[BaseModel] | None, above: Sequence[int | str]) -> list[str]:
    for part in above:
        field = model.model_fields.get(str(part)) if model else None
        if field is not None:
            model = next(_models_in(field.annotation), None)
    return list(model.model_fields) if model else []


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models_in(part)
