# Builds container images into archives, without an image registry. Source it after common.sh.
# shellcheck shell=bash

# image_build NAME CONTAINERFILE CONTEXT [ARGUMENT=VALUE…] : prints the path of an archive that holds the image under NAME,
# built with Docker where its daemon answers, else with buildah. ARCHIVE.key is a hash of everything it was built from; an
# archive whose key is still the same is kept.
image_build() {
  local name=$1 containerfile=$2 context=$3 archive key arguments=() argument
  shift 3
  archive=$cache/images/$(tr '/:' '__' <<<"$name").tar
  mkdir -p "$cache/images"
  for argument in "$@"; do arguments+=(--build-arg "$argument"); done
  key=$({
    cat "$containerfile"
    printf '%s\n' "$@"
    cd "$context" && find . -type f -printf '%m %p\n' | LC_ALL=C sort && find . -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum
  } | sha256sum | cut -d' ' -f1)
  ( # the lock, and the folder of buildah, end with this subshell
    exec 9>"$archive.lock"
    flock 9
    if [[ -e $archive && $key == "$(cat "$archive.key" 2>/dev/null)" ]]; then exit 0; fi
    say "building image $name"
    rm -f "$archive" "$archive.new"
    if docker version >/dev/null 2>&1; then
      docker build --quiet --tag "$name" --file "$containerfile" "${arguments[@]}" "$context" >&2 || exit 1
      docker save --output "$archive.new" "$name" || exit 1
    else
      _buildah_image || exit 1
    fi
    mv "$archive.new" "$archive"
    printf '%s\n' "$key" >"$archive.key"
  ) || {
    say "image $name could not be built"
    return 1
  }
  printf '%s\n' "$archive"
}

# Layers are kept nowhere: the archive is the result.
_buildah_image() {
  _buildah_ready
  local log=$_storage/log
  if ! {
    "${_buildah[@]}" bud --isolation chroot --tag "$name" --file "$containerfile" "${arguments[@]}" "$context" &&
      "${_buildah[@]}" push "$name" "docker-archive:$archive.new:$name"
  } >"$log" 2>&1; then
    tail -n 20 "$log" >&2
    return 1
  fi
}

# image_push ARCHIVE NAME : to an image registry that the user is logged in to.
image_push() (
  _buildah_ready
  local id
  id=$("${_buildah[@]}" pull --quiet "docker-archive:$1") && "${_buildah[@]}" push "$id" "docker://$2" >&2
)

# Sets up a buildah with a storage of its own, which goes when the (sub)shell ends.
_buildah_ready() {
  require buildah=buildah
  local unshare=()
  is_root || unshare=(buildah unshare) # what a build as another user leaves belongs to users of its own
  _storage=$(mktemp -d "$cache/images/.buildah.XXXXXX")
  # shellcheck disable=SC2064 # the path of now
  trap "${unshare[*]} rm -rf '$_storage'" EXIT
  printf '{"default": [{"type": "insecureAcceptAnything"}]}' >"$_storage/policy.json"
  _buildah=(buildah --root "$_storage/root" --runroot "$_storage/run" --storage-driver vfs --signature-policy "$_storage/policy.json")
}
