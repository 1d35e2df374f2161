# What every script of hack/ shares: where things are, how to speak, how to get what is missing. Source it.
#
# Sets `repository` (this clone) and `cache` (built once, kept between runs: $PORTOLAN_CACHE, or .cache in the repository).
# shellcheck shell=bash

repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd -P)
cache=${PORTOLAN_CACHE:-$repository/.cache}
mkdir -p "$cache"
cache=$(cd "$cache" && pwd -P)

# Standard output belongs to results (paths, tables); what a script tells a person goes to standard error.
say() { printf '%s: %s\n' "$(basename "$0")" "$*" >&2; }
die() {
  say "$*"
  exit 1
}

is_root() { [[ $(id -u) -eq 0 ]]; }

# Prints the usage: the comment at the top of the calling script, without its first line.
usage() {
  awk 'NR == 1 { next } /^#/ { sub(/^# ?/, ""); print; next } { exit }' "$0"
}

# require COMMAND=PACKAGE… : installs the Debian packages of the commands (or files, if they start with a slash) that
# are missing when we are root on Debian, else names them.
require() {
  local pair missing=()
  for pair in "$@"; do
    case $pair in
      /*) [[ -e ${pair%%=*} ]] || missing+=("${pair#*=}") ;;
      *) command -v "${pair%%=*}" >/dev/null || missing+=("${pair#*=}") ;;
    esac
  done
  [[ ${#missing[@]} -gt 0 ]] || return 0
  if ! is_root || ! command -v apt-get >/dev/null; then
    die "missing: ${missing[*]} (names of Debian packages). Install them, or run this as root on Debian"
  fi
  say "installing ${missing[*]}"
  local log
  log=$(mktemp)
  # A package index that is days old answers 404: renew it and try once more.
  if ! _apt_install "${missing[@]}" >"$log" 2>&1 && ! { apt-get update && _apt_install "${missing[@]}"; } >"$log" 2>&1; then
    tail -n 20 "$log" >&2
    rm -f "$log"
    die "apt-get could not install ${missing[*]}"
  fi
  rm -f "$log"
}

_apt_install() {
  DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 install --yes --quiet --no-install-recommends "$@"
}

# until_ok SECONDS COMMAND… : repeats the command until it succeeds; fails when the time is over.
until_ok() {
  local deadline=$((SECONDS + $1))
  shift
  until "$@" >/dev/null 2>&1; do
    [[ $SECONDS -lt $deadline ]] || return 1
    sleep 0.1
  done
}
