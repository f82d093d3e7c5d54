#!/usr/bin/env bash
# LocalStack on this machine without its Docker image, which cannot be had
# everywhere: localstack.sh up | down. Run as root on Debian or what is like it,
# with Go and Python 3.13. What runs writes to .local/cloud; down stops what was
# started here, and nothing else, and removes what it wrote, but for the logs.
set -euo pipefail
cd "$(dirname "$0")/../.."

state=$PWD/.local/cloud
venv=${LOCALSTACK_VENV:-$PWD/.local/localstack}
registry=127.0.0.1:5000
edge=4566
buckets=/tmp/localstack-s3-storage # LocalStack's, which has no other name for it
mkdir -p "$state"

began=$SECONDS
say() { echo "localstack: $* ($((SECONDS - began)) s)"; }

# start NAME COMMAND… runs it in the background and notes its process. It gets
# nothing that our caller has open: a lock of theirs would be held until down.
start() {
	local name=$1
	shift
	(
		for fd in /proc/self/fd/*; do
			fd=${fd##*/}
			[ "$fd" -le 2 ] || eval "exec $fd>&-"
		done
		exec setsid "$@" >"$state/$name.log" 2>&1 </dev/null
	) &
	echo $! >"$state/$name.pid"
}

# await NAME COMMAND… waits up to 60 s until the command succeeds.
await() {
	local name=$1 tries=240
	shift
	until "$@" >/dev/null 2>&1; do
		if ! runs "$name" || [ $((tries -= 1)) -le 0 ]; then
			echo "localstack: $name did not start:" >&2
			tail -n 20 "$state/$name.log" >&2
			exit 1
		fi
		sleep 0.25
	done
}

prepare() {
	[ "$(id -u)" = 0 ] || { echo "localstack: it starts dockerd, so run it as root" >&2; exit 1; }
	local missing=()
	command -v dockerd >/dev/null || missing+=(docker.io)
	command -v ip >/dev/null || missing+=(iproute2)
	command -v docker-registry >/dev/null || missing+=(docker-registry)
	command -v redis-server >/dev/null || missing+=(redis-server)
	command -v curl >/dev/null || missing+=(curl)
	if [ "${#missing[@]}" -gt 0 ]; then
		say "installing ${missing[*]}"
		export DEBIAN_FRONTEND=noninteractive
		apt-get -qq update
		apt-get -qq install -y --no-install-recommends "${missing[@]}" >/dev/null
	fi
	if [ ! -x "$venv/bin/python" ] || ! "$venv/bin/python" -c 'import localstack.runtime' 2>/dev/null; then
		say "installing LocalStack into ${venv#"$PWD"/}, about two minutes"
		local python
		python=$(command -v python3.13 || ls "$HOME"/.pyenv/versions/3.13*/bin/python3 2>/dev/null | tail -n 1 || true)
		if [ -z "$python" ] || ! "$python" --version >/dev/null 2>&1; then
			python=$(ls "$HOME"/.pyenv/versions/3.13*/bin/python3 2>/dev/null | tail -n 1 || true)
		fi
		[ -n "$python" ] || { echo "localstack: Python 3.13 is needed" >&2; exit 1; }
		"$python" -m venv "$venv"
		"$venv/bin/pip" --quiet --disable-pip-version-check install -r localstack/cloud/requirements-localstack.txt
		rm -rf "$HOME/.cache/plux" # it lists the plug-ins of what was installed before
	fi
}

# runs NAME tells whether what start began is there.
runs() {
	[ -f "$state/$1.pid" ] && kill -0 "$(cat "$state/$1.pid")" 2>/dev/null
}

answers() { curl -fsS "http://127.0.0.1:$edge/_localstack/health" >/dev/null 2>&1; }

up() {
	if answers && ! runs localstack; then
		# Its stacks and secrets would be two tests' at once.
		echo "localstack: a LocalStack that was not started from here answers at http://127.0.0.1:$edge: end it first" >&2
		exit 1
	fi
	prepare
	export DOCKER_HOST=${DOCKER_HOST:-unix://$state/docker.sock}
	if ! docker info >/dev/null 2>&1; then
		say "starting dockerd"
		ip link show docker0 >/dev/null 2>&1 || touch "$state/made-docker0"
		# Containers reach this machine and one another over the bridge; for that
		# no rule of the firewall is needed, and none is changed.
		start dockerd dockerd --data-root "$state/docker" --exec-root "$state/docker-exec" \
			--host "$DOCKER_HOST" --pidfile "$state/dockerd.own.pid" --insecure-registry "$registry" \
			--iptables=false --ip6tables=false --ip-forward=false --ip-masq=false
		await dockerd docker info
	fi
	echo "$DOCKER_HOST" >"$state/docker-host"

	if ! curl -fsS "http://$registry/v2/" >/dev/null 2>&1; then
		say "starting the image registry"
		cat >"$state/registry.yml" <<-YAML
			version: 0.1
			storage: {filesystem: {rootdirectory: $state/images}}
			http: {addr: "$registry"}
		YAML
		start registry docker-registry serve "$state/registry.yml"
		await registry curl -fsS "http://$registry/v2/"
	fi

	say "building the image and the init of functions"
	mkdir -p "$state/root/tmp"
	chmod 1777 "$state/root/tmp"
	tar -C "$state/root" -c tmp | docker import - "$registry/lambda:provided.al2023" >/dev/null
	docker push -q "$registry/lambda:provided.al2023" >/dev/null
	CGO_ENABLED=0 go build -trimpath -ldflags='-s -w' -o "$state/init" ./localstack/lambda
	# Where LocalStack would put its own, which it then takes for installed.
	local init
	init=$state/files/var/lib/localstack/lib/lambda-runtime/v0.1.41-pre/$(uname -m)/var/rapid/init
	mkdir -p "$(dirname "$init")"
	cp "$state/init" "$init.new" && chmod 755 "$init.new" && mv "$init.new" "$init"

	if ! answers; then
		say "starting LocalStack"
		mkdir -p "$state/tmp"
		[ -e "$buckets" ] || touch "$state/made-buckets"
		start localstack env GATEWAY_LISTEN=0.0.0.0:$edge DEBUG="${DEBUG:-0}" \
			OVERRIDE_IN_DOCKER=0 FILESYSTEM_ROOT="$state/files" TMPDIR="$state/tmp" \
			LAMBDA_RUNTIME_IMAGE_MAPPING="{\"provided.al2023\":\"$registry/lambda:provided.al2023\"}" \
			LAMBDA_IGNORE_ARCHITECTURE=1 DISABLE_EVENTS=1 SKIP_SSL_CERT_DOWNLOAD=1 \
			"$venv/bin/python" -m localstack.runtime.main
		await localstack answers
	fi
	say "ready at http://127.0.0.1:$edge"
}

# stop NAME ends what start began, and its children.
stop() {
	local pid
	[ -f "$state/$1.pid" ] || return 0
	pid=$(cat "$state/$1.pid")
	if kill -0 "$pid" 2>/dev/null; then
		kill -TERM "$pid" 2>/dev/null || true
		for _ in $(seq 80); do
			kill -0 "$pid" 2>/dev/null || break
			sleep 0.25
		done
		kill -KILL -- "-$pid" 2>/dev/null || true
	fi
	rm -f "$state/$1.pid"
}

down() {
	local own=
	if [ -f "$state/docker-host" ]; then
		export DOCKER_HOST
		DOCKER_HOST=$(cat "$state/docker-host")
	fi
	[ ! -f "$state/dockerd.pid" ] || own=yes
	stop localstack # it removes its containers
	if [ -n "$own" ] && docker info >/dev/null 2>&1; then
		docker ps -q | xargs -r docker kill >/dev/null 2>&1 || true # all of this daemon's are ours
	elif [ -f "$state/docker-host" ]; then
		docker rmi "$registry/lambda:provided.al2023" >/dev/null 2>&1 || true
	fi
	stop registry
	stop dockerd
	if [ -f "$state/made-docker0" ]; then
		ip link delete docker0 2>/dev/null || true
	fi
	if [ -f "$state/made-buckets" ]; then
		rm -rf "$buckets"
	fi
	find "$state" -mindepth 1 -maxdepth 1 ! -name '*.log' -exec rm -rf {} +
	say "stopped"
}

case ${1:-} in
up) up ;;
down) down ;;
*) echo "usage: $0 up|down" >&2; exit 2 ;;
esac
