package call_test

import (
	"encoding/binary"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/mecha-mesh/mecha/proxy/filter/call"
)

// framed is a gRPC message.
func framed(message string) string {
	return string(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(message)))) + message
}

// reply is what a service answers.
type reply struct {
	code             int
	early            bool // status and message are in the head
	status, text     string
	body             string
	want, wantStatus string // the message, or the error
}

// TestUnary: a status in the trailers, in the head, in neither, and what comes with it.
func TestUnary(t *testing.T) {
	for name, c := range map[string]reply{
		"answered":      {code: 200, status: "0", body: framed("pong"), want: "pong"},
		"empty":         {code: 200, status: "0", body: framed("")},
		"status":        {code: 200, status: "7", text: "not%20you%25", wantStatus: "call: gRPC status 7: not you%"},
		"late status":   {code: 200, status: "13", text: "no", body: framed("pong"), wantStatus: "call: gRPC status 13: no"},
		"trailers only": {code: 200, early: true, status: "14", text: "later", wantStatus: "call: gRPC status 14: later"},
		"bad escape":    {code: 200, status: "2", text: "a%zz", wantStatus: "call: gRPC status 2: a%zz"},
		"HTTP":          {code: 503, wantStatus: "call: gRPC status 14: HTTP status 503"},
		"HTTP, unknown": {code: 418, wantStatus: "call: gRPC status 2: HTTP status 418"},
		"no status":     {code: 200, body: framed("pong"), wantStatus: "call: gRPC status 2: the answer has no status"},
		"no number":     {code: 200, status: "x", wantStatus: "call: gRPC status 2: the answer has no status"},
		"no message":    {code: 200, status: "0", wantStatus: "call: the answer is no gRPC message"},
		"two messages":  {code: 200, status: "0", body: framed("a") + framed("b"), wantStatus: "call: the answer is no gRPC message"},
		"cut message":   {code: 200, status: "0", body: framed("pong")[:7], wantStatus: "call: the answer is no gRPC message"},
		"compressed":    {code: 200, status: "0", body: "\x01" + framed("pong")[1:], wantStatus: "call: the answer is no gRPC message"},
	} {
		t.Run(name, func(t *testing.T) {
			asked := make(chan *http.Request, 1)
			s := newServer(t, func(w http.ResponseWriter, r *http.Request) {
				if body, _ := io.ReadAll(r.Body); string(body) != framed("ping") {
					t.Errorf("asked %q", body)
				}
				asked <- r
				c.write(w)
			})
			b := newBench(t, s.addr, 2)
			to := &call.GRPC{
				Cluster: "c", Authority: "svc", Timeout: patience,
				Metadata: []call.Metadata{{Name: "x-who", Value: "me"}, {Name: "x-none"}},
			}
			got, err := b.client.Unary(call.Background(t.Context()), to, "/p.S/M", nil, []byte("ping"))
			text := ""
			if err != nil {
				text = err.Error()
			}
			if string(got) != c.want || text != c.wantStatus {
				t.Errorf("%q, %v", got, err)
			}
			var status *call.Status
			if is := errors.As(err, &status); is != strings.HasPrefix(c.wantStatus, "call: gRPC status") {
				t.Errorf("%v is a status: %t", err, is)
			}
			r := <-asked
			h := r.Header
			if r.URL.Path != "/p.S/M" || r.Host != "svc" || h.Get("Te") != "trailers" || h.Get("Content-Type") != "application/grpc" ||
				h.Get("Grpc-Timeout") != "30000m" || h.Get("X-Who") != "me" || h["X-None"] != nil {
				t.Errorf("asked %s %s %v", r.Host, r.URL, h)
			}
		})
	}
}

func (c *reply) write(w http.ResponseWriter) {
	h, prefix := w.Header(), http.TrailerPrefix
	if c.early {
		prefix = ""
	}
	h.Set("Content-Type", "application/grpc")
	if c.early {
		set(h, prefix, c)
	}
	w.WriteHeader(c.code)
	_, _ = io.WriteString(w, c.body)
	if !c.early {
		set(h, prefix, c)
	}
}

func set(h http.Header, prefix string, c *reply) {
	if c.status != "" {
		h.Set(prefix+"Grpc-Status", c.status)
	}
	if c.text != "" {
		h.Set(prefix+"Grpc-Message", c.text)
	}
}

// TestLargeMessage: an answer is bounded.
func TestLargeMessage(t *testing.T) {
	s := newServer(t, func(w http.ResponseWriter, _ *http.Request) {
		c := reply{code: 200, status: "0", body: framed(strings.Repeat("x", 1000))}
		c.write(w)
	})
	b := newBench(t, s.addr, 2)
	for limit, want := range map[int]error{1004: call.ErrTooLarge, 1005: nil} {
		to := &call.GRPC{Cluster: "c", Authority: "svc", MaxMessage: limit}
		if _, err := b.client.Unary(call.Background(t.Context()), to, "/p.S/M", nil, nil); !errors.Is(err, want) {
			t.Errorf("%d: %v", limit, err)
		}
	}
}

// TestDeadlines: what a service is told, in eight digits at most.
func TestDeadlines(t *testing.T) {
	got := make(chan string, 1)
	s := newServer(t, func(w http.ResponseWriter, r *http.Request) {
		got <- r.Header.Get("Grpc-Timeout")
		c := reply{code: 200, status: "0", body: framed("")}
		c.write(w)
	})
	b := newBench(t, s.addr, 2)
	for d, want := range map[time.Duration]string{
		0: "", time.Second: "1000m", 100_000 * time.Second: "100000S", 100_000_000 * time.Second: "1666666M",
	} {
		to := &call.GRPC{Cluster: "c", Authority: "svc", Timeout: d}
		if _, err := b.client.Unary(call.Background(t.Context()), to, "/p.S/M", nil, nil); err != nil {
			t.Fatal(err)
		}
		if text := <-got; text != want {
			t.Errorf("%s: %q, want %q", d, text, want)
		}
	}
}

// TestURIs: what an http_uri says.
func TestURIs(t *testing.T) {
	for uri, want := range map[string][2]string{
		"https://a.test/p?q":   {"a.test", "/p?q"},
		"a.test:80/p":          {"a.test:80", "/p"},
		"http://a.test":        {"a.test", "/"},
		"http://a.test?q":      {"a.test", "?q"},
		"http://a.test/p://b/": {"a.test", "/p://b/"},
	} {
		if a, p := call.SplitURI(uri); a != want[0] || p != want[1] {
			t.Errorf("%s: %q %q", uri, a, p)
		}
	}
}
