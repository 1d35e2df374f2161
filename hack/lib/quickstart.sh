# The world of hack/quickstart: two echo backends and a standalone on a copy of the samples, all in one private folder that
# is gone afterwards. Source it after common.sh.
#
# Every process has a session of its own, so that Ctrl-C at the terminal reaches the script alone: it lets the standalone drain
# first and ends the backends last, and no request is lost on the way.
# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154 # repository: common.sh; smoke: the script; http, https: for requests.sh

# Of the samples: the hostname that HTTPS serves, and the Secret that its listener wants.
quickstart_host=shop.example.com
quickstart_secret=default/shop-example-com
# Seconds that connections may take to end when everything stops, and that a start may take.
quickstart_drain=5
quickstart_patience=60

backends=() followers=()

# Compiles both programs; cargo shows its own progress. Sets `portolan` and `portolan_echo`.
quickstart_build() { # profile of cargo
  local target=${CARGO_TARGET_DIR:-$repository/target} folder=$1
  # The folder of profile dev has another name.
  [[ $folder != dev ]] || folder=debug
  (cd "$repository" && cargo build --locked --profile "$1" --target-dir "$target" \
    --package portolan --bin portolan --package portolan-e2e --bin portolan-echo) || return
  target=$(cd "$repository" && cd "$target" && pwd -P) || return
  portolan=$target/$folder/portolan
  portolan_echo=$target/$folder/portolan-echo
}

# Makes the folder, starts everything in it, and waits until all is programmed. Sets `work`, `manifests`, `http` and `https` (where the
# Gateway's ports are bound, as ADDRESS:PORT), and the ports `blue` and `green` of the backends.
quickstart_start() { # path of Envoy
  envoy=$1
  work=$(mktemp -d "${TMPDIR:-/tmp}/portolan-quickstart.XXXXXX")
  manifests=$work/manifests
  # Not the user's own state folder: this one goes away with the rest.
  export PORTOLAN_STATE=$work/state
  cp -R "$repository/config/samples/quickstart" "$manifests"
  chmod -R u+w "$manifests"
  "$portolan_echo" cert --dir "$work/certificate" --host "$quickstart_host" --secret "$quickstart_secret"
  mv "$work/certificate/secret.yaml" "$manifests/secret.yaml"

  _quickstart_backend blue
  _quickstart_backend green
  blue=$(_quickstart_port blue) green=$(_quickstart_port green)
  sed -i "s/port: 18081/port: $blue/; s/port: 18082/port: $green/" "$manifests/backends.yaml"
  cp -R "$manifests" "$work/as-started"

  quickstart_standalone
  http=$(_quickstart_address 80) https=$(_quickstart_address 443)
}

# Sets `standalone`, its process.
_quickstart_launch() {
  setsid "$portolan" standalone "$manifests" --envoy "$envoy" --drain-time "$quickstart_drain" \
    >>"$work/portolan.log" 2>&1 </dev/null &
  standalone=$!
}

# Starts the standalone and waits until all is programmed.
quickstart_standalone() {
  _quickstart_launch
  local deadline=$((SECONDS + quickstart_patience))
  until "$portolan" status "$manifests" --wait 1 >"$work/status" 2>&1; do
    if _quickstart_gone "$standalone"; then
      tail -n 20 "$work/portolan.log" >&2
      die "portolan standalone ended; the end of its log is above"
    fi
    if [[ $SECONDS -ge $deadline ]]; then
      tail -n 20 "$work/portolan.log" >&2
      cat "$work/status" >&2
      die "not everything was programmed after $quickstart_patience s; the end of the log and the status are above"
    fi
  done
}

_quickstart_backend() { # name
  setsid "$portolan_echo" --instance "$1" --http 127.0.0.1:0 --print-ports \
    >"$work/$1.ports" 2>"$work/$1.log" </dev/null &
  backends+=($!)
  until_ok "$quickstart_patience" _quickstart_port "$1" || {
    cat "$work/$1.log" >&2
    die "the echo backend $1 did not start"
  }
}

# The port that the system gave a backend.
_quickstart_port() { # name
  grep -oE '"http":"127\.0\.0\.1:[0-9]+"' "$work/$1.ports" | grep -oE '[0-9]+"$' | tr -d '"'
}

# Where a port of the Gateway is bound.
_quickstart_address() { # port of the API
  "$portolan" status "$manifests" -o json | tr -d ' \n' | grep -oE "\"$1/tcp\":\[\"[^\"]+" | grep -oE '[^"]+$'
}

_quickstart_gone() { ! kill -0 "$1" 2>/dev/null; }

# Shows the standalone's log for as long as it runs. Killed, it is started again, as a service manager would: its proxies
# have gone on serving, and it finds them.
quickstart_follow() {
  tail -n 0 -f "$work/portolan.log" &
  followers+=($!)
  local code
  while :; do
    code=0
    wait "$standalone" 2>/dev/null || code=$?
    [[ $code -gt 128 ]] || die "portolan standalone ended with $code"
    say "portolan standalone was killed; starting it again"
    quickstart_standalone
  done
}

# Ends what was started: the standalone first, which drains its proxies, then the backends. Keeps what the user edited.
quickstart_stop() {
  [[ -n ${work:-} ]] || return 0
  if [[ -n ${standalone:-} ]]; then
    # A standalone that was killed left its proxies serving, on purpose: the next one finds them and ends them.
    if _quickstart_gone "$standalone"; then
      _quickstart_launch
      until_ok "$quickstart_patience" "$portolan" status "$manifests" || true
    fi
    # The second Ctrl-C waits for nothing.
    trap 'kill -TERM "$standalone" 2>/dev/null' INT TERM
    kill -TERM "$standalone" 2>/dev/null || true
    until _quickstart_gone "$standalone"; do wait "$standalone" 2>/dev/null || true; done
  fi
  kill -TERM "${backends[@]}" "${followers[@]}" 2>/dev/null || true
  wait
  _quickstart_keep_edits
  rm -rf "$work"
}

_quickstart_keep_edits() {
  [[ -z $smoke && -d $work/as-started && -d $manifests ]] || return 0
  if ! diff -qr "$work/as-started" "$manifests" >/dev/null; then
    local kept
    kept=$(mktemp -d "${TMPDIR:-/tmp}/portolan-manifests.XXXXXX")
    cp -R "$manifests/." "$kept" || return 0
    say "your edited manifests are kept in $kept"
  fi
}
