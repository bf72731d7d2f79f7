"""Is a folder on a network file system?"""

from __future__ import annotations

from pathlib import Path

# SQLite's write-ahead log needs memory that all its users share. These file systems pretend to
# have it between machines, or between a machine and its host, and the database would suffer.
NETWORK_TYPES = frozenset(
    "9p afs beegfs ceph cifs davfs gfs2 glusterfs gpfs lustre ncpfs nfs nfs4 ocfs2 orangefs "
    "panfs pvfs2 smb3 smbfs vboxsf virtiofs".split()
)


def is_network_folder(folder: Path) -> bool:
    """Tell whether a folder may be shared by several machines.

    Parameters
    ----------
    folder : Path
        It exists.

    Returns
    -------
    bool
        False where the system does not say (no ``/proc``).
    """
    try:
        mounts = Path("/proc/self/mounts").read_text(errors="surrogateescape")
    except OSError:
        return False
    kind = file_system_type(folder.resolve(), mounts)
    return kind in NETWORK_TYPES or kind.startswith("fuse")


def file_system_type(folder: Path, mounts: str) -> str:
    """Find the file system of a folder in a table of mounts.

    Parameters
    ----------
    folder : Path
        Absolute, without links.
    mounts : str
        As ``/proc/self/mounts`` has it: device, mount point, type, ...

    Returns
    -------
    str
        "" if the table does not say.
    """
    best, kind = -1, ""
    for line in mounts.splitlines():
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        point = Path(_unescape(fields[1]))
        # Of two mounts on one point the later one is seen, hence >=.
        if len(point.parts) >= best and folder.is_relative_to(point):
            best, kind = len(point.parts), fields[2]
    return kind


def _unescape(text: str) -> str:
    for code, character in ((r"\040", " "), (r"\011", "\t"), (r"\012", "\n"), (r"\134", "\\")):
        text = text.replace(code, character)
    return text
