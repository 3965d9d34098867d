package compressor

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"io"
	"strings"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	gzipv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/compression/gzip/compressor/v3"
	zstdv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/compression/zstd/compressor/v3"
	compressorv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/compressor/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/mecha-mesh/mecha/proxy/buffer"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/stats"
)

// extension is a TypedExtensionConfig of a message.
func extension(t *testing.T, m proto.Message) *corev3.TypedExtensionConfig {
	t.Helper()
	a, err := anypb.New(m)
	if err != nil {
		t.Fatal(err)
	}
	return &corev3.TypedExtensionConfig{Name: "z", TypedConfig: a}
}

func marshal(t *testing.T, m proto.Message) []byte {
	t.Helper()
	raw, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// started is a filter that sees a response which is to be compressed.
func started(t *testing.T) (*Filter, *filter.Stream) {
	t.Helper()
	c, err := parse(marshal(t, &compressorv3.Compressor{CompressorLibrary: extension(t, &gzipv3.Gzip{})}), nil)
	if err != nil {
		t.Fatal(err)
	}
	st := stats.NewStore()
	mk, err := Spec.New(c, filter.Env{Stats: st, Parent: st.Scope("http")})
	if err != nil {
		t.Fatal(err)
	}
	return mk().(*Filter), &filter.Stream{}
}

func (f *Filter) begin(t *testing.T, s *filter.Stream) {
	t.Helper()
	s.Request.Add("accept-encoding", "gzip")
	s.Response.Add(":status", "200")
	if err := f.OnRequestHeaders(s, true); err != nil {
		t.Fatal(err)
	}
	if err := f.OnResponseHeaders(s, false); err != nil {
		t.Fatal(err)
	}
}

// TestNothingIsKeptBack: what has come of a body can be read before the rest comes.
func TestNothingIsKeptBack(t *testing.T) {
	f, s := started(t)
	f.begin(t, s)
	var wire bytes.Buffer
	for i, event := range []string{"data: 1\n", "data: 2\n", ""} {
		var b buffer.Buf
		b.AppendString(event)
		if err := f.OnResponseData(s, &b, event == ""); err != nil {
			t.Fatal(err)
		}
		wire.Write(b.Bytes())
		b.Release()
		if event == "" {
			break
		}
		z, err := gzip.NewReader(bytes.NewReader(wire.Bytes()))
		if err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewReader(z)
		got := ""
		for range i + 1 {
			if got, err = lines.ReadString('\n'); err != nil {
				t.Fatalf("after %q: %v", event, err)
			}
		}
		if got != event {
			t.Errorf("read %q, want %q", got, event)
		}
	}
	z, err := gzip.NewReader(&wire)
	if err != nil {
		t.Fatal(err)
	}
	if all, err := io.ReadAll(z); err != nil || string(all) != "data: 1\ndata: 2\n" {
		t.Errorf("%q, %v", all, err)
	}
}

// TestMemoryIsBounded: with too many encoders in use a response goes on as it is, until
// one is given back.
func TestMemoryIsBounded(t *testing.T) {
	f, s := started(t)
	f.memory.used.Store(maxMemory - f.config.Library.Cost + 1)
	f.begin(t, s)
	if got := s.Response.Get("content-encoding"); got != "" || f.reply != nil {
		t.Errorf("compressed: %q", got)
	}
	if n := f.limits.Overflow.Value(); n != 1 {
		t.Errorf("overflow %d", n)
	}
	before := f.memory.used.Load()
	f.memory.used.Store(0)
	f.Reset()
	s.Reset()
	f.begin(t, s)
	if f.memory.used.Load() != f.config.Library.Cost {
		t.Errorf("holds %d", f.memory.used.Load())
	}
	f.Reset()
	if n := f.memory.used.Load(); n != 0 {
		t.Errorf("still holds %d, before %d", n, before)
	}
}

// TestEncodersAreUsedAgain: a compressed body costs no memory that is not used again.
func TestEncodersAreUsedAgain(t *testing.T) {
	f, s := started(t)
	var b buffer.Buf
	exchange := func() {
		f.begin(t, s)
		b.AppendString(`{"hello": "world"}`)
		if err := f.OnResponseData(s, &b, true); err != nil {
			t.Fatal(err)
		}
		b.Release()
		f.Reset()
		s.Reset()
	}
	for range 10 {
		exchange()
	}
	if raceOrInvariants {
		t.Skip("slabs are recorded, pools drop things")
	}
	if n := testing.AllocsPerRun(100, exchange); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestRefusals(t *testing.T) {
	for want, pb := range map[string]*compressorv3.Compressor{
		"compressor_library: is required": {},
		"compressor_library.typed_config: this build has no compressor library of the type google.protobuf.UInt32Value": {CompressorLibrary: extension(t, wrapperspb.UInt32(1))},
		"compressor_library.typed_config.memory_level":                                                                  {CompressorLibrary: extension(t, &gzipv3.Gzip{MemoryLevel: wrapperspb.UInt32(10)})},
		"compressor_library.typed_config.dictionary": {CompressorLibrary: extension(t, &zstdv3.Zstd{Dictionary: &corev3.DataSource{
			Specifier: &corev3.DataSource_InlineString{InlineString: "no dictionary"}}})},
	} {
		if _, err := parse(marshal(t, pb), nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
	if _, err := parseRoute(nil, nil); err == nil {
		t.Error("a route without anything")
	}
	p := &filter.Parser{}
	if _, err := parse(marshal(t, &compressorv3.Compressor{CompressorLibrary: extension(t, &gzipv3.Gzip{WindowBits: wrapperspb.UInt32(12)})}), p); err != nil || len(p.Warnings) != 1 {
		t.Errorf("%v %q", err, p.Warnings)
	}
}
