# etcd and the API server, and for a whole cluster the controller manager and the scheduler. Source it after process.sh and pki.sh.
#
# Needs `state`, `cluster_name` and `mode` (whole or api-only). An API server without a node runs on loopback as any user.
# shellcheck shell=bash

# api_up : etcd and the API server, ready to answer.
api_up() {
  local programs etcd
  etcd=$(built kubernetes/etcd) || exit 1
  programs=$(built kubernetes/control-plane) || exit 1
  _choose_ports
  # shellcheck source=/dev/null
  source "$state/ports"

  start etcd "$etcd/etcd" --name "$cluster_name" --data-dir "$state/etcd" --log-level warn --unsafe-no-fsync \
    --listen-client-urls "http://127.0.0.1:$etcd_port" --advertise-client-urls "http://127.0.0.1:$etcd_port" \
    --listen-peer-urls "http://127.0.0.1:$etcd_peer_port" --initial-advertise-peer-urls "http://127.0.0.1:$etcd_peer_port" \
    --initial-cluster "$cluster_name=http://127.0.0.1:$etcd_peer_port"

  pki_authority
  pki_certificate kube-apiserver /CN=kube-apiserver "IP:127.0.0.1,IP:$api_address,IP:10.96.0.1,DNS:localhost,DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,DNS:kubernetes.default.svc.cluster.local"
  pki_certificate kubelet-client /O=system:masters/CN=kube-apiserver-kubelet-client
  pki_kubeconfig admin /O=system:masters/CN=admin "https://$api_address:$api_port"
  _audit_policy
  local flags=(
    --etcd-servers="http://127.0.0.1:$etcd_port"
    --bind-address="$api_address" --advertise-address="$api_address" --secure-port="$api_port"
    --client-ca-file="$state/pki/ca.crt"
    --tls-cert-file="$state/pki/kube-apiserver.crt" --tls-private-key-file="$state/pki/kube-apiserver.key"
    --service-account-issuer=https://kubernetes.default.svc
    --service-account-key-file="$state/pki/service-accounts.pub"
    --service-account-signing-key-file="$state/pki/service-accounts.key"
    --service-cluster-ip-range="$service_cidr"
    --authorization-mode=Node,RBAC --allow-privileged
    # Beta and off by default in 1.35.
    --feature-gates=ClusterTrustBundle=true,ClusterTrustBundleProjection=true
    --runtime-config=certificates.k8s.io/v1beta1/clustertrustbundles=true
    --audit-policy-file="$state/audit-policy.yaml" --audit-log-path="$state/log/audit.log"
    --audit-log-maxsize=100 --audit-log-maxbackup=2
  )
  if [[ $mode == whole ]]; then
    flags+=(
      --kubelet-client-certificate="$state/pki/kubelet-client.crt" --kubelet-client-key="$state/pki/kubelet-client.key"
      # The node's name resolves nowhere: without this, logs and exec fail.
      --kubelet-preferred-address-types=InternalIP
    )
  else
    # No controller manager makes a namespace's default ServiceAccount, so this admission would refuse every pod.
    flags+=(--disable-admission-plugins=ServiceAccount)
  fi
  await etcd 60 listens 127.0.0.1 "$etcd_port"
  start kube-apiserver "$programs/kube-apiserver" "${flags[@]}"
  printf '%s\n' "$programs" >"$state/kubectl-folder"
  await kube-apiserver 120 kube get --raw /readyz
  await kube-apiserver 60 kube get namespace default
}

# kube ARGUMENTS… : kubectl as the cluster's administrator.
kube() { "$(cat "$state/kubectl-folder")/kubectl" --kubeconfig "$state/admin.kubeconfig" --request-timeout 5s "$@"; }

# controllers_up : the controller manager and the scheduler.
controllers_up() {
  local programs name
  programs=$(built kubernetes/node) || exit 1
  for name in kube-controller-manager kube-scheduler; do
    pki_kubeconfig $name "/CN=system:$name" "https://$api_address:$api_port"
  done
  start kube-controller-manager "$programs/kube-controller-manager" --kubeconfig="$state/kube-controller-manager.kubeconfig" \
    --bind-address=127.0.0.1 --leader-elect=false --use-service-account-credentials \
    --service-account-private-key-file="$state/pki/service-accounts.key" --root-ca-file="$state/pki/ca.crt" \
    --cluster-signing-cert-file="$state/pki/ca.crt" --cluster-signing-key-file="$state/pki/ca.key" \
    --cluster-cidr="$pod_cidr" --allocate-node-cidrs --feature-gates=ClusterTrustBundle=true \
    --flex-volume-plugin-dir="$state/kubelet/volume-plugins" --kube-api-qps=200 --kube-api-burst=400
  start kube-scheduler "$programs/kube-scheduler" --kubeconfig="$state/kube-scheduler.kubeconfig" \
    --bind-address=127.0.0.1 --leader-elect=false
}

# controllers_ready : waits for both.
controllers_ready() {
  await kube-controller-manager 60 listens 127.0.0.1 10257
  await kube-scheduler 60 listens 127.0.0.1 10259
  # Pods are refused until the namespace has its default account.
  await kube-controller-manager 60 kube get serviceaccount default
}

# Requests of Portolan's own service accounts are recorded (without bodies), so that a test can compare them with its roles.
_audit_policy() {
  configuration audit-policy.yaml <<'YAML'
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: Metadata
  userGroups: ["system:serviceaccounts:portolan-system"]
- level: None
YAML
}

# A whole cluster has fixed ports on its own address. An API server alone takes three free ones on loopback and keeps
# them: they are below the kernel's range for outgoing connections, and what other clusters hold is left alone, running or not.
_choose_ports() {
  mkdir -p "$state/run" "$state/log"
  [[ ! -e $state/ports ]] || return 0
  if [[ $mode == whole ]]; then
    printf 'api_address=%s api_port=6443 etcd_port=12379 etcd_peer_port=12380\n' "$node_address" >"$state/ports"
    return
  fi
  (
    exec 8>"$cache/clusters/.ports.lock"
    flock 8
    local port chosen=() held
    held=$(cat "$cache"/clusters/*/ports 2>/dev/null || true)
    for ((port = 21000; port < 30000 && ${#chosen[@]} < 3; port++)); do
      if [[ $held != *"=$port "* ]] && ! listens 127.0.0.1 "$port"; then chosen+=("$port"); fi
    done
    [[ ${#chosen[@]} -eq 3 ]] || die "no three free ports between 21000 and 30000 on loopback"
    printf 'api_address=127.0.0.1 api_port=%s etcd_port=%s etcd_peer_port=%s \n' "${chosen[@]}" >"$state/ports"
  ) || exit 1
}
