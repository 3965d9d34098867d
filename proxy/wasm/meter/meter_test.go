package meter_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	"github.com/mecha-mesh/mecha/proxy/wasm/meter"
	"github.com/mecha-mesh/mecha/proxy/wasm/wat"
)

const program = `(module
  (type $unary (func (param i32) (result i32)))
  (table 2 funcref) (elem (i32.const 0) $double $triple)
  (func $double (param i32) (result i32) (i32.mul (i32.const 2) (local.get 0)))
  (func $triple (param i32) (result i32) (i32.mul (i32.const 3) (local.get 0)))
  (func (export "sum") (param $n i32) (result i32) (local $s i32)
    (loop $l
      (local.set $s (i32.add (local.get $s) (call_indirect (type $unary) (local.get $n) (i32.rem_u (local.get $n) (i32.const 2)))))
      (br_if $l (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
    (local.get $s)))`

// TestSameResult: a rewritten module does what it did, and asks now and then.
func TestSameResult(t *testing.T) {
	code, err := wat.Assemble(program)
	if err != nil {
		t.Fatal(err)
	}
	metered, err := meter.Rewrite(code, meter.Options{})
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	r := wazero.NewRuntime(ctx)
	defer r.Close(ctx)
	asked := 0
	refill := func(_ context.Context, m api.Module, _ []uint64) {
		asked++
		m.ExportedGlobal(meter.Left).(api.MutableGlobal).Set(100)
	}
	b := r.NewHostModuleBuilder(meter.Module)
	b.NewFunctionBuilder().WithGoModuleFunction(api.GoModuleFunc(refill), nil, nil).Export(meter.Refill)
	if _, err := b.Instantiate(ctx); err != nil {
		t.Fatal(err)
	}
	var sums []uint64
	for _, c := range [][]byte{code, metered} {
		m, err := r.InstantiateWithConfig(ctx, c, wazero.NewModuleConfig().WithName(""))
		if err != nil {
			t.Fatal(err)
		}
		out, err := m.ExportedFunction("sum").Call(ctx, 1000)
		if err != nil {
			t.Fatal(err)
		}
		sums = append(sums, out[0])
	}
	if sums[0] != sums[1] {
		t.Errorf("the sum is %d, and metered %d", sums[0], sums[1])
	}
	if asked < 9 || asked > 11 {
		t.Errorf("it has asked %d times in 1000 rounds, 100 at a time", asked)
	}
}

// FuzzRewrite: no bytes make it panic.
func FuzzRewrite(f *testing.F) {
	files, _ := filepath.Glob("../../../filters/wasm/testdata/guests/*.wat") // the pattern is right
	for _, file := range files {
		source, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		code, err := wat.Assemble(string(source))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(code)
	}
	f.Fuzz(func(t *testing.T, code []byte) {
		_, _ = meter.Rewrite(code, meter.Options{}) // refused or not
	})
}
