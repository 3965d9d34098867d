package h2

import (
	"encoding/xml"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/summerwind/h2spec"
	"github.com/summerwind/h2spec/config"

	"github.com/mecha-mesh/mecha/proxy/buffer"
	"github.com/mecha-mesh/mecha/proxy/codec"
	"github.com/mecha-mesh/mecha/proxy/header"
	"github.com/mecha-mesh/mecha/proxy/netio"
)

// answer reads the request, then answers, as a service behind the proxy would.
func answer(st codec.ServerStream) {
	var q, tr header.Map
	next, err := st.ReadHeaders(&q)
	var b buffer.Buf
	for err == nil && next == codec.Data {
		next, err = st.ReadData(&b)
		b.Release()
	}
	if err == nil && next == codec.Trailers {
		err = st.ReadTrailers(&tr)
	}
	if err != nil {
		return
	}
	var r header.Map
	r.AddID(header.Status, "200")
	r.AddID(header.ContentLength, "5")
	if st.WriteHeaders(&r, q.Value(header.Method) == "HEAD") == nil && q.Value(header.Method) != "HEAD" {
		_ = st.WriteData(bufOf("hello"), true)
	}
}

// TestH2spec: all cases of h2spec pass, strict ones included.
func TestH2spec(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s := NewServer(netio.NewConn(c), ServerOptions{Options: Options{MaxConcurrentStreams: 100}})
			go func() { _ = acceptAll(s, answer) }()
		}
	}()
	report := filepath.Join(t.TempDir(), "report.xml")
	ok, err := h2spec.Run(&config.Config{
		Host: "127.0.0.1", Port: l.Addr().(*net.TCPAddr).Port, Path: "/", Timeout: 2 * time.Second,
		MaxHeaderLen: 4000, Strict: true, JUnitReport: report,
	})
	if err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(report)
	if err != nil {
		t.Fatal(err)
	}
	var suites struct {
		Suites []struct {
			Tests    int `xml:"tests,attr"`
			Skipped  int `xml:"skipped,attr"`
			Failures int `xml:"failures,attr"`
		} `xml:"testsuite"`
	}
	if err := xml.Unmarshal(raw, &suites); err != nil {
		t.Fatal(err)
	}
	total := 0
	for _, s := range suites.Suites {
		total += s.Tests
		if s.Skipped > 0 {
			t.Errorf("%d cases skipped", s.Skipped)
		}
	}
	if !ok || total < 145 {
		t.Errorf("of %d cases some failed (see above)", total)
	}
}
