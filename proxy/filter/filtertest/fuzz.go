package filtertest

import (
	"io"
	"net"
	"testing"
	"time"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/filtertest/dialogue"
	"github.com/mecha-mesh/mecha/proxy/stats"
)

// FuzzParse feeds bytes to the parsers of a filter's configuration: no bytes make them,
// or the filter that is built of what they accept, panic. The configurations of the
// dialogues are the seeds.
func FuzzParse[C any](f *testing.F, spec filter.HTTPSpec[C]) {
	addConfigs(f, subject(spec))
	f.Fuzz(func(t *testing.T, raw []byte) {
		p := parser(t, spec)
		if spec.ParseRoute != nil {
			_, _ = spec.ParseRoute(raw, p) // refused or not
		}
		c, err := spec.Parse(raw, p)
		if err != nil {
			return
		}
		st := stats.NewStore()
		mk, err := spec.New(c, filter.Env{Name: "fuzz", Stats: st, Parent: st.Scope("http"), Log: discard()})
		if err == nil && mk != nil {
			mk().Reset()
		}
	})
}

// FuzzNetworkParse is FuzzParse for a network filter. others are the filters that its
// configuration may contain.
func FuzzNetworkParse[C any](f *testing.F, spec filter.NetworkSpec[C], others ...filter.Descriptor) {
	addConfigs(f, dialogue.Subject{Name: spec.Name, Type: spec.Type})
	f.Fuzz(func(t *testing.T, raw []byte) {
		_, _ = spec.Parse(raw, parser(t, append(others, spec)...)) // refused or not
	})
}

// addConfigs adds the configurations of the dialogues as seeds.
func addConfigs(f *testing.F, about dialogue.Subject) {
	cases, err := dialogue.Configs(about, files)
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte{})
	for _, c := range cases {
		f.Add(c.Filter)
	}
}

// most is how long one fuzzed exchange may take.
const most = 20 * time.Second

// FuzzHooks sends bytes as a client and others as an upstream through the HTTP engine
// with the filter in its chain, in each configuration of the dialogues: no traffic makes
// the filter panic or keeps a stream from ending.
func FuzzHooks[C any](f *testing.F, spec filter.HTTPSpec[C]) { FuzzHooksAbout(f, spec, subject(spec)) }

// FuzzHooksAbout is FuzzHooks for dialogues that need more than the filter: a folder.
func FuzzHooksAbout[C any](f *testing.F, spec filter.HTTPSpec[C], about dialogue.Subject) {
	cases, err := dialogue.Configs(about, files)
	if err != nil {
		f.Fatal(err)
	}
	if len(cases) == 0 {
		f.Fatal("no dialogue has a configuration of the filter")
	}
	for i := range cases {
		f.Add(uint8(i), []byte("GET / HTTP/1.1\r\nhost: a\r\n\r\n"), []byte("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"))
		f.Add(uint8(i), []byte("POST /x?y HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nx: y\r\n\r\n"),
			[]byte("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nx: y\r\n\r\n"))
	}
	f.Fuzz(func(t *testing.T, which uint8, client, upstream []byte) {
		c := cases[int(which)%len(cases)]
		m, err := dialogue.NewMemory(c.Bootstrap, discard(), func(string, string) (net.Conn, error) { return answer(upstream) }, spec)
		if err != nil {
			t.Fatal(err)
		}
		defer m.Close()
		conn, err := m.Dial(c.Listener)
		if err != nil {
			t.Fatal(err)
		}
		if err := conn.SetDeadline(time.Now().Add(most)); err != nil {
			t.Fatal(err)
		}
		go func() {
			_, _ = conn.Write(client) // the proxy may have had enough of it
			_ = conn.(*net.UnixConn).CloseWrite()
		}()
		_, _ = io.Copy(io.Discard, conn) // whatever it says
		conn.Close()
		done := make(chan struct{})
		go func() { m.Wait(); close(done) }()
		select {
		case <-done:
		case <-time.After(most):
			t.Fatal("the stream does not end")
		}
		if n := m.Stat("http." + c.Listener + ".stream_panics"); n != "0" {
			t.Fatalf("%s panics", n)
		}
	})
}

// answer is the proxy's end of a connection to an upstream that says b and hangs up when
// it has heard something.
func answer(b []byte) (net.Conn, error) {
	mine, theirs, err := dialogue.Pair()
	if err != nil {
		return nil, err
	}
	go func() {
		defer theirs.Close()
		buf := make([]byte, 4096)
		if _, err := theirs.Read(buf); err != nil {
			return
		}
		_, _ = theirs.Write(b) // the proxy may not want it
		_ = theirs.(*net.UnixConn).CloseWrite()
		_, _ = io.Copy(io.Discard, theirs)
	}()
	return mine, nil
}
