"""Keeps one server running for as long as anybody holds the users' lock, then ends it and leaves nothing behind.

Run as a script of its own (`python -I -S supervisor.py SPEC`), so that the server belongs to no user: users come and
go, or are killed. It imports the standard library alone and starts in 20 ms.
"""

import ctypes
import fcntl
import json
import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from typing import Any

USERS_LOCK = "users.lock"  # shared: each user, for life; exclusive: the supervisor that ends its server
SUPERVISOR_LOCK = "supervisor.lock"
SERVER_LOCK = "server.lock"  # inherited by the server and its children: free only when all of them are gone
STATE = "server.json"
LOG = "server.log"

_UNUSED = "nobody uses the server"
_SHORT_LIFE = 2.0  # seconds; a server that ends earlier failed to start
_TRIES = 3
_STOP_TIMEOUT = 10.0
_PR_SET_PDEATHSIG = 1
_CLONE_NEWUSER = 0x10000000

_libc = ctypes.CDLL(None, use_errno=True)


class Unable(Exception):  # noqa: N818 - never leaves this process
    """Why there can be no server; the text goes to whoever started this process."""


class Supervisor:
    def __init__(self, spec: dict[str, Any], server_lock: int) -> None:
        self.spec = spec
        self.home = Path(spec["home"])
        self.data = self.home / "data"
        self.run_dir = self.home / "run"
        self.server_lock = server_lock
        self.identity = Identity.choose(spec) if spec["unprivileged"] and os.geteuid() == 0 else Identity()
        self.sockets = Path()
        self.events: SimpleQueue[str] = SimpleQueue()

    def run(self) -> None:
        self.sockets = self._private_directory(self.spec["sockets"])
        try:
            self._announce()
            self._prepare()
            signal.signal(signal.SIGTERM, lambda *_: self.events.put(_UNUSED))
            threading.Thread(target=self._wait_for_last_user, daemon=True).start()
            self._serve()
        finally:
            self._take_back()
            shutil.rmtree(self.sockets, ignore_errors=True)

    def _serve(self) -> None:
        """Run the server, again when it was killed, until nobody uses it. In the main thread: see `_in_child`."""
        short_lives = 0
        while True:
            started = time.monotonic()
            server = self._spawn(self._filled(self.spec["command"]))
            threading.Thread(target=self._wait_for_server, args=(server,), daemon=True).start()
            if self.events.get() == _UNUSED:
                self._stop(server)
                return
            short_lives = short_lives + 1 if time.monotonic() - started < _SHORT_LIFE else 0
            if short_lives == _TRIES:
                raise Unable(f"the server ended {_TRIES} times in a row")
            self._await_children()

    def _prepare(self) -> None:
        """Make the data directory: complete, or not at all."""
        if self.data.is_dir():
            self.identity.own(self.data)
        else:
            unfinished = self.home / "data.new"
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir(mode=0o700)
            self.identity.own(unfinished)
            if self.spec["prepare"]:
                command = self._filled(self.spec["prepare"], data=unfinished)
                if self._spawn(command, directory=unfinished).wait() != 0:
                    raise Unable("its data directory could not be made")
            unfinished.rename(self.data)
        for name in self.spec["stale"]:
            # A number in it may be another process's by now; the server's lock has told that none of ours lives.
            (self.data / name).unlink(missing_ok=True)

    def _spawn(self, command: list[str], directory: Path | None = None) -> "subprocess.Popen[bytes]":
        with (self.run_dir / LOG).open("ab") as log:
            return subprocess.Popen(  # noqa: S603 - a binary of an installed package
                command,
                cwd=directory or self.data,
                env=self.spec["environment"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(self.server_lock,),
                preexec_fn=self._in_child,  # noqa: PLW1509 - no other thread of this process holds a lock
            )

    def _in_child(self) -> None:
        self.identity.take_on()
        # After the change of identity, which clears it. It fires when the *thread* that forked ends: the main one.
        _libc.prctl(_PR_SET_PDEATHSIG, self.spec["death_signal"], 0, 0, 0)
        if os.getppid() != self.spec["pid"]:
            os._exit(1)

    def _stop(self, server: "subprocess.Popen[bytes]") -> None:
        server.send_signal(self.spec["stop_signal"])
        deadline = time.monotonic() + _STOP_TIMEOUT
        while server.returncode is None and time.monotonic() < deadline:
            time.sleep(0.005)
        if server.returncode is None:
            server.kill()

    def _await_children(self) -> None:
        """After the server was killed, wait until its children have noticed: two must not write to the same files."""
        os.close(self.server_lock)
        again = take(self.run_dir / SERVER_LOCK, _STOP_TIMEOUT)
        if again is None:
            raise Unable("children of a killed server do not end")
        self.server_lock = again
        for name in self.spec["stale"]:
            (self.data / name).unlink(missing_ok=True)

    def _wait_for_server(self, server: "subprocess.Popen[bytes]") -> None:
        server.wait()
        self.events.put("the server ended")

    def _wait_for_last_user(self) -> None:
        """Take the users' lock and keep it to the end of this process: a newcomer waits and starts another server."""
        users = os.open(self.run_dir / USERS_LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(users, fcntl.LOCK_EX)
        self.events.put(_UNUSED)

    def _announce(self) -> None:
        """Say where the sockets are. Users read it here and compute nothing: their temp folder may be another."""
        new = self.run_dir / f"{STATE}.new"
        new.write_text(json.dumps({"pid": os.getpid(), "sockets": str(self.sockets)}), encoding="utf-8")
        new.rename(self.run_dir / STATE)

    def _take_back(self) -> None:
        """Remove what was announced; where the directory was made anew meanwhile, the file is another supervisor's."""
        with suppress(FileNotFoundError, ValueError):
            if json.loads((self.run_dir / STATE).read_text("utf-8"))["pid"] == os.getpid():
                (self.run_dir / STATE).unlink()

    def _private_directory(self, path: str) -> Path:
        """Make the directory for the sockets, or one beside it where somebody else was there first."""
        try:
            os.mkdir(path, 0o700)  # noqa: PTH102 - with this mode, whatever the umask
        except FileExistsError:
            found = os.lstat(path)
            if not stat.S_ISDIR(found.st_mode) or found.st_uid not in {os.geteuid(), self.identity.uid}:
                path = tempfile.mkdtemp(prefix=f"{Path(path).name}-", dir=Path(path).parent)
            else:
                for stale in Path(path).iterdir():
                    stale.unlink()
        os.chmod(path, 0o700)  # noqa: PTH101
        self.identity.own(Path(path))
        return Path(path)

    def _filled(self, command: list[str], data: Path | None = None) -> list[str]:
        places = {"{data}": str(data or self.data), "{sockets}": str(self.sockets)}
        for place, path in places.items():
            command = [word.replace(place, path) for word in command]
        return command


class Identity:
    """Who the server runs as: whoever started it."""

    uid = os.geteuid()

    def take_on(self) -> None:
        """In the forked child."""

    def own(self, path: Path) -> None:
        """Make the server the owner of a directory and all in it."""

    @staticmethod
    def choose(spec: dict[str, Any]) -> "Identity":
        """For a server that refuses to run as root, when root starts it."""
        namespace = Namespace()
        if spec["namespace"] and namespace.works():
            return namespace
        return OtherUser(spec)


class Namespace(Identity):
    """Root under another number, in a user namespace of its own: files stay root's and no directory is opened."""

    def __init__(self) -> None:
        self._inside = next((each for each in pwd.getpwall() if each.pw_uid not in {0, 65534}), None)

    def works(self) -> bool:
        """Try it. Containers without the privilege refuse it."""
        if self._inside is None:
            return False
        child = os.fork()
        if child == 0:
            try:
                self.take_on()
            finally:
                os._exit(0 if os.geteuid() != 0 else 1)
        return os.waitpid(child, 0)[1] == 0

    def take_on(self) -> None:
        assert self._inside is not None  # noqa: S101 - `works` was asked first
        if _libc.unshare(_CLONE_NEWUSER) != 0:
            raise OSError(ctypes.get_errno(), "unshare")
        Path("/proc/self/setgroups").write_text("deny", encoding="ascii")
        Path("/proc/self/uid_map").write_text(f"{self._inside.pw_uid} 0 1", encoding="ascii")
        Path("/proc/self/gid_map").write_text(f"{self._inside.pw_gid} 0 1", encoding="ascii")

    def own(self, path: Path) -> None:
        change_owner(path, 0, 0)


class OtherUser(Identity):
    """The system's `postgres` or `nobody`, where root cannot have a namespace. No directory is opened for it."""

    def __init__(self, spec: dict[str, Any]) -> None:
        user = next((each for each in pwd.getpwall() if each.pw_name in {"postgres", "nobody"}), None)
        if user is None:
            raise Unable("it does not run as root, and there is no user `postgres` or `nobody` for it")
        self._user = user
        self.uid = user.pw_uid
        closed = self._first_closed([Path(spec["home"]), Path(spec["command"][0])])
        if closed is not None:
            raise Unable(
                f"it does not run as root, and {closed} is closed to the user {user.pw_name!r} that it would run as; "
                "choose a data_dir, and an environment, that others may enter, or do not run as root"
            )

    def take_on(self) -> None:
        os.setgroups([])
        os.setresgid(self._user.pw_gid, self._user.pw_gid, self._user.pw_gid)
        os.setresuid(self.uid, self.uid, self.uid)

    def own(self, path: Path) -> None:
        change_owner(path, self.uid, self._user.pw_gid)

    def _first_closed(self, paths: list[Path]) -> Path | None:
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                self.take_on()
                for path in paths:
                    for each in [*reversed(path.parents), path]:
                        if not os.access(each, os.X_OK):
                            os.write(writer, os.fsencode(each))
                            os._exit(0)
            finally:
                os._exit(0)
        os.close(writer)
        with open(reader, "rb") as answer:  # noqa: PTH123 - a descriptor
            closed = answer.read()
        os.waitpid(child, 0)
        return Path(os.fsdecode(closed)) if closed else None


def change_owner(path: Path, uid: int, gid: int) -> None:
    """Give a tree to a user, when its root is not the user's already."""
    if path.stat().st_uid == uid:
        return
    for directory, _, files in os.walk(path):
        for name in (".", *files):
            os.chown(os.path.join(directory, name), uid, gid, follow_symlinks=False)  # noqa: PTH118


def take(path: Path, seconds: float) -> int | None:
    """Lock a file for this process and those that inherit it; None when others hold it for longer."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                os.close(descriptor)
                return None
            time.sleep(0.005)
        else:
            return descriptor


def main(spec: dict[str, Any], report: Callable[[str], object]) -> int:
    run_dir = Path(spec["home"]) / "run"
    os.chdir("/")
    os.umask(0o077)
    # Another supervisor may be about to start, after its starter was killed. Then this one is not needed.
    if take(run_dir / SUPERVISOR_LOCK, 1.0) is None:
        return 0
    server_lock = take(run_dir / SERVER_LOCK, _STOP_TIMEOUT)
    if server_lock is None:
        report("an earlier server of this directory does not end")
        return 1
    try:
        Supervisor({**spec, "pid": os.getpid()}, server_lock).run()
    except (Unable, OSError, subprocess.SubprocessError) as error:
        report(str(error))
        return 1
    return 0


if __name__ == "__main__":
    if os.fork() == 0:  # the starter waits for the first process, and the second is nobody's child
        code = main(json.loads(sys.argv[1]), lambda text: os.write(1, text.encode()))
        os._exit(code)
