"""Files and sockets that hostile programs try to reach."""

import contextlib
import os
import shutil
import socket
import tempfile
from dataclasses import dataclass
from pathlib import Path

SECRET = "kept-from-programs"


@dataclass
class World:
    """Files and sockets that a program could reach if it escaped."""

    folder: Path
    sockets: dict[str, socket.socket]

    def fill(self, source):
        return source.format(
            secret=self.folder / "secret",
            folder=self.folder,
            tcp=self.sockets["tcp"].getsockname()[1],
            udp=self.sockets["udp"].getsockname()[1],
            unix=self.folder / "socket",
            abstract=f"reason_envs_{os.getpid()}",
            parent=os.getpid(),
        )

    def is_untouched(self):
        """Return whether the files are unchanged and no program connected to the sockets."""
        files = {path.name: path.stat().st_size for path in self.folder.iterdir() if path.name != "__pycache__"}
        return files == {"secret": len(SECRET), "victim": 6, "planted.py": 0, "socket": 0} and not any(
            reached(listening) for listening in self.sockets.values()
        )


def reached(listening):
    listening.setblocking(False)
    try:
        if listening.type == socket.SOCK_DGRAM:
            return bool(listening.recv(1))
        listening.accept()[0].close()
        return True
    except BlockingIOError:
        return False


@contextlib.contextmanager
def open_world():
    """Create files and sockets that no program may reach."""
    folder = Path(tempfile.mkdtemp())  # not one of pytest, which other users cannot enter
    try:
        folder.chmod(0o777)
        for name, text in {"secret": SECRET, "victim": "victim", "planted.py": ""}.items():
            (folder / name).write_text(text)
            (folder / name).chmod(0o666)
        listening = {
            "tcp": socket.create_server(("127.0.0.1", 0)),
            "udp": socket.socket(socket.AF_INET, socket.SOCK_DGRAM),
            "unix": socket.socket(socket.AF_UNIX),
            "abstract": socket.socket(socket.AF_UNIX),
        }
        listening["udp"].bind(("127.0.0.1", 0))
        listening["unix"].bind(str(folder / "socket"))
        (folder / "socket").chmod(0o777)
        listening["abstract"].bind(f"\0reason_envs_{os.getpid()}")
        listening["unix"].listen()
        listening["abstract"].listen()
        yield World(folder, listening)
        for each in listening.values():
            each.close()
    finally:
        shutil.rmtree(folder)
