# Builds command-line tools from Go modules, once per version. Source it after common.sh and go.sh.
# shellcheck shell=bash

# go_tool NAME PACKAGE VERSION : prints the path of the tool; builds it into the cache where it is missing.
go_tool() {
  local name=$1 package=$2 version=$3 folder=$cache/tools/$1-$3 go
  if [[ ! -x $folder/$name ]]; then
    go=$(go_for 26) || return
    mkdir -p "$folder"
    (
      exec 9>"$folder/.lock"
      flock 9
      [[ ! -x $folder/$name ]] || exit 0
      say "building $name $version from its Go module (once; some minutes on 2 cores)"
      if ! GOBIN=$folder GOTOOLCHAIN=local CGO_ENABLED=0 nice -n 10 "$go" install -trimpath -ldflags '-s -w' "$package@$version" >"$folder/build.log" 2>&1; then
        tail -n 30 "$folder/build.log" >&2
        say "$name does not build; the whole log is $folder/build.log"
        exit 1
      fi
    ) || return
  fi
  printf '%s\n' "$folder/$name"
}
