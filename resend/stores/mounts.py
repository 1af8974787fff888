"""On what kind of file system a path lies, and on which of them locks cannot be trusted.

Told on Linux only. Raises nothing: where the system does not tell, the kind is "".
"""

from __future__ import annotations

from pathlib import Path

MOUNTS = Path("/proc/self/mountinfo")
# flock or shared memory is not dependable there (sqlite.org/wal.html: WAL needs one host)
NETWORK = {"nfs", "nfs4", "cifs", "smb", "smb2", "smb3", "smbfs", "9p", "afs", "ceph", "gfs2", "ocfs2"} | {
    "fuse.sshfs",
    "fuse.glusterfs",
    "glusterfs",
    "lustre",
    "beegfs",
}


def file_system(path: Path, mounts: Path = MOUNTS) -> str:
    """Type of the file system that holds `path`, for example ext4."""
    try:
        lines = mounts.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    best, kind = -1, ""
    for line in lines:
        left, _, right = line.partition(" - ")
        fields, right_fields = left.split(), right.split()
        if len(fields) < 5 or not right_fields:
            continue
        point = Path(fields[4].replace("\\040", " "))
        if path.is_relative_to(point) and len(point.parts) >= best:  # a later mount hides an earlier one
            best, kind = len(point.parts), right_fields[0]
    return kind
