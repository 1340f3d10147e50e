# Sourced by the rows of Elasticsearch and OpenSearch. They say `product` (elasticsearch, opensearch) and `version`, one
# that Maven Central has as integ-test-zip: the vendor's own build with few modules. And, where they differ:
#   java      the least version of Java (17)
#   secure    basic: a user and a password; https: that, by TLS (OpenSearch, with its security plugin)
#   settings  more lines for the node's file
# shellcheck shell=bash disable=SC2034,SC2154
kind=search
commands="mvn unzip curl java"
somebody=nobody
java=${java:-17}
secure=${secure:-}
[ "$secure" != https ] || commands+=" openssl"

# java_home VERSION: prints the home of the oldest Java here that is at least that.
java_home() {
  local home version
  for home in /usr/lib/jvm/*/ "${JAVA_HOME:-/none}"/; do
    [ -x "${home}bin/java" ] && [ ! -L "${home%/}" ] || continue
    version=$("${home}bin/java" -version 2>&1 | sed -n 's/.*version "\([0-9]*\).*/\1/p' | head -n1)
    [ "${version:-0}" -lt "$1" ] || echo "$version ${home%/}"
  done | sort -n | head -n1 | cut -d' ' -f2
}

start() {
  local zip dist jdk kernel=ELASTIC config=$dir/config
  jdk=$(java_home "$java") && [ -n "$jdk" ] || { echo "no Java $java or later"; return 1; }
  zip=$(maven "org.$product.distribution.integ-test-zip:$product:$version:zip") && dist=$(unpacked "$zip" "$product-$version") || return 1
  dist=$(find "$dist" -maxdepth 1 -mindepth 1 -type d | head -n1)
  port=$(free_port) transport=$(free_port)
  mkdir -p "$dir"/{data,logs,tmp} && cp -r "$dist/config" "$config" || return 1
  # Its own ideas of logs, heap and collector do not fit a folder of ours.
  sed -i -E '/logs\/|HeapDumpPath|^-Xm[sx]|UseG1GC|G1Reserve|UseConcMark|CMSInit|InitiatingHeap/d' "$config/jvm.options"
  {
    printf '%s\n' "cluster.name: matrix" "node.name: matrix" "network.host: 127.0.0.1" "http.port: $port" "transport.port: $transport" \
      "discovery.type: single-node" "path.data: $dir/data" "path.logs: $dir/logs" "cluster.routing.allocation.disk.threshold_enabled: false"
    printf '%s' "${settings:+$settings$'\n'}"
  } >"$config/$product.yml"
  case $product-$secure in
    elasticsearch-basic) echo "xpack.security.enabled: true" >>"$config/$product.yml" ;;
    opensearch-https) secure_opensearch "$dist" "$config" || return 1 ;;
  esac
  become && chmod -R a+rX "$cache/$product-$version" && chmod -R u+w "$config" || return 1
  local options="-Xms512m -Xmx512m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -XX:-AlwaysPreTouch"
  local env=(env HOME="$dir" JAVA_HOME="$jdk")
  if [ "$product" = opensearch ]; then
    env+=(OPENSEARCH_PATH_CONF="$config" OPENSEARCH_TMPDIR="$dir/tmp" OPENSEARCH_JAVA_HOME="$jdk" OPENSEARCH_JAVA_OPTS="$options")
  else
    env+=(ES_PATH_CONF="$config" ES_TMPDIR="$dir/tmp" ES_JAVA_HOME="$jdk" ES_JAVA_OPTS="$options")
  fi
  if [ "$product-$secure" = elasticsearch-basic ]; then
    "${as[@]}" "${env[@]}" "$dist/bin/elasticsearch-users" useradd matrix -p matrix-pw -r superuser || return 1
  fi
  cd "$dir" && detached node "${as[@]}" "${env[@]}" "$dist/bin/$product"
}

secure_opensearch() {
  local plugin
  plugin=$(maven "org.opensearch.plugin:opensearch-security:$version.0:zip") || return 1
  if [ ! -d "$1/plugins/opensearch-security" ]; then
    mkdir -p "$1/plugins/opensearch-security" && unzip -q "$plugin" -d "$1/plugins/opensearch-security" || return 1
  fi
  certificates && openssl pkcs8 -topk8 -nocrypt -in "$dir/tls/node.key" -out "$2/node.p8.key" && cp "$dir"/tls/{ca,node}.pem "$2/" || return 1
  mkdir -p "$2/opensearch-security" && cp "$1"/plugins/opensearch-security/config/*.yml "$2/opensearch-security/" || return 1
  for layer in transport http; do
    printf 'plugins.security.ssl.%s.%s\n' "$layer" "pemcert_filepath: node.pem" "$layer" "pemkey_filepath: node.p8.key" \
      "$layer" "pemtrustedcas_filepath: ca.pem"
  done >>"$2/opensearch.yml"
  printf '%s\n' "plugins.security.ssl.http.enabled: true" "plugins.security.ssl.transport.enforce_hostname_verification: false" \
    "plugins.security.allow_default_init_securityindex: true" 'plugins.security.nodes_dn: ["CN=node.test"]' >>"$2/opensearch.yml"
}

scheme() { if [ "$secure" = https ]; then echo https; else echo http; fi; }
login() {
  case $product-$secure in
    elasticsearch-basic) echo matrix:matrix-pw ;;
    # The plugin's own demonstration user.
    opensearch-https) echo admin:admin ;;
  esac
}
answers() {
  local options=(-sf)
  [ -z "$secure" ] || options+=(-u "$(login)")
  [ "$secure" != https ] || options+=(--cacert "$dir/tls/ca.pem")
  curl "${options[@]}" "$(scheme)://127.0.0.1:$port/_cluster/health"
}
endpoint() {
  local user
  user=$(login)
  printf '      url: %s://%s127.0.0.1:%s\n      index: "matrix_{store}_{type}"\n' "$(scheme)" "${user:+$user@}" "$port"
  [ "$secure" != https ] || printf '      tls: { ca: tls/ca.pem }\n'
}
reach() {
  local ca=
  [ "$secure" != https ] || ca=$dir/tls/ca.pem
  echo "$(scheme)://127.0.0.1:$port#$(login)#$ca"
}
