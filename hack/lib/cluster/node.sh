# The node of a whole cluster: containerd, kubelet, kube-proxy, and what every cluster has: DNS and load balancer addresses.
# Source it after network.sh, control-plane.sh and image.sh. Needs `state`.
# shellcheck shell=bash

pause_image=localhost/portolan-pause:1
dns_address=10.96.0.10

# containerd_up : a containerd of our own, beside one that the machine may have, and the image that every pod needs.
containerd_up() {
  local folder=$state/containerd
  mkdir -p "$folder" "$state/cni"
  configuration containerd/config.toml <<TOML
version = 2
root = "$folder/root"
state = "$folder/state"
disabled_plugins = [
  "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.zfs", "io.containerd.tracing.processor.v1.otlp", "io.containerd.internal.v1.tracing",
]
[grpc]
  address = "$folder/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "$pause_image"
  # Without CAP_SYS_RESOURCE, which containers of machines often lack, runc dies at the first negative score.
  restrict_oom_score_adj = true
  # So that the mounts of network namespaces are all below the state folder.
  netns_mounts_under_state_dir = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "$state/cni"
TOML
  configuration cni/10-portolan.conflist <<JSON
{
  "cniVersion": "0.4.0",
  "name": "portolan",
  "plugins": [
    {
      "type": "bridge", "bridge": "$bridge", "isGateway": true, "ipMasq": true, "hairpinMode": true,
      "ipam": {
        "type": "host-local", "dataDir": "$state/cni/addresses",
        "ranges": [[{"subnet": "10.244.0.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}]
      }
    },
    {"type": "portmap", "capabilities": {"portMappings": true}},
    {"type": "firewall"}
  ]
}
JSON
  start containerd containerd --config "$folder/config.toml"
}

# containerd_ready : waits for it, and imports the pause image where it is missing.
containerd_ready() {
  await containerd 60 runtime version
  if [[ -z $(runtime images list --quiet "name==$pause_image") ]]; then
    local program archive
    program=$(built kubernetes/pause) || exit 1
    archive=$(image_build $pause_image "$repository/hack/images.d/pause/Containerfile" "$program") || exit 1
    runtime images import "$archive" >/dev/null || die "containerd refuses the image in $archive"
  fi
}

# runtime ARGUMENTS… : containerd's client, where Kubernetes keeps its things.
runtime() { ctr --address "$state/containerd/containerd.sock" --namespace k8s.io "$@"; }

# kubelet_up : the kubelet; pods may follow.
kubelet_up() {
  local programs
  programs=$(built kubernetes/node) || exit 1
  pki_certificate kubelet-server /CN=node "IP:$node_address,DNS:node"
  pki_kubeconfig kubelet /O=system:nodes/CN=system:node:node "https://$api_address:$api_port"
  mkdir -p "$state/kubelet" "$state/log/pods"
  configuration kubelet.yaml <<YAML
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: $node_address
healthzBindAddress: 127.0.0.1
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: $state/pki/ca.crt}}
authorization: {mode: Webhook}
tlsCertFile: $state/pki/kubelet-server.crt
tlsPrivateKeyFile: $state/pki/kubelet-server.key
containerRuntimeEndpoint: unix://$state/containerd/containerd.sock
clusterDNS: [$dns_address]
clusterDomain: cluster.local
resolvConf: /etc/resolv.conf
podLogsDir: $state/log/pods
volumePluginDir: $state/kubelet/volume-plugins
maxPods: 240
# Any machine will do: with swap, with either version of control groups, with nothing reserved, with an almost full disk.
cgroupDriver: cgroupfs
failCgroupV1: false
failSwapOn: false
enforceNodeAllocatable: []
localStorageCapacityIsolation: false
evictionHard: {nodefs.available: "1%", nodefs.inodesFree: "1%", imagefs.available: "1%", memory.available: 100Mi}
# Images come from archives; nothing could bring them back.
imageGCHighThresholdPercent: 100
# kube-proxy does not need them.
makeIPTablesUtilChains: false
featureGates: {ClusterTrustBundle: true, ClusterTrustBundleProjection: true}
YAML
  start kubelet "$programs/kubelet" --config="$state/kubelet.yaml" --kubeconfig="$state/kubelet.kubeconfig" \
    --hostname-override=node --node-ip="$node_address" --root-dir="$state/kubelet" --cert-dir="$state/kubelet/pki"
}

# services_up : kube-proxy, DNS, and addresses for LoadBalancers.
services_up() {
  local node dns balancer
  node=$(built kubernetes/node) || exit 1
  dns=$(built dns/coredns) || exit 1
  balancer=$(built kubernetes/loadbalancer) || exit 1
  pki_kubeconfig kube-proxy /CN=system:kube-proxy "https://$api_address:$api_port"
  configuration kube-proxy.yaml <<YAML
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
clientConnection: {kubeconfig: $state/kube-proxy.kubeconfig, qps: 100, burst: 200}
mode: iptables
iptables: {minSyncPeriod: 200ms, localhostNodePorts: false}
clusterCIDR: $pod_cidr
hostnameOverride: node
nodePortAddresses: [$node_address/32]
healthzBindAddress: 127.0.0.1:10256
metricsBindAddress: 127.0.0.1:10249
conntrack: {maxPerCore: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
YAML
  start kube-proxy "$node/kube-proxy" --config="$state/kube-proxy.yaml"

  pki_kubeconfig coredns /O=system:masters/CN=coredns "https://$api_address:$api_port"
  configuration Corefile <<COREFILE
.:10053 {
  bind $node_address
  ready 127.0.0.1:10254
  errors
  cache 5
  kubernetes cluster.local in-addr.arpa {
    kubeconfig $state/coredns.kubeconfig
    fallthrough in-addr.arpa
    ttl 5
  }
$(! grep -q '^nameserver' /etc/resolv.conf || echo '  forward . /etc/resolv.conf')
}
COREFILE
  start coredns "$dns/coredns" -conf "$state/Corefile"

  pki_kubeconfig loadbalancer /O=system:masters/CN=loadbalancer "https://$api_address:$api_port"
  start loadbalancer "$balancer/loadbalancer" -kubeconfig "$state/loadbalancer.kubeconfig" -pool "$load_balancer_cidr"
  sed "s/NODE_ADDRESS/$node_address/; s/DNS_ADDRESS/$dns_address/" "$repository/hack/cluster.d/dns/service.yaml" |
    kube apply --filename - >/dev/null || die "the API server refuses the Service of DNS"
}

# node_ready : the node takes pods, and Services answer.
node_ready() {
  await kubelet 120 _node_is_ready
  # Services are reached only by kube-proxy's rules, which follow its health by a moment.
  await kube-proxy 60 listens 10.96.0.1 443
  await coredns 60 listens $dns_address 53
  await loadbalancer 30 grep -q 'giving away' "$state/log/loadbalancer.log"
}

_node_is_ready() { [[ $(kube get node node --output 'jsonpath={.status.conditions[?(@.type=="Ready")].status}') == True ]]; }

# node_down : ends every pod, then what ran them.
node_down() {
  local name sandboxes
  for name in loadbalancer kubelet kube-scheduler kube-controller-manager; do stop $name; done
  if [[ -e $state/containerd/config.toml ]]; then
    # containerd may be dead, but its pods are not: it comes back to take them down.
    start containerd containerd --config "$state/containerd/config.toml"
    await containerd 60 runtime version
    sandboxes=$(built kubernetes/sandboxes) || exit 1
    "$sandboxes/sandboxes" -endpoint "unix://$state/containerd/containerd.sock" || say "not every pod ended as it should; killing what is left"
  fi
  for name in containerd coredns kube-proxy; do stop $name; done
}

# node_sweep : whatever is left of the node, found by the paths and names that are ours alone. Works without a state folder.
node_sweep() {
  local id mount link folder
  for id in $(node_processes); do kill -KILL "$id" 2>/dev/null || true; done
  until_ok 10 _no_node_processes || say "processes $(node_processes | xargs) cannot be killed"
  # The deepest first.
  while read -r mount; do umount --lazy "$mount" || true; done < <(_node_mounts | sort -r)
  for link in /var/log/containers/*; do
    [[ $(readlink "$link") != "$state"/* ]] || rm -f "$link"
  done
  # What the kubelet and CNI keep in places that cannot be chosen.
  rm -f /var/lib/kubelet/device-plugins/{kubelet.sock,kubelet_internal_checkpoint} /var/lib/cni/results/portolan-*
  pgrep containerd-shim >/dev/null || rm -rf /run/containerd/s /run/containerd/runc/k8s.io /var/lib/cni/results/cni-loopback-*
  for folder in /var/log/containers /var/lib/kubelet{/device-plugins,} /var/lib/cni{/results,} /run/containerd{/fifo,/runc,}; do
    rmdir "$folder" 2>/dev/null || true
  done
  _node_cgroups | while read -r group; do rmdir "$group" 2>/dev/null || true; done
}

# node_processes : the ids of our components and containerd's shims, by the state folder in their arguments, and of what runs in
# pods, by their control group.
node_processes() {
  local folder name words
  for folder in /proc/[0-9]*; do
    read -r name 2>/dev/null <"$folder/comm" || continue
    case $name in
      containerd* | kube* | etcd | coredns | loadbalancer | runc*)
        mapfile -d '' words 2>/dev/null <"$folder/cmdline" || continue
        if [[ " ${words[*]}" =~ [\ =/]"${state#/}"/ ]]; then
          basename "$folder"
          continue
        fi
        ;;
    esac
    if grep -qs ':/kubepods' "$folder/cgroup"; then basename "$folder"; fi
  done
}

# orphans_down : ends components that the state folder does not know any more, as after it was removed under them; pods stay.
orphans_down() {
  local id name known
  known=$(cut -d' ' -f1 "$state"/run/*.pid 2>/dev/null || true)
  for id in $(node_processes); do
    read -r name 2>/dev/null <"/proc/$id/comm" || continue
    case $name in containerd | kube* | etcd | coredns | loadbalancer) ;; *) continue ;; esac
    if ! grep -qx "$id" <<<"$known"; then
      say "$name (process $id) belongs to a cluster whose record is gone; ending it"
      kill -KILL "$id" 2>/dev/null || true
    fi
  done
}

_no_node_processes() { [[ -z $(node_processes) ]]; }

_node_mounts() { awk -v prefix="$state/" 'index($5, prefix) == 1 { print $5 }' /proc/self/mountinfo; }

_node_cgroups() { find /sys/fs/cgroup -depth -type d -path '*/kubepods*' 2>/dev/null; }

# node_foreign : succeeds where another Kubernetes (or one of ours whose state folder was removed) left its things on the machine.
node_foreign() { [[ ! -e $state && (-n $(_node_cgroups) || -n $(network_traces)) ]]; }

# node_traces : prints what is still there of all this; nothing when all is clean.
node_traces() {
  local id
  for id in $(node_processes); do printf 'process %s %s\n' "$id" "$(tr '\0' ' ' <"/proc/$id/cmdline" 2>/dev/null | cut -c1-100)"; done
  _node_mounts | sed 's/^/mount /'
  _node_cgroups | sed 's/^/control group /'
}
