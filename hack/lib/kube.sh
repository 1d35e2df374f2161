# The cluster that a script works with. Source it after common.sh.
# shellcheck shell=bash

rig=/var/lib/portolan-cluster

# use_cluster : picks the cluster of $KUBECONFIG, or the one that hack/cluster runs on this machine, and puts kubectl on PATH.
# Never the default of kubectl: nobody expects a test in the cluster they used last. Sets `cluster_kind`.
use_cluster() {
  local context
  if [[ -z ${KUBECONFIG:-} ]]; then
    [[ -r $rig/admin.kubeconfig ]] || die "no cluster: set KUBECONFIG, or start one with hack/cluster up"
    export KUBECONFIG=$rig/admin.kubeconfig
    say "using the cluster of hack/cluster"
  fi
  command -v kubectl >/dev/null || PATH=$PATH:$(cat "$rig/kubectl-folder" 2>/dev/null)
  command -v kubectl >/dev/null || die "kubectl is not installed"
  context=$(kubectl config current-context) || die "$KUBECONFIG names no cluster"
  kubectl get --raw /readyz >/dev/null || die "the API server of $KUBECONFIG (context $context) does not answer"
  case $context in
    portolan) cluster_kind=rig ;;
    kind-*) cluster_kind=kind ;;
    k3d-*) cluster_kind=k3d ;;
    minikube) cluster_kind=minikube ;;
    *) cluster_kind=other ;;
  esac
}

# image_load ARCHIVE NAME : gives the nodes the image, which the archive holds under this name; they never pull it.
image_load() {
  local archive=$1 name=$2 context seen
  context=$(kubectl config current-context)
  case $cluster_kind in
    rig)
      seen=$rig/imported/$(basename "$archive").key
      if cmp --silent "$archive.key" "$seen" && [[ -n $(_rig_runtime images list --quiet "name==$name") ]]; then return; fi
      say "importing $name"
      _rig_runtime images import "$archive" >/dev/null || die "containerd refuses the image in $archive"
      mkdir -p "$(dirname "$seen")"
      cp "$archive.key" "$seen"
      ;;
    kind) kind load image-archive "$archive" --name "${context#kind-}" ;;
    k3d) k3d image import "$archive" --cluster "${context#k3d-}" ;;
    minikube) minikube image load "$archive" ;;
    *) die "context $context: images cannot be imported there. Push them with hack/images --push REGISTRY/PATH" ;;
  esac
}

_rig_runtime() { ctr --address "$rig/containerd/containerd.sock" --namespace k8s.io "$@"; }

# install_crds CHANNEL : the Gateway API's CRDs (standard or experimental) and our own, if there are any yet.
install_crds() {
  local channel=$1 folder
  [[ -d $repository/config/crd/gateway-api/$channel ]] || die "there is no channel $channel; there are standard and experimental"
  for folder in "$repository/config/crd/gateway-api/$channel" "$repository/config/crd/portolan"; do
    [[ -d $folder ]] || continue
    kubectl apply --server-side --force-conflicts --filename "$folder" >/dev/null || die "the cluster refuses the CRDs in $folder"
    kubectl wait --for=condition=Established --timeout 30s --filename "$folder" >/dev/null || die "the CRDs in $folder are not served after 30 s"
  done
}
