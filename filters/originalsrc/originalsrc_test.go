package originalsrc

import (
	"net/netip"
	"testing"

	originalsrcv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/original_src/v3"
	"google.golang.org/protobuf/proto"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/meta"
	"github.com/mecha-mesh/mecha/proxy/netio"
)

type peeker struct{ conn filter.Conn }

func (p *peeker) Peek(int) ([]byte, error) { panic("it reads nothing") }
func (p *peeker) Discard(int) error        { panic("it reads nothing") }
func (p *peeker) Meta() *meta.Conn         { return p.conn.Meta }
func (p *peeker) Conn() *filter.Conn       { return &p.conn }
func (p *peeker) Socket() *netio.Conn      { return nil }

func TestInspect(t *testing.T) {
	raw, err := proto.Marshal(&originalsrcv3.OriginalSrc{Mark: 7, BindPort: true})
	if err != nil {
		t.Fatal(err)
	}
	p := &filter.Parser{}
	c, err := parse(raw, p)
	if err != nil || len(p.Warnings) != 1 {
		t.Fatalf("%v, %q", err, p.Warnings)
	}
	f, err := Spec.New(c, filter.Env{})
	if err != nil {
		t.Fatal(err)
	}
	ip := &peeker{filter.Conn{Meta: &meta.Conn{Remote: meta.Addr{AddrPort: netip.MustParseAddrPort("192.0.2.7:4000")}}}}
	unix := &peeker{filter.Conn{Meta: &meta.Conn{Remote: meta.Addr{Path: "/x"}}}}
	for _, p := range []*peeker{ip, unix} {
		if err := f.Inspect(p); err != nil {
			t.Fatal(err)
		}
	}
	if s := ip.conn.Meta.UpstreamSource; s == nil || *s != (meta.Source{Addr: netip.MustParseAddr("192.0.2.7"), Mark: 7}) {
		t.Errorf("%+v", s)
	}
	if s := unix.conn.Meta.UpstreamSource; s != nil {
		t.Errorf("%+v", s)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("\x10\x07"))
	f.Fuzz(func(t *testing.T, raw []byte) { _, _ = parse(raw, &filter.Parser{}) })
}
