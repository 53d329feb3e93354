"""The disks of a run: the server's, and a smaller one for its WAL. If root can mount them, they can be filled up."""

from __future__ import annotations

import shutil
import subprocess
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from rowlock.embedded import make_private_directory
from rowlock.embedded.programs import give_to_server_user

if TYPE_CHECKING:
    from pathlib import Path

DISK_BYTES: Final = 6 * 1024**3
WAL_BYTES: Final = 3 * 1024**3
ATTEMPTS: Final = 5
REMOVE_SECONDS: Final = 5.0
SPARE_BYTES: Final = 4 * 1024**2
"""Room for writes while the disk shrinks: the kernel refuses a size below its use."""


class Volume:
    """One folder: a small in-memory disk, if this process may mount it."""

    def __init__(self, location: Path, size: int) -> None:
        self.location = location
        self._size = size
        location.mkdir()
        self.can_be_filled = _mount("-t", "tmpfs", "-o", f"size={size},mode=0700", "tmpfs", str(location))
        give_to_server_user(location)
        self._ballast = location / "ballast"
        self._lock = threading.Lock()
        self._is_over = False

    def fill(self) -> None:
        """Shrink the disk to its contents, and use up the last pages; does nothing once it is unmounted."""
        with self._lock:
            if self.can_be_filled and not self._is_over:
                self._fill()

    def _fill(self) -> None:
        for _ in range(ATTEMPTS):  # other writes may use more meanwhile
            if self._resize(shutil.disk_usage(self.location).used + SPARE_BYTES):
                break
        with suppress(OSError), self._ballast.open("wb") as file:
            while True:
                file.write(b"\0" * 4096)
                file.flush()

    def free(self) -> None:
        """Release the space again."""
        with self._lock:
            self._ballast.unlink(missing_ok=True)
            self._resize(self._size)

    def _resize(self, size: int) -> bool:
        return self.can_be_filled and not self._is_over and _mount("-o", f"remount,size={size}", str(self.location))

    def unmount(self) -> None:
        """Unmount the disk, if it was mounted."""
        with self._lock:
            self._is_over = True
        if self.can_be_filled:
            subprocess.run(["umount", "--lazy", str(self.location)], capture_output=True, check=False)  # noqa: S607


def _mount(*arguments: str) -> bool:
    """Mount, and return whether this process was allowed to."""
    mount = shutil.which("mount")
    return mount is not None and subprocess.run([mount, *arguments], capture_output=True, check=False).returncode == 0


class Disk:
    """A private folder with two volumes: `data` for the servers, and `wal` for their write-ahead logs."""

    def __init__(self) -> None:
        self.folder = make_private_directory("rowlock-torture-")
        self.data = Volume(self.folder / "disk", DISK_BYTES)
        self.wal = Volume(self.folder / "wal", WAL_BYTES)

    @property
    def can_be_filled(self) -> bool:
        """Whether both volumes are separate disks."""
        return self.data.can_be_filled and self.wal.can_be_filled

    def remove(self) -> None:
        """Remove everything; retry for a while, if a killed process still wrote."""
        self.data.unmount()
        self.wal.unmount()
        deadline = time.monotonic() + REMOVE_SECONDS
        while True:
            shutil.rmtree(self.folder, ignore_errors=True)
            if not self.folder.exists() or time.monotonic() > deadline:
                return
            time.sleep(0.05)


__all__ = ["Disk", "Volume"]
