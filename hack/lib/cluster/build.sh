# Builds the programs of the cluster from Go modules, once per version of their sources. Source it after common.sh and go.sh.
#
# Every program has its folder in the cache, named by a hash of what it is built from, and its own lock: who needs
# the API server does not wait for the kubelet.
# shellcheck shell=bash

_sources=$repository/hack/cluster.d

# built PROGRAM : prints the folder of the program (a folder of hack/cluster.d/MODULE), and builds it where it is missing.
built() {
  local module=${1%/*} program=${1#*/} key folder
  key=$(cd "$_sources/$module" && find go.mod go.sum "$program" -type f ! -name '*_test.go' -print0 | LC_ALL=C sort -z |
    xargs -0 sha256sum | sha256sum | cut -c1-12)
  folder=$cache/cluster/$program-$key
  if [[ ! -e $folder/.complete ]]; then
    mkdir -p "$folder"
    ( # the lock ends with this subshell
      exec 9>"$folder/.lock"
      if ! flock -n 9; then
        say "another run is building $program; waiting"
        flock 9
      fi
      [[ -e $folder/.complete ]] || _build "$module" "$program" "$folder"
    ) || return
  fi
  printf '%s\n' "$folder"
}

_build() {
  local module=$1 program=$2 folder=$3 go version flags=(-s -w) package=k8s.io/component-base/version start=$SECONDS name
  go=$(go_for 26) || return
  version=$(sed -n 's/^\tk8s.io\/kubernetes \(v[0-9.]*\)$/\1/p' "$_sources/$module/go.mod")
  if [[ -n $version ]]; then
    # Kubernetes' own build stamps these; a component without them calls itself v0.0.0 and version checks fail.
    IFS=. read -r major minor _ <<<"${version#v}"
    flags+=(-X "$package.gitVersion=$version" -X "$package.gitMajor=$major" -X "$package.gitMinor=$minor")
  fi
  say "building $program from Go modules (once; $(_expected_time "$program"))"
  if ! (cd "$_sources/$module" && CGO_ENABLED=0 GOTOOLCHAIN=local GOFLAGS=-mod=readonly nice -n 10 "$go" build -trimpath \
    -ldflags "${flags[*]}" -o "$folder/$program" "./$program") >"$folder/build.log" 2>&1; then
    tail -n 30 "$folder/build.log" >&2
    say "$program does not build; the whole log is $folder/build.log"
    return 1
  fi
  for name in $(_names "$program"); do
    ln -sf "$program" "$folder/$name"
  done
  touch "$folder/.complete"
  say "built $program in $((SECONDS - start)) s"
}

# The names that a program of several answers to.
_names() {
  case $1 in
    control-plane) echo kube-apiserver kubectl ;;
    node) echo kube-controller-manager kube-scheduler kubelet kube-proxy ;;
  esac
}

# On two cores, with nothing cached.
_expected_time() {
  case $1 in
    control-plane) echo "about 7 minutes on 2 cores" ;;
    node) echo "about 6 minutes on 2 cores" ;;
    *) echo "a few minutes on 2 cores" ;;
  esac
}
