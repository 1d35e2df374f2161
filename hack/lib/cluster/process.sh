# Starts, watches and stops the processes of one cluster by the ids it recorded. Source it after common.sh.
#
# Needs `state`, the cluster's folder: run/NAME.pid holds a process's id and the time it was started at (an id alone may
# belong to somebody else by now), run/NAME.command how it was started, run/NAME.configuration the hash of the files it
# was started with, log/NAME.log what it said.
# shellcheck shell=bash

declare -A _started=() # the components that this run of the script has started

# configuration FILE : writes standard input to the file in the state folder, unless it holds just that: some components end
# when their file is touched.
configuration() {
  local text
  text=$(cat)
  [[ $text == "$(cat "$state/$1" 2>/dev/null)" ]] || printf '%s\n' "$text" >"$state/$1"
}

# start NAME COMMAND… : starts the process unless it runs already, with just this command and these configuration files.
start() {
  local name=$1 command files
  shift
  command=$(printf '%q ' "$@")
  files=$(printf '%s\n' "$@" | sed -n "s,^\(-[^=]*=\)\?\($state/[^ ]*\.\(yaml\|toml\|kubeconfig\)\|$state/Corefile\)$,\2,p" |
    xargs --no-run-if-empty cat | sha256sum)
  if alive "$name"; then
    if [[ $command == "$(cat "$state/run/$name.command" 2>/dev/null)" &&
      $files == "$(cat "$state/run/$name.configuration" 2>/dev/null)" ]]; then
      return 0
    fi
    say "$name was started differently; starting it again"
    stop "$name"
  elif [[ -e $state/run/$name.pid ]]; then
    say "$name is dead; starting it again"
  fi
  mkdir -p "$state/run" "$state/log"
  printf '%s' "$command" >"$state/run/$name.command"
  printf '%s' "$files" >"$state/run/$name.configuration"
  # Descriptor 9 is the lock of this script: a child that kept it would hold the lock for ever.
  setsid "$@" >>"$state/log/$name.log" 2>&1 </dev/null 9>&- &
  printf '%s %s\n' $! "$(_started_at $!)" >"$state/run/$name.pid"
  _started[$name]=yes
}

# The start time of a process (clock ticks since boot) and the boot; together with the id it names one process for ever.
_started_at() {
  local stat
  stat=$(cat "/proc/$1/stat" 2>/dev/null) || return
  # The second field is the name in parentheses and may hold anything; the start time is the 20th after it.
  read -r -a stat <<<"${stat##*) }"
  printf '%s@%s' "${stat[19]}" "$(cat /proc/sys/kernel/random/boot_id)"
}

# alive NAME : whether the recorded process still runs.
alive() {
  local pid started
  read -r pid started 2>/dev/null <"$state/run/$1.pid" || return 1
  [[ -n $started && $started == "$(_started_at "$pid")" ]] && ! _zombie "$pid"
}

_zombie() { [[ $(sed 's/.*) //' "/proc/$1/stat" 2>/dev/null) == Z* ]]; }

# stop NAME : asks the process to end, and after 10 seconds makes it.
stop() {
  local name=$1 pid
  if alive "$name"; then
    read -r pid _ <"$state/run/$name.pid"
    kill -TERM "$pid" 2>/dev/null || true
    if ! until_ok 10 _dead "$name"; then
      say "$name did not end within 10 s; killing it"
      kill -KILL "$pid" 2>/dev/null || true
      until_ok 5 _dead "$name" || say "$name (process $pid) cannot be killed"
    fi
  fi
  rm -f "$state/run/$name".{pid,command,configuration}
}

_dead() { ! alive "$1"; }

# await NAME SECONDS COMMAND… : waits until the command succeeds. A process that was there before and does not answer is
# started again. If the command still fails, or the process dies, prints the end of its log and ends the script.
await() {
  local name=$1 seconds=$2 deadline
  shift 2
  if [[ -z ${_started[$name]:-} ]] && alive "$name" && ! until_ok 5 "$@"; then
    local again=()
    eval "again=($(cat "$state/run/$name.command"))" # words that `start` quoted
    say "$name runs but does not answer; starting it again"
    stop "$name"
    start "$name" "${again[@]}"
  fi
  deadline=$((SECONDS + seconds))
  until "$@" >/dev/null 2>&1; do
    alive "$name" || _blame "$name" "it died"
    [[ $SECONDS -lt $deadline ]] || _blame "$name" "it is not ready after $seconds s"
    sleep 0.1
  done
  # What answered may be somebody else, on the port that our process did not get.
  alive "$name" || _blame "$name" "it died"
}

_blame() {
  tail -n 30 "$state/log/$1.log" | cut -c1-400 | sed 's/^/    /' >&2
  die "$1 failed: $2. Above is the end of $state/log/$1.log"
}

# listens ADDRESS PORT : whether something accepts TCP connections there.
listens() { timeout 2 bash -c 'exec 3<>"/dev/tcp/$0/$1"' "$1" "$2" 2>/dev/null; }
