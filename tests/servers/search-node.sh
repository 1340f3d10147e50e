#!/usr/bin/env bash
# search-node.sh elasticsearch|opensearch fetch: brings the jars, once, into target/servers/PRODUCT/lib; Maven keeps them
# in its own cache beyond `make clean-servers`.
# search-node.sh elasticsearch|opensearch HOME PORT ["key: value"...]: becomes a search node with its data, log and pid file
# in HOME, and further lines for its settings file.
# HEAP=384m may be given.
set -euo pipefail
# shellcheck source=tests/servers/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

product=$1 node=$2
shift 2
case $product in
  elasticsearch) release=7.10.2 log4j=2.11.1 analysis=org.codelibs.elasticsearch.module ;;
  opensearch) release=1.3.17 log4j=2.17.1 analysis=org.opensearch.plugin ;;
  *) say "no product $product"; exit 2 ;;
esac
jars=$home/$product/lib classes=$home/$product/classes
if [ "$node" = fetch ]; then
  mkdir -p "$home/$product"
  if [ ! -d "$jars" ]; then
    # Whole or not at all: this may be killed.
    rm -rf "$jars.new"
    mvn -q -B -f "$here/search.pom.xml" "-Dproduct=$product" "-Drelease=$release" "-Dlog4j=$log4j" \
      "-Danalysis=$analysis" dependency:copy-dependencies -DincludeScope=runtime "-DoutputDirectory=$jars.new"
    mv "$jars.new" "$jars"
  fi
  if [ "$here/SearchNode.java" -nt "$classes/SearchNode.class" ]; then javac -d "$classes" "$here/SearchNode.java"; fi
  exit
fi
port=$1
shift
mkdir -p "$node/config" "$node/data"

cat >"$node/config/log4j2.properties" <<LOG
status = error
appender.console.type = Console
appender.console.name = console
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = [%d{ISO8601}][%-5p][%-25c{1.}] %m%n
rootLogger.level = warn
rootLogger.appenderRef.console.ref = console
LOG
{
  printf '%s\n' 'cluster.name: rekindle-tests' "node.name: $product" 'network.host: 127.0.0.1' "http.port: $port" \
    'transport.port: 0' 'discovery.type: single-node' 'cluster.routing.allocation.disk.threshold_enabled: false' "$@"
} >"$node/config/$product.yml"

heap=${HEAP:-384m}
case $product in
  elasticsearch) plugin=org.elasticsearch.transport.Netty4Plugin common=org.elasticsearch.analysis.common.CommonAnalysisPlugin ;;
  opensearch) plugin=org.opensearch.transport.Netty4Plugin common=org.opensearch.analysis.common.CommonAnalysisPlugin ;;
esac
echo $$ >"$node/pid"
# From inside its folder: a crash of Java leaves its report there. One compiler tier starts faster and is fast enough for tests.
cd "$node"
exec java "-Xms$heap" "-Xmx$heap" -XX:+UseSerialGC ${JAVA_TIERS--XX:TieredStopAtLevel=1} -cp "$classes:$jars/*" \
  SearchNode "org.$product" "$node" $plugin $common
