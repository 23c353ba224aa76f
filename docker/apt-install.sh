#!/bin/sh
# Installs a Debian or Ubuntu package, as root or by sudo; says what to do where neither is there.
set -eu
as_root=
if [ "$(id -u)" -ne 0 ]; then
  command -v sudo >/dev/null || { echo "please install '$*' (no root and no sudo here)" >&2; exit 1; }
  as_root=sudo
fi
command -v apt-get >/dev/null || { echo "please install '$*' (no apt-get here)" >&2; exit 1; }
$as_root apt-get update -qq
DEBIAN_FRONTEND=noninteractive $as_root apt-get install -y -qq --no-install-recommends "$@" >/dev/null
