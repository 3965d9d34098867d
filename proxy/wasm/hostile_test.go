package wasm

import (
	"encoding/binary"
	"log/slog"
	"maps"
	"os"
	"slices"
	"testing"

	"github.com/mecha-mesh/mecha/proxy/attributes"
	"github.com/mecha-mesh/mecha/proxy/buffer"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/header"
	"github.com/mecha-mesh/mecha/proxy/stats"
	"github.com/mecha-mesh/mecha/proxy/wasm/wat"
)

// target is a stream of which everything is there.
type target struct {
	maps [4]header.Map
	body buffer.Buf
	s    filter.Stream
}

func (s *target) Map(t MapType) (*header.Map, bool) {
	if int(t) < len(s.maps) {
		return &s.maps[t], true
	}
	return nil, false
}
func (s *target) Changed(MapType)               {}
func (s *target) Buffer(BufferType) *buffer.Buf { return &s.body }
func (s *target) Attributes() attributes.Source { return attributes.Source{Stream: &s.s} }
func (s *target) Reply(*filter.Reply) Status    { return StatusOK }
func (s *target) Continue(StreamType) Status    { return StatusOK }
func (s *target) Close(StreamType) Status       { return StatusOK }
func (s *target) ClearRouteCache() Status       { return StatusOK }

// hostile starts a guest whose host functions can be called.
func hostile(f *testing.F) *Plugin {
	f.Helper()
	source, err := os.ReadFile("../../filters/wasm/testdata/guests/probe.wat")
	if err != nil {
		f.Fatal(err)
	}
	code, err := wat.Assemble(string(source))
	if err != nil {
		f.Fatal(err)
	}
	var retire []func()
	f.Cleanup(func() {
		for _, r := range retire {
			r()
		}
	})
	env := filter.Env{Stats: stats.NewStore(), Shares: filter.NewShares(), Log: slog.New(slog.DiscardHandler), Retire: func(r func()) { retire = append(retire, r) }}
	p, err := Open(&Config{Name: "probe", VM: VMConfig{Runtime: "envoy.wasm.runtime.v8", Code: string(code)}}, env)
	if err != nil {
		f.Fatal(err)
	}
	return p
}

// FuzzHostFunctions calls host functions with any parameters: what they do is within the memory of the guest,
// which wazero checks as long as nobody goes around it, and they do not panic.
func FuzzHostFunctions(f *testing.F) {
	p := hostile(f)
	all := hostFunctions()
	names := slices.Sorted(maps.Keys(all))
	for i := range names {
		for _, seed := range [][3]uint32{{0, 0, 0}, {0, 16, 512}, {2, 1<<32 - 1, 512}, {1<<32 - 1, 1<<32 - 1, 1<<32 - 1}, {0, 2 << 16, 1}, {8, 2<<16 - 1, 2}, {0x10000, 0x80000000, 4}} {
			var args []byte
			for n := range 12 {
				args = binary.LittleEndian.AppendUint32(args, seed[n%3])
			}
			f.Add(uint8(i), args, []byte("request\x00path\x01\x00\x00\x00\x01\x00\x00\x00"))
		}
	}
	for name := range foreignFunctions() {
		call := slices.Index(names, "proxy_call_foreign_function")
		args := binary.LittleEndian.AppendUint32(nil, 1024)
		for _, v := range []uint32{uint32(len(name)), 1024, 40, 512, 516} {
			args = binary.LittleEndian.AppendUint32(args, v)
		}
		f.Add(uint8(call), args, []byte(name))
	}
	f.Fuzz(func(t *testing.T, which uint8, args, memory []byte) {
		s := &target{}
		s.maps[0].Add(":path", "/")
		s.body.AppendString("body")
		defer s.body.Release()
		var c Context
		if err := p.Enter(&c, s); err != nil {
			t.Fatal(err)
		}
		defer c.Leave()
		c.Lock()
		defer c.Unlock()
		in := c.in
		in.memory.Write(1024, memory)
		var stack [12]uint64
		for i := range stack {
			if len(args) >= 4*i+4 {
				stack[i] = uint64(binary.LittleEndian.Uint32(args[4*i:]))
			}
		}
		size := in.memory.Size()
		in.effective = &c
		all[names[int(which)%len(names)]].call(in, in.module, stack[:])
		in.effective, in.ended = nil, nil
		if in.memory.Size() != size {
			t.Errorf("the memory has %d bytes, and had %d", in.memory.Size(), size)
		}
		if root := c.root; root.timer != nil {
			root.timer.Stop()
			root.period = 0
		}
	})
}
