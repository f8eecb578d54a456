"""What Ray Serve starts as HAProxy: it mends the configuration and becomes HAProxy.

`python haproxy_starter.py BINARY -db -f FILE ...`. Ray writes FILE anew for every change. HAProxy
ends with the process that started it, and is replaced within a second where it dies before that,
until Ray starts another. Alone of all modules this one is a script, which no other imports, so that
it starts fast: the standard library is all it needs.
"""

import contextlib
import ctypes
import fcntl
import json
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

PDEATHSIG = 1  # prctl's, of Linux
# Seconds for which a stand-in goes on once the process that Ray has for HAProxy is gone: a
# successor takes some, and where Ray Serve was shut down there is none.
PATIENCE = 10.0
HOST, PER_ADDRESS = "RAYTOWER_HTTP_HOST", "RAYTOWER_HTTP_PER_ADDRESS"
TLS, RATE = "RAYTOWER_HTTP_TLS", "RAYTOWER_HTTP_RATE"

ERRORS: Mapping[int, tuple[str, str]] = {
    400: ("Bad Request", "the request is not valid HTTP"),
    408: ("Request Timeout", "the request did not come in time"),
    500: ("Internal Server Error", "the request was not answered"),
    502: ("Bad Gateway", "no valid answer came from a replica"),
    503: ("Service Unavailable", "no replica is there to answer, try again"),
    504: ("Gateway Timeout", "no answer came from a replica in time"),
}
"""HAProxy's own answers: the reason of a status, and what is said of it."""

_ERROR_FILES = re.compile(r"^ *errorfile .*\n", re.MULTILINE)
_NO_PATH = re.compile(r"^ *http-request return status 404 .*$", re.MULTILINE)
_ADMIN = re.compile(r"^ *stats socket .*\n|^ *server-state-.*\n|^ *load-server-state.*\n", re.M)


def main(words: Sequence[str]) -> None:
    """Become HAProxy, with a process beside it that watches."""
    binary, *arguments = words
    file = Path(arguments[arguments.index("-f") + 1])
    folder = file.parent
    text = mended(file.read_text(), write_errors(folder), os.environ)
    standing, last = _read_pid(folder / "standby.pid"), folder / "routed.cfg"
    if standing and "-sf" not in arguments:
        # The stand-in hands its port over, and its routes until Ray tells new ones.
        arguments += ["-sf", str(standing)]
        text = text if _routed(text) or not last.exists() else last.read_text()
    file.write_text(text)
    if _routed(text):
        last.write_text(text)
    (folder / "haproxy.pid").write_text(str(os.getpid()))
    _watched_by_another(binary, file)
    parent = os.getppid()
    die_with_parent()
    if os.getppid() == parent:
        os.execv(binary, [binary, *arguments])


def mended(text: str, errors: Sequence[str], environment: Mapping[str, str]) -> str:
    """Return Ray's configuration with what it has no settings for.

    Statistics and metrics stay on loopback; who sends a request slowly, or holds connections by the
    hundred, is cut off; HAProxy's own answers are JSON.

    Args:
        text: as Ray writes it.
        errors: lines that name the files of HAProxy's own answers.
        environment: `RAYTOWER_HTTP_HOST`, the address to listen at instead of Ray's;
            `RAYTOWER_HTTP_PER_ADDRESS`, the most connections of an address, and
            `RAYTOWER_HTTP_RATE`, its most requests a second; `RAYTOWER_HTTP_TLS`, a PEM file with
            certificate and key.
    """
    text = re.sub(r"(frontend prometheus\n *bind ):", r"\g<1>127.0.0.1:", text)
    text = re.sub(r"(listen stats\n *bind )\*:", r"\g<1>127.0.0.1:", text)
    text = _ERROR_FILES.sub("", text)
    text = text.replace("defaults\n", "defaults\n" + "".join(f"    {line}\n" for line in errors), 1)
    if host := environment.get(HOST):
        own = f"[{host}]" if ":" in host else host
        text = re.sub(r"(frontend http_frontend\n *bind )\S+(?=:\d+)", rf"\g<1>{own}", text)
    most = int(environment.get(PER_ADDRESS, "1000"))
    # The body is waited for here, up to a buffer's size, so that no replica waits for a slow one.
    guards = (
        "timeout client 30s",
        "timeout http-request 10s",
        "option http-buffer-request",
        "stick-table type ipv6 size 100k expire 60s store conn_cur,http_req_rate(1s)",
        "tcp-request connection track-sc0 src",
        f"tcp-request connection reject if {{ sc0_conn_cur gt {most} }}",
        *_rate(environment.get(RATE)),
    )
    if certificate := environment.get(TLS):
        own = f" ssl crt {_quoted(certificate)} ssl-min-ver TLSv1.2 alpn h2,http/1.1"
        bind = re.compile(r"frontend http_frontend\n *bind \S+")
        text = bind.sub(lambda line: line[0] + own, text)
    lines = "".join(f"    {line}\n" for line in guards)
    text = re.sub(r"(frontend http_frontend\n *bind .*\n)", rf"\g<1>{lines}", text)
    # Without any application the right answer to every path is: not yet.
    status, words = (404, "Not Found") if _routed(text) else (503, ERRORS[503][1])
    wait = " hdr Retry-After 1" if status == 503 else ""
    said = json.dumps({"detail": words})
    answer = (
        f"    http-request return status {status} content-type application/json string '{said}'"
    )
    return _NO_PATH.sub(answer + wait, text)


def _quoted(word: str) -> str:
    """Return a word of HAProxy's configuration, in which blanks and quotes stand for themselves."""
    return re.sub(r"""([\s\\#"'])""", r"\\\1", word)


def _rate(most: str | None) -> tuple[str, ...]:
    if not most:
        return ()
    said = json.dumps({"detail": f"more than {most} requests a second from this address"})
    return (
        f"http-request return status 429 content-type application/json string '{said}' "
        f"hdr Retry-After 1 if {{ sc0_http_req_rate gt {most} }}",
    )


def _routed(text: str) -> bool:
    return re.search(r"^ *use_backend ", text, re.MULTILINE) is not None


def write_errors(folder: Path) -> list[str]:
    """Write HAProxy's own answers as files, and return the lines that name them."""
    lines = []
    for status, (reason, words) in ERRORS.items():
        body = json.dumps({"detail": words})
        head = [f"HTTP/1.1 {status} {reason}", "Content-Type: application/json"]
        head += ["Retry-After: 1"] * (status == 503) + ["Cache-Control: no-cache"]
        head += [f"Content-Length: {len(body)}", "Connection: close"]
        file = folder / f"error-{status}.http"
        file.write_bytes("\r\n".join([*head, "", body]).encode())
        lines.append(f"errorfile {status} {file}")
    return lines


def die_with_parent() -> None:
    """Have the kernel end this process when its parent ends, however that ends."""
    ctypes.CDLL(None).prctl(PDEATHSIG, signal.SIGKILL)


def _watched_by_another(binary: str, file: Path) -> None:
    """Start a process that watches this one; it belongs to nobody, so that HAProxy has no child."""
    own, parent = os.getpid(), os.getppid()
    if child := os.fork():
        os.waitpid(child, 0)
        return
    if os.fork():
        os._exit(0)
    # Ray ends the group of the process that it has for HAProxy together with that.
    os.setsid()
    try:
        _watch(own, parent, binary, file)
    finally:
        os._exit(0)


def _watch(haproxy: int, manager: int, binary: str, file: Path) -> None:
    """Wait for the end of HAProxy, and stand in for it until Ray has another, or is gone."""
    ray = _parent(manager)
    # Where Ray has ended, its processes have another parent by now.
    if _name(ray) != "raylet" or not _wait_for_end([haproxy, ray]):
        return
    if not _runs(ray) or _replaced(haproxy, file):
        return
    with (file.parent / "standby.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:  # of two that died during a change, one is stood in for
            return
        _stand_in_until(_stand_in(binary, file), manager, ray)


def _stand_in_until(standby: "subprocess.Popen[bytes]", manager: int, ray: int) -> None:
    """Wait until a successor has ended a stand-in, or end it where none comes."""
    until = None
    while _runs(ray) and standby.poll() is None:
        time.sleep(0.1)
        if until is None and not _runs(manager):
            until = time.monotonic() + PATIENCE
        if until is not None and time.monotonic() > until:
            break
    standby.kill()
    standby.wait()


def _stand_in(binary: str, file: Path) -> "subprocess.Popen[bytes]":
    """Start HAProxy without what makes Ray think that it is its own."""
    copy = file.with_name("standby.cfg")
    copy.write_text(_ADMIN.sub("", file.read_text()))
    process = subprocess.Popen([binary, "-db", "-f", str(copy)], preexec_fn=die_with_parent)
    (file.parent / "standby.pid").write_text(str(process.pid))
    return process


def _wait_for_end(processes: Sequence[int]) -> bool:
    """Wait until one of the processes ends; False where one cannot be watched."""
    handles: list[int] = []
    try:
        for process in processes:
            handles.append(os.pidfd_open(process))
        select.select(handles, [], [])
    except ProcessLookupError:
        pass
    except OSError:
        return False
    for handle in handles:
        os.close(handle)
    return True


def _replaced(haproxy: int, file: Path) -> bool:
    """Whether Ray has started another HAProxy with this file, and that one runs."""
    current = _read_pid(file.parent / "haproxy.pid")
    return current not in (None, haproxy) and _runs(current)


def _parent(process: int) -> int:
    """Return the parent of a process, 0 where it is gone."""
    with contextlib.suppress(OSError):
        return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
    return 0


def _name(process: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{process}/comm").read_text().strip()
    return ""


def _runs(process: int | None) -> bool:
    """Whether a process runs; one that is dead and not yet waited for does not."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def _read_pid(file: Path) -> int | None:
    """Return the process of a file, None without the file or the process."""
    with contextlib.suppress(OSError, ValueError):
        process = int(file.read_text())
        return process if _runs(process) else None
    return None


if __name__ == "__main__":
    main(sys.argv[1:])
