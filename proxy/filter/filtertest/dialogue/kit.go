package dialogue

import "io"

// TB is what of a testing.TB is used here. The package is also part of mecha wasm test, and
// package testing does not belong into a proxy.
type TB interface {
	Helper()
	Cleanup(f func())
	TempDir() string
	Output() io.Writer
	Logf(format string, args ...any)
	Error(args ...any)
	Errorf(format string, args ...any)
	Fatal(args ...any)
	Fatalf(format string, args ...any)
	Skip(args ...any)
}

// Test is what of a *testing.T is used here.
type Test[T TB] interface {
	TB
	Run(name string, f func(T)) bool
}
