# The requests of hack/quickstart, written once: shown as curl lines to try, or sent and compared with what should come back.
# Source it after common.sh and quickstart.sh.
# shellcheck shell=bash
# shellcheck disable=SC2016,SC2154 # $ in scripts for sed; portolan, work, manifests, http, https, green: quickstart_start

# Counted by `outcome`.
matched=0 missed=0

# Calls `$1 TITLE EXPECTED curl-arguments…` for each request.
each_request() {
  local host="Host: $quickstart_host" http=${http%:80}
  "$1" "by weight: 9 to blue, 1 to green" "200 blue|green /" -H "$host" "http://$http/"
  "$1" "a header leads to green" "200 green /" -H "$host" -H "x-tester: yes" "http://$http/"
  "$1" "a prefix leads to blue, and is cut off" "200 blue /orders" -H "$host" "http://$http/api/orders"
  "$1" "a redirect to HTTPS" "301 https://$quickstart_host/sale" -H "Host: old.example.com" "http://$http/sale"
  "$1" "HTTPS, with a certificate of its own" "200 blue /cart" --cacert "$work/certificate/ca.crt" \
    --resolve "$quickstart_host:${https##*:}:${https%:*}" "https://$quickstart_host$(_https_port)/api/cart"
  "$1" "a host that no route has" "404" -H "Host: nobody.example.com" "http://$http/"
}

# What a URL must say of the HTTPS port.
_https_port() { [[ ${https##*:} == 443 ]] || printf ':%s' "${https##*:}"; }

# Shows a request as a line to type.
show_request() { # title, expected, curl arguments…
  local word line="curl -i"
  for word in "${@:3}"; do
    [[ $word != *[!A-Za-z0-9_./:=-]* ]] || word="'$word'"
    line+=" $word"
  done
  printf '  # %s\n  %s\n' "$1" "$line"
}

# Sends a request and compares.
check_request() { # title, expected, curl arguments…
  local seen
  seen=$(answer "${@:3}")
  outcome "$1" "$2" "$seen"
}

# Sends what one request cannot show, and edits a manifest while all runs.
check_rest() {
  local host="Host: $quickstart_host" routes=$manifests/routes.yaml share verdict line

  # 30 in the mean, with a deviation of 5.2: outside of 8 to 60 less often than once in a hundred thousand runs.
  share=$(curl --silent --max-time 60 -H "$host" "http://$http/weights?[1-300]" --output "$work/body" --dump-header - |
    tr -d '\r' | grep -ic '^x-echo-instance: green$') || true
  verdict=$share
  if [[ $share -ge 8 && $share -le 60 ]]; then verdict="about 30"; fi
  outcome "of 300 requests, the share of green" "about 30" "$share" "$verdict"

  # A path that is asked for once: green has seen it only if it was mirrored.
  answer -H "$host" "http://$http/api/mirrored" >/dev/null
  outcome "green has a copy of a request to blue" "1" "$(until_seen 1 copies_at_green /mirrored)"

  edit 's/replacePrefixMatch: .*/replacePrefixMatch: \/v2/'
  outcome "an edit: the prefix becomes /v2" "200 blue /v2/orders" \
    "$(until_seen "200 blue /v2/orders" answer -H "$host" "http://$http/api/orders")"

  # Two spaces too many: the document is broken, and its route stays as it was.
  edit 's/^ *replacePrefixMatch:/  &/'
  line=$(sed -n '/replacePrefixMatch:/=' "$routes")
  outcome "a mistake: status names its place" "routes.yaml:$line" "$(until_seen "routes.yaml:$line" first_problem)"
  outcome "a mistake: what worked goes on" "200 blue /v2/orders" "$(answer -H "$host" "http://$http/api/orders")"
  edit 's/^  \( *replacePrefixMatch:\)/\1/'
  outcome "mended: status has no more to say" "nothing" "$(until_seen "nothing" first_problem)"
}

# Changes routes.yaml as an editor would: the new file takes the place of the old one at once.
edit() { # script for sed
  sed "$1" "$manifests/routes.yaml" >"$work/edited"
  mv "$work/edited" "$manifests/routes.yaml"
}

# How many requests for a path reached the second backend.
copies_at_green() { # path
  curl --silent --max-time 10 "http://127.0.0.1:$green/_seen?path=$1" | sed -n 's/.*"count":\([0-9]*\).*/\1/p'
}

# FILE:LINE of the first problem that `portolan status` shows.
first_problem() {
  local found
  found=$("$portolan" status "$manifests" | sed -n '/^PROBLEMS/,$p' | grep -oE '[^/]+:[0-9]+:[0-9]+: error' | head -n 1)
  found=${found%:*:*}
  printf '%s\n' "${found:-nothing}"
}

# What came back: the status, and the backend with the path that reached it, or where a redirect points to.
answer() { # curl arguments…
  local seen name
  seen=$(curl --silent --show-error --max-time 10 --dump-header "$work/headers" --output "$work/body" \
    --write-out '%{http_code}' "$@" 2>"$work/curl.log") || {
    tail -n 1 "$work/curl.log"
    return
  }
  for name in x-echo-instance location; do
    seen+=$(tr -d '\r' <"$work/headers" | sed -n "s/^$name:\( .*\)/\1/ip")
  done
  printf '%s%s\n' "$seen" "$(sed -n 's/^{"path":"\([^"]*\)".*/ \1/p' "$work/body")"
}

# Repeats a command until it prints what is expected, ten seconds at most; prints the last answer, and when it came.
until_seen() { # expected, command…
  local expected=$1 start seen took
  shift
  start=$(date +%s%N)
  while :; do
    seen=$("$@")
    took=$((($(date +%s%N) - start) / 1000000))
    [[ $seen != "$expected" && $took -lt 10000 ]] || break
    sleep 0.02
  done
  printf '%s (after %d ms)\n' "$seen" "$took"
}

# Prints one line of the result. What is expected may name alternatives, as in `blue|green`.
outcome() { # title, expected, seen, what to compare instead of it
  local word mark=ok pattern='' compared=${4:-${3% (after *}}
  for word in $2; do pattern+=" @($word)"; done
  # shellcheck disable=SC2053 # a pattern on purpose
  if [[ " $compared" == $pattern ]]; then
    matched=$((matched + 1))
  else
    missed=$((missed + 1)) mark=FAILED
  fi
  printf '%-7s %-40s %-34s %s\n' "$mark" "$1" "$2" "$3"
}
