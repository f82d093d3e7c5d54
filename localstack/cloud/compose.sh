#!/usr/bin/env bash
# The cluster on LocalStack from images: compose.sh up | down. Needs Docker with
# compose, sam, the AWS command line, Go, and the internet.
set -euo pipefail
cd "$(dirname "$0")/../.."

export AWS_ENDPOINT_URL=http://127.0.0.1:4566 AWS_DEFAULT_REGION=us-east-1 AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=test SAM_CLI_TELEMETRY=0
case $(uname -m) in arm64 | aarch64) export ARCH=arm64 ;; *) export ARCH=x86_64 ;; esac
compose() { docker compose -f localstack/compose.yaml "$@"; }

# secret NAME TEXT makes a secret, or gives it a new text, and prints its ARN.
secret() {
	aws secretsmanager create-secret --name "$1" --secret-string "$2" --query ARN --output text 2>/dev/null ||
		aws secretsmanager put-secret-value --secret-id "$1" --secret-string "$2" --query ARN --output text
}

output() {
	aws cloudformation describe-stacks --stack-name pushcluster --query "Stacks[0].Outputs[?OutputKey=='$1'].OutputValue" --output text
}

up() {
	mkdir -p .local/cloud
	touch .local/cloud/nodes.env # compose wants it there before it is written
	echo "starting LocalStack, Redis and MongoDB"
	compose up -d --wait localstack redis mongo
	echo "building and deploying the functions"
	local redis store
	redis=$(secret redis-url redis://redis:6379/0)
	store=$(secret store-url mongodb://mongo:27017/pushcluster)
	sam build --build-in-source --parameter-overrides "Architecture=$ARCH"
	sam deploy --stack-name pushcluster --resolve-s3 --capabilities CAPABILITY_IAM --no-confirm-changeset --no-fail-on-empty-changeset \
		--parameter-overrides "Architecture=$ARCH" DeployHttpApi=false DeployPushNodes=false \
		"RedisUrlSecretArn=$redis" "StoreUrlSecretArn=$store"
	echo "building and starting the nodes"
	make -s node-image "ARCH=$ARCH"
	cat >.local/cloud/nodes.env <<-ENV
		AUTH_URL=lambda://$(output AuthFunction)
		REDIS_URL=$redis
		STORE_URL=$store
		SIGNING_SECRETS=$(output SigningSecretArn)
		ORIGINS=*
		AWS_ENDPOINT_URL=http://localstack:4566
		AWS_REGION=us-east-1
		AWS_ACCESS_KEY_ID=test
		AWS_SECRET_ACCESS_KEY=test
	ENV
	compose --profile nodes up -d
	cat <<-TEXT
		Collect: $(output CollectUrl)
		tokens:  $(output AuthUrl)
		nodes:   ws://127.0.0.1:8711/connection/websocket and :8712
		API key: aws secretsmanager get-secret-value --secret-id $(output ApiKeysSecret)
	TEXT
}

case ${1:-} in
up) up ;;
down) compose --profile nodes down ;;
*) echo "usage: $0 up|down" >&2; exit 2 ;;
esac
