// Package cloud holds what is true of the deployment: tests of template.yaml
// (make aws-check) and of the whole cluster on LocalStack (make
// localstack-test). Beside them are the scripts that bring up LocalStack.
package cloud
