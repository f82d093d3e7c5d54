// Package e2e holds no code, only tests: stories of the whole system, told on
// the stack of package stack and through the clients that people use.
package e2e
