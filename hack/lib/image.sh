# Builds container images into archives, without an image registry. Source it after common.sh.
# shellcheck shell=bash

# image_build NAME CONTAINERFILE CONTEXT [BUILD-ARG…] : prints the path of an archive that holds the image under NAME.
# It is built with Docker where its daemon answers, else with buildah; an archive that is newer than all of its inputs is kept.
image_build() {
  local name=$1 containerfile=$2 context=$3 archive arguments=() argument
  shift 3
  archive=$cache/images/$(tr '/:' '__' <<<"$name").tar
  mkdir -p "$cache/images"
  for argument in "$@"; do arguments+=(--build-arg "$argument"); done
  ( # the lock, and the folder of buildah, end with this subshell
    exec 9>"$archive.lock"
    flock 9
    if [[ -e $archive && "${arguments[*]}" == "$(cat "$archive.arguments" 2>/dev/null)" &&
      -z $(find -L "$containerfile" "$context" -newer "$archive" -print -quit) ]]; then
      exit 0
    fi
    say "building image $name"
    if docker version >/dev/null 2>&1; then
      docker build --quiet --tag "$name" --file "$containerfile" "${arguments[@]}" "$context" >&2 &&
        docker save --output "$archive.new" "$name" || exit 1
    else
      _buildah_image || exit 1
    fi
    printf '%s' "${arguments[*]}" >"$archive.arguments"
    mv "$archive.new" "$archive"
  ) || {
    say "image $name could not be built"
    return 1
  }
  printf '%s\n' "$archive"
}

# Layers are kept nowhere: the archive is the result.
_buildah_image() {
  require buildah=buildah
  local storage unshare=() buildah
  storage=$(mktemp -d "$cache/images/.buildah.XXXXXX")
  is_root || unshare=(buildah unshare)
  # shellcheck disable=SC2064 # the path of now
  trap "${unshare[*]:-} rm -rf '$storage'" EXIT
  buildah=(buildah --root "$storage/root" --runroot "$storage/run" --storage-driver vfs)
  local log=$storage/log
  if ! { "${buildah[@]}" bud --isolation chroot --tag "$name" --file "$containerfile" "${arguments[@]}" "$context" &&
    rm -f "$archive.new" && "${buildah[@]}" push --quiet "$name" "docker-archive:$archive.new:$name"; } >"$log" 2>&1; then
    tail -n 20 "$log" >&2
    return 1
  fi
}
