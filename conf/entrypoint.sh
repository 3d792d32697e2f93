#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# A container's entrypoint: the image's own command, with its database connections redirected to the sidecar.
#
#   COPY sidetrack-run libsidetrack.so entrypoint.sh /opt/sidetrack/
#   ENTRYPOINT ["/opt/sidetrack/entrypoint.sh", "/the/images/own/entrypoint"]
#
# SIDETRACK_TO     the proxy, default 127.0.0.1:6033: a sidecar in the same pod
# SIDETRACK_MATCH  what is redirected, default every connection to port 3306
# SIDETRACK_OFF=1  the command as it is
set -eu
here=$(cd "$(dirname "$0")" && pwd)

[ "${SIDETRACK_OFF:-0}" = 0 ] || exec "$@"
# exec: the command becomes process 1 and receives the container's signals itself. Where neither way of redirection is
# possible (a runtime that forbids seccomp filters), sidetrack-run says so and runs the command all the same.
exec "$here/sidetrack-run" --to "${SIDETRACK_TO:-127.0.0.1:6033}" -- "$@"
