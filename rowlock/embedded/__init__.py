"""A PostgreSQL server of one's own for demos, development and tests: found, started, joined and stopped.

The server listens on a Unix socket only, in a folder that nobody else may enter, which is why it asks for no password.
PostgreSQL refuses to run as root; started by root, it runs as `postgres` (or `nobody`), and what that user cannot reach
(a virtual environment or a project below a 0700 folder) is kept in `/var/lib/rowlock` instead.

What lies in the folder of a server (`EmbeddedServer.location`):

    data/         the cluster
    run/          the socket, unless the path would be too long for one: then in the system's temporary folder
    server.log    what the server of this run said; `server.log.1`: of the run before
    start.lock    held while somebody starts or stops it
    use.lock      shared by all that use it
    owner.lock    held for as long as the process lives that will stop it
"""

from rowlock.embedded.folders import make_private_directory
from rowlock.embedded.programs import find_binaries, server_command
from rowlock.embedded.server import EmbeddedServer, temporary_server

__all__ = ["EmbeddedServer", "find_binaries", "make_private_directory", "server_command", "temporary_server"]
