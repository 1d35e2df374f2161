# The machine's side of a whole cluster: addresses, routes, kernel settings, and how all of it is taken back. Source it after common.sh.
#
# The cluster lives on addresses of its own, so nothing listens on the machine's network and a machine that moves to
# another network keeps its cluster:
#   10.89.0.1      the node: an address on the loopback interface
#   10.96.0.0/16   Services, 10.97.0.0/24 LoadBalancers: routed to the node itself. kube-proxy rewrites what is in use before
#                  it is routed; what is not in use is refused at once, and never leaves by the default route.
#   10.244.0.0/24  pods, on the bridge portolan0
# shellcheck shell=bash

# Used by the other files of this folder, too.
node_address=10.89.0.1
service_cidr=10.96.0.0/16
load_balancer_cidr=10.97.0.0/24
pod_cidr=10.244.0.0/16
bridge=portolan0

# What the kubelet, kube-proxy and network_up set.
_settings=(net/ipv4/ip_forward net/ipv4/conf/all/route_localnet net/bridge/bridge-nf-call-iptables
  net/netfilter/nf_conntrack_max net/netfilter/nf_conntrack_tcp_be_liberal
  vm/overcommit_memory vm/panic_on_oom kernel/panic kernel/panic_on_oops kernel/keys/root_maxkeys kernel/keys/root_maxbytes
  fs/inotify/max_user_instances)

_settings_before=/var/lib/.portolan-cluster.settings # beside the state folder: it must survive that

# network_up : the node's address and routes, and the kernel's settings; what they were is kept.
network_up() {
  local prefix taken setting
  for prefix in $node_address/32 $service_cidr $load_balancer_cidr $pod_cidr; do
    # A default route covers everything and is no conflict; what is ours is on lo or the bridge.
    taken=$({ ip -4 route show to root "$prefix"; ip -4 route show to match "$prefix"; } | grep -v -e '^default' -e "dev $bridge" || true)
    [[ -z $taken ]] || die "the cluster needs $prefix, but this machine routes it elsewhere: $taken"
  done
  [[ -e /proc/sys/net/bridge ]] || modprobe br_netfilter 2>/dev/null ||
    die "this kernel lacks br_netfilter: pods on one bridge could not reach each other through a Service"
  if [[ ! -e $_settings_before ]]; then
    for setting in "${_settings[@]}"; do
      [[ ! -e /proc/sys/$setting ]] || printf '%s %s\n' "$setting" "$(cat "/proc/sys/$setting")"
    done >"$_settings_before.new"
    mv "$_settings_before.new" "$_settings_before"
  fi
  _set net/ipv4/ip_forward 1
  _set net/bridge/bridge-nf-call-iptables 1
  # The default of 128 is used up by a dozen pods.
  [[ $(cat /proc/sys/fs/inotify/max_user_instances) -ge 1024 ]] || _set fs/inotify/max_user_instances 1024
  ip address replace $node_address/32 dev lo
  ip route replace local $service_cidr dev lo src $node_address
  ip route replace local $load_balancer_cidr dev lo src $node_address
}

_set() {
  local now
  now=$(cat "/proc/sys/$1")
  [[ $now == "$2" ]] || printf '%s' "$2" >"/proc/sys/$1" || die "cannot set $1 to $2 (it is $now)"
}

# network_down : takes back everything of network_up, of CNI and of kube-proxy, whoever is missing by now.
network_down() {
  local setting value tool
  ip link delete "$bridge" 2>/dev/null || true
  ip route delete local $service_cidr dev lo 2>/dev/null || true
  ip route delete local $load_balancer_cidr dev lo 2>/dev/null || true
  ip address delete $node_address/32 dev lo 2>/dev/null || true
  for tool in iptables ip6tables; do
    if [[ -n $(_filter_rules $tool) ]]; then
      # Everything else is put back as it was, with its counters, in one step per table.
      $tool-save --counters | grep -vE "$_our_rules" | $tool-restore --counters
    fi
  done
  if [[ -e $_settings_before ]]; then
    while read -r setting value; do
      _set "$setting" "$value"
    done <"$_settings_before"
    rm -f "$_settings_before"
  fi
}

# Chains, and rules in or to them, of kube-proxy, the kubelet and the CNI plugins.
_our_rules='(^:| )(KUBE-|CNI-)'

_filter_rules() { "$1-save" 2>/dev/null | grep -E "$_our_rules" || true; }

# network_traces : prints what is still there of all this; nothing when all is clean.
network_traces() {
  ip -o link show "$bridge" 2>/dev/null | sed 's/^/interface /' || true
  ip -4 route show table local | grep -e "$service_cidr" -e "$load_balancer_cidr" | sed 's/^/route /' || true
  ip -4 -o address show to "$node_address" | sed 's/^/address /' || true
  local tool
  for tool in iptables ip6tables; do
    command -v $tool-save >/dev/null || continue
    _filter_rules $tool | sed "s/^/$tool rule /"
  done
}
