"""An embedded PostgreSQL server for demos, development and tests: find it, start it, join it, stop it.

The server listens only on a Unix socket, in a folder that only its user may enter; so it asks for no password.
PostgreSQL refuses to run as root. Started by root, the server runs as `postgres` (or `nobody`), and files that this
user cannot reach (a virtual environment or a project below a 0700 folder) go to `/var/lib/rowlock` instead.

The folder of a server (`EmbeddedServer.location`):

    data/         the cluster
    run/          the socket; if the path is too long for a socket, it is in the system's temporary folder
    server.log    the server's log of this run; `server.log.1`: of the run before
    start.lock    locked while a process starts or stops the server
    use.lock      shared by all users of the server
    owner.lock    locked as long as the process lives that will stop the server
"""

from rowlock.embedded.folders import make_private_directory
from rowlock.embedded.programs import find_binaries, server_command
from rowlock.embedded.server import EmbeddedServer, temporary_server

__all__ = ["EmbeddedServer", "find_binaries", "make_private_directory", "server_command", "temporary_server"]
