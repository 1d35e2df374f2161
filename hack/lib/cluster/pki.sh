# The keys, certificates and kubeconfigs of one cluster. Source it after common.sh.
#
# Needs `state`. Everything is made once and kept until the cluster goes down.
# shellcheck shell=bash

_days=365

# pki_authority : the cluster's certificate authority and the key pair that signs service account tokens.
pki_authority() {
  mkdir -p "$state/pki"
  chmod 700 "$state" "$state/pki"
  if [[ ! -e $state/pki/ca.crt ]]; then
    _openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc -days $_days -subj /CN=portolan-cluster \
      -keyout "$state/pki/ca.key" -out "$state/pki/ca.crt"
  fi
  if [[ ! -e $state/pki/service-accounts.pub ]]; then
    _openssl ecparam -genkey -name prime256v1 -noout -out "$state/pki/service-accounts.key"
    _openssl ec -in "$state/pki/service-accounts.key" -pubout -out "$state/pki/service-accounts.pub"
  fi
}

# pki_certificate NAME SUBJECT [SUBJECT-ALTERNATIVE-NAMES] : pki/NAME.key and pki/NAME.crt, for servers and clients.
pki_certificate() {
  local name=$1 subject=$2 names=${3:-}
  [[ ! -e $state/pki/$name.crt ]] || return 0
  _openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc -subj "$subject" \
    -keyout "$state/pki/$name.key" -out "$state/pki/$name.csr"
  _openssl x509 -req -in "$state/pki/$name.csr" -CA "$state/pki/ca.crt" -CAkey "$state/pki/ca.key" -CAcreateserial \
    -days $_days -out "$state/pki/$name.crt.new" \
    -extfile <(printf 'extendedKeyUsage=serverAuth,clientAuth\n%s' "${names:+subjectAltName=$names}")
  mv "$state/pki/$name.crt.new" "$state/pki/$name.crt"
}

_openssl() {
  local error
  error=$(openssl "$@" 2>&1) || die "openssl $1: $error"
}

# pki_kubeconfig NAME SUBJECT SERVER : NAME.kubeconfig, complete in one file.
pki_kubeconfig() {
  local name=$1 server=$3
  pki_certificate "$name" "$2"
  [[ ! -e $state/$name.kubeconfig ]] || return 0
  cat >"$state/$name.kubeconfig.new" <<YAML
apiVersion: v1
kind: Config
clusters:
- name: $cluster_name
  cluster: {server: "$server", certificate-authority-data: $(base64 -w0 "$state/pki/ca.crt")}
users:
- name: $name
  user: {client-certificate-data: $(base64 -w0 "$state/pki/$name.crt"), client-key-data: $(base64 -w0 "$state/pki/$name.key")}
contexts:
- name: $cluster_name
  context: {cluster: $cluster_name, user: $name}
current-context: $cluster_name
YAML
  mv "$state/$name.kubeconfig.new" "$state/$name.kubeconfig"
}
