// Package mecha is the root of the module; it holds no code, only the rules that
// arch_test.go checks. Start reading at ARCHITECTURE.md.
package mecha
