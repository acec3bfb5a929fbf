#!/bin/sh
# As the official image's: an empty PGDATA becomes a cluster of POSTGRES_USER, with POSTGRES_PASSWORD and POSTGRES_DB.
set -eu
[ "${1:-postgres}" = postgres ] || [ "${1#-}" != "$1" ] || exec "$@"
[ "${1:-}" != postgres ] || shift

from_file() { # VARIABLE: its value is in the file that VARIABLE_FILE names
  eval "file=\${$1_FILE:-}"
  [ -z "$file" ] || eval "$1=\$(cat \"\$file\")"
}
for variable in POSTGRES_USER POSTGRES_PASSWORD POSTGRES_DB; do from_file "$variable"; done

user=${POSTGRES_USER:-postgres}
database=${POSTGRES_DB:-$user}
if [ ! -s "$PGDATA/PG_VERSION" ]; then
  [ -n "${POSTGRES_PASSWORD:-}" ] || { echo "POSTGRES_PASSWORD is not set" >&2; exit 1; }
  mkdir -p "$PGDATA"
  chmod 700 "$PGDATA" 2>/dev/null || true
  # By a pipe: a file system that is read-only has no place for it, and an argument would be seen by all.
  printf '%s\n' "$POSTGRES_PASSWORD" | initdb -D "$PGDATA" --username="$user" --pwfile=/dev/stdin \
    --auth-host=scram-sha-256 --auth-local=trust --encoding=UTF8 --locale=C.UTF-8
  echo "host all all all scram-sha-256" >>"$PGDATA/pg_hba.conf"
  if [ "$database" != postgres ]; then
    printf 'CREATE DATABASE "%s";\n' "$(printf %s "$database" | sed 's/"/""/g')" |
      postgres --single -D "$PGDATA" postgres >/dev/null
  fi
fi
unset POSTGRES_PASSWORD
exec postgres -D "$PGDATA" -c listen_addresses='*' "$@"
