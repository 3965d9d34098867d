package udpproxy_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// servers are tunnels to an HTTP server that is no proxy: what it sees of the request, and
// what comes of its answers. They hold for mecha and for Envoy.
var servers = []struct {
	name     string
	http2    bool
	filter   obj // merged over the filter
	capsules bool
	serve    func(w *world, rw http.ResponseWriter, r *http.Request)
	play     func(w *world)
}{
	{name: "POST", http2: true, capsules: true, filter: posts, serve: posted, play: func(w *world) {
		c := w.client()
		c.ask("a", "a")
		c.ask(strings.Repeat("y", 1400), strings.Repeat("y", 1400))
		w.WaitStat(w, "cluster.proxy.udp.sess_tunnel_success", "1")
	}},
	{name: "POST over HTTP1", capsules: true, filter: posts, serve: posted, play: func(w *world) {
		c := w.client()
		c.ask("a", "a")
		c.ask("b", "b")
	}},
	{name: "raw", http2: true, filter: posts, serve: posted, play: func(w *world) { w.client().ask("a", "a") }},
	{name: "idle", capsules: true, filter: obj{"idle_timeout": "0.3s", "tunneling_config": obj{}}, serve: upgraded, play: func(w *world) {
		w.client().ask("a", "a")
		w.stats("idle_timeout", "1", "downstream_sess_active", "0")
		w.left("upgraded")
	}},
	{name: "POST is refused", http2: true, capsules: true, filter: obj{"tunneling_config": obj{"use_post": true}},
		serve: func(w *world, rw http.ResponseWriter, r *http.Request) {
			if r.Method != http.MethodPost || r.URL.Path != "/" {
				w.Errorf("%s %s", r.Method, r.URL)
			}
			rw.WriteHeader(http.StatusNotFound)
		}, play: func(w *world) { w.refused("a") }},
	{name: "CONNECT-UDP is refused", capsules: true,
		serve: func(_ *world, rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(http.StatusNotFound) },
		play:  func(w *world) { w.refused("a") }},
	{name: "200 is no upgrade", capsules: true,
		serve: func(_ *world, rw http.ResponseWriter, _ *http.Request) {
			rw.Header().Set("Capsule-Protocol", "?1")
			_ = http.NewResponseController(rw).Flush() // the body goes on
		},
		play: func(w *world) { w.refused("a") }},
	{name: "refused, then granted", http2: true, capsules: true, filter: obj{"tunneling_config": obj{
		"use_post": true, "retry_options": obj{"max_connect_attempts": 3, "backoff_options": obj{"base_interval": "0.02s", "max_interval": "0.05s"}},
	}}, serve: func(w *world, rw http.ResponseWriter, r *http.Request) {
		if w.asked.Add(1) < 3 {
			rw.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		echo(rw, r)
	}, play: func(w *world) {
		w.client().ask("a", "a")
		w.WaitStat(w, "cluster.proxy.upstream_rq_retry", "2")
		w.WaitStat(w, "cluster.proxy.udp.sess_tunnel_success", "1")
	}},
	{name: "no answer", capsules: true, filter: obj{"idle_timeout": "0.3s"}, serve: unanswered, play: unheard},
	{name: "no answer over HTTP2", http2: true, capsules: true, filter: obj{
		"idle_timeout": "0.3s", "tunneling_config": obj{"use_post": true},
	}, serve: unanswered, play: unheard},
}

// posts are tunnels by POST, with fields of their own.
var posts = obj{"tunneling_config": obj{
	"use_post": true, "post_path": "/p", "proxy_port": 99, "headers_to_add": []any{
		obj{"header": obj{"key": "x-client", "value": "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%"}},
		obj{"header": obj{"key": "x-two", "value": "b"}},
	},
}}

// posted checks such a request and echoes its body.
func posted(w *world, rw http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost || r.URL.Path != "/p" || r.Host != "proxy:99" {
		w.Errorf("%s %s %s", r.Method, r.Host, r.URL)
	}
	for name, want := range map[string]string{"X-Client": "127.0.0.1", "X-Two": "b", "Upgrade": "", "Capsule-Protocol": ""} {
		if got := r.Header.Get(name); got != want {
			w.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	echo(rw, r)
}

// echo answers 200 and the bytes of the request as they come.
func echo(rw http.ResponseWriter, r *http.Request) {
	c := http.NewResponseController(rw)
	_ = c.EnableFullDuplex() // HTTP/2 always is
	_ = c.Flush()
	b := make([]byte, 4096)
	for {
		n, err := r.Body.Read(b)
		if _, werr := rw.Write(b[:n]); err != nil || werr != nil || c.Flush() != nil {
			return
		}
	}
}

// upgraded grants CONNECT-UDP over HTTP/1.1 and echoes what comes, until there is no more.
func upgraded(w *world, rw http.ResponseWriter, _ *http.Request) {
	conn, in, err := http.NewResponseController(rw).Hijack()
	if err != nil {
		w.Error(err)
		return
	}
	defer close(w.gone)
	defer conn.Close()
	_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: connect-udp\r\ncapsule-protocol: ?1\r\n\r\n")
	_, _ = io.Copy(conn, in)
}

// unanswered waits until the one who asks has gone.
func unanswered(w *world, _ http.ResponseWriter, r *http.Request) {
	defer close(w.gone)
	select {
	case <-r.Context().Done():
	case <-time.After(patience):
		w.Error("the request is still there")
	}
}

func unheard(w *world) {
	w.client().send("a")
	w.stats("idle_timeout", "1", "downstream_sess_active", "0")
	w.left("asked")
}

// left waits until the server has seen the end of the stream.
func (w *world) left(what string) {
	w.Helper()
	select {
	case <-w.gone:
	case <-time.After(patience):
		w.Errorf("the server still is %s", what)
	}
}

func playServers(t *testing.T, begin starter) {
	for _, c := range servers {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, "127.0.0.1")
			port := w.serve(func(rw http.ResponseWriter, r *http.Request) { c.serve(w, rw, r) })
			w.tunnel(begin, port, c.http2, c.filter, c.capsules)
			c.play(w)
		})
	}
}

// serve runs a server of both versions of HTTP and returns its port.
func (w *world) serve(h http.HandlerFunc) int {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		w.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := &http.Server{Handler: h, Protocols: new(http.Protocols), BaseContext: func(net.Listener) context.Context { return ctx }}
	s.Protocols.SetHTTP1(true)
	s.Protocols.SetUnencryptedHTTP2(true)
	go func() { _ = s.Serve(l) }()
	w.Cleanup(func() { cancel(); _ = s.Close() })
	return l.Addr().(*net.TCPAddr).Port
}

func TestTunnelServers(t *testing.T) { playServers(t, startMecha) }
