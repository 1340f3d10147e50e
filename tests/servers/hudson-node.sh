#!/usr/bin/env bash
# hudson-node.sh fetch: brings the program, once, into target/servers/hudson/lib; Maven keeps it in its own cache beyond
# `make clean-servers`.
# hudson-node.sh HOME PORT: becomes a Hudson with its jobs, log and pid file in HOME.
set -euo pipefail
# shellcheck source=tests/servers/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

release=3.3.2
war=$home/hudson/lib/hudson-war-$release.war classes=$home/hudson/classes
if [ "$1" = fetch ]; then
  mkdir -p "$home/hudson"
  if [ ! -f "$war" ]; then
    # Whole or not at all: this may be killed.
    rm -rf "$home/hudson/lib.new"
    mvn -q -B dependency:copy "-Dartifact=org.eclipse.hudson:hudson-war:$release:war" "-DoutputDirectory=$home/hudson/lib.new"
    rm -rf "$home/hudson/lib" && mv "$home/hudson/lib.new" "$home/hudson/lib"
  fi
  if [ "$here/HudsonBoot.java" -nt "$classes/HudsonBoot.class" ]; then javac -d "$classes" "$here/HudsonBoot.java"; fi
  exit
fi
node=$1 port=$2
mkdir -p "$node/home"
[ -f "$node/home/config.xml" ] || cat >"$node/home/config.xml" <<'XML'
<hudson><slaveAgentPort>-1</slaveAgentPort><useSecurity>false</useSecurity><numExecutors>2</numExecutors>
<crumbIssuer class="hudson.security.csrf.DefaultCrumbIssuer"/></hudson>
XML
opens=()
for package in lang lang.reflect lang.invoke util util.concurrent util.concurrent.atomic util.concurrent.locks util.regex \
  util.zip text io net nio math security time; do
  opens+=(--add-opens "java.base/java.$package=ALL-UNNAMED")
done
opens+=(--add-opens java.base/sun.nio.ch=ALL-UNNAMED --add-opens java.base/sun.reflect.annotation=ALL-UNNAMED
  --add-opens java.xml/javax.xml.transform=ALL-UNNAMED --add-opens java.desktop/java.awt=ALL-UNNAMED
  --add-opens java.desktop/java.awt.font=ALL-UNNAMED)
main=$(unzip -p "$war" META-INF/MANIFEST.MF | tr -d '\r' | sed -n 's/^Main-Class: //p')
echo $$ >"$node/pid"
# From inside its folder: a crash of Java leaves its report there.
cd "$node"
export HUDSON_HOME=$node/home HOME=$node/home
exec java "${opens[@]}" -Xmx384m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Djava.awt.headless=true \
  -Dhudson.DNSMultiCast.disabled=true -DskipInitSetup=true -cp "$war:$classes" HudsonBoot "$main" \
  "--httpPort=$port" --httpListenAddress=127.0.0.1 --skipInitSetup
