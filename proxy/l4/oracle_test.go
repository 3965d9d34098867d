//go:build oracle

package l4

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mecha-mesh/mecha/proxy/filter/filtertest/ports"
)

// TestOracleFilterChainMatch asks a real Envoy (MECHA_ENVOY) for the chain of every
// case: each chain answers with its name.
func TestOracleFilterChainMatch(t *testing.T) {
	envoy := os.Getenv("MECHA_ENVOY")
	if envoy == "" {
		t.Skip("MECHA_ENVOY names no Envoy binary")
	}
	o := &oracle{source: ports.Free(t)}
	var listeners []any
	for i := range matchGroups {
		listeners = append(listeners, o.listener(t, i))
	}
	admin := ports.Free(t)
	raw, err := json.Marshal(obj{
		"admin":            obj{"address": socketAddress("127.0.0.1", admin)},
		"static_resources": obj{"listeners": listeners},
	})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "envoy.json")
	if err := os.WriteFile(file, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	cmd := exec.Command(envoy, "-c", file, "--disable-hot-restart", "--concurrency", "1", "-l", "error")
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer cmd.Process.Kill()
	if !isReady(admin) {
		cmd.Process.Kill()
		cmd.Wait()
		t.Fatalf("Envoy does not get ready:\n%s", log.String())
	}
	asked := 0
	for i, g := range matchGroups {
		for _, c := range g.cases {
			if c.here != "" {
				continue
			}
			asked++
			if got, err := o.ask(i, c.conn); err != nil || got != c.want {
				t.Errorf("%s: %+v: Envoy takes the chain %q, %v; the case says %q", g.name, c.conn, got, err, c.want)
			}
		}
	}
	t.Logf("Envoy was asked %d times", asked)
}

type obj = map[string]any

// oracle knows which ports stand for those of the cases.
type oracle struct {
	ports  []map[uint16]int // of each group
	source int
}

func isReady(admin int) bool {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		r, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/ready", admin))
		if err == nil {
			r.Body.Close()
			if r.StatusCode == 200 {
				return true
			}
		}
		select {
		case <-ctx.Done():
			return false
		case <-tick.C:
		}
	}
}

func socketAddress(ip string, port int) obj {
	return obj{"socket_address": obj{"address": ip, "port_value": port}}
}

func (o *oracle) listener(t *testing.T, i int) obj {
	g := matchGroups[i]
	at := map[uint16]int{portA: ports.Free(t), portB: ports.Free(t)}
	o.ports = append(o.ports, at)
	l := obj{
		"name":                                 g.name,
		"address":                              socketAddress("0.0.0.0", at[portA]),
		"additional_addresses":                 []any{obj{"address": socketAddress("0.0.0.0", at[portB])}},
		"continue_on_listener_filters_timeout": true,
		"listener_filters": []any{
			named("tls", "envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector", nil),
			named("http", "envoy.extensions.filters.listener.http_inspector.v3.HttpInspector", nil),
		},
	}
	var chains []any
	for _, c := range g.chains {
		chains = append(chains, o.chain(c.Name, &c.Match, at))
	}
	l["filter_chains"] = chains
	if !g.noDef {
		l["default_filter_chain"] = o.chain("default", nil, at)
	}
	return l
}

func named(name, typ string, fields obj) obj {
	c := obj{"@type": "type.googleapis.com/" + typ}
	maps.Copy(c, fields)
	return obj{"name": name, "typed_config": c}
}

func (o *oracle) chain(name string, m *Match, at map[uint16]int) obj {
	c := obj{"name": name, "filters": []any{
		named("answer", "envoy.extensions.filters.network.direct_response.v3.Config", obj{"response": obj{"inline_string": name + "\n"}}),
	}}
	if m == nil {
		return c
	}
	match := obj{
		"prefix_ranges": cidrs(m.PrefixRanges), "server_names": m.ServerNames, "transport_protocol": m.TransportProtocol,
		"application_protocols": m.ApplicationProtocols, "direct_source_prefix_ranges": cidrs(m.DirectSourceRanges),
		"source_type": int(m.SourceType), "source_prefix_ranges": cidrs(m.SourceRanges),
	}
	if p := m.DestinationPort; p != 0 {
		match["destination_port"] = p
		if real := at[p]; real != 0 {
			match["destination_port"] = real
		}
	}
	if len(m.SourcePorts) > 0 {
		match["source_ports"] = []int{o.source}
	}
	c["filter_chain_match"] = match
	return c
}

func cidrs(list []netip.Prefix) (out []any) {
	for _, p := range list {
		out = append(out, obj{"address_prefix": p.Addr().String(), "prefix_len": p.Bits()})
	}
	return out
}

// ask makes the connection and returns the name of the chain that answers.
func (o *oracle) ask(group int, a asked) (string, error) {
	if a.port == 0 {
		a.port = portA
	}
	or := func(s string) string {
		if s == "" {
			return "127.0.0.1"
		}
		return s
	}
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(or(a.src))}, Timeout: 10 * time.Second}
	if a.srcPort != 0 {
		d.LocalAddr.(*net.TCPAddr).Port = o.source
	}
	c, err := d.Dial("tcp", net.JoinHostPort(or(a.dst), fmt.Sprint(o.ports[group][a.port])))
	if err != nil {
		return "", err
	}
	defer c.(*net.TCPConn).SetLinger(0) // so that the source port is free again
	defer c.Close()
	c.SetDeadline(time.Now().Add(10 * time.Second))
	switch {
	case a.tls:
		return askTLS(c, a)
	case len(a.alpn) == 0:
		io.WriteString(c, "\x01 this is neither TLS nor HTTP\r\n")
	case a.alpn[0] == "h2c":
		io.WriteString(c, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
	default:
		io.WriteString(c, "GET / "+strings.ToUpper(a.alpn[0])+"\r\n\r\n")
	}
	return answer(bufio.NewReader(c))
}

// askTLS sends a ClientHello; the answer comes in plain text.
func askTLS(c net.Conn, a asked) (string, error) {
	rec := &recorder{Conn: c}
	cfg := &tls.Config{ServerName: a.sni, NextProtos: a.alpn, InsecureSkipVerify: true}
	_ = tls.Client(rec, cfg).Handshake() // fails at the plain answer, which is what we want
	return answer(bufio.NewReader(io.MultiReader(&rec.got, c)))
}

// recorder keeps what was read.
type recorder struct {
	net.Conn
	got bytes.Buffer
}

func (r *recorder) Read(p []byte) (int, error) {
	n, err := r.Conn.Read(p)
	r.got.Write(p[:n])
	return n, err
}

// answer reads a chain's name; a connection that is just closed has none.
func answer(r *bufio.Reader) (string, error) {
	line, err := r.ReadString('\n')
	if name, whole := strings.CutSuffix(line, "\n"); whole {
		return name, nil
	}
	if ne, ok := err.(net.Error); ok && ne.Timeout() {
		return "", err
	}
	return "", nil
}
