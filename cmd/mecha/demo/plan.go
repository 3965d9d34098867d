package demo

import (
	"embed"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"text/template"
)

// control is the name of the control plane among the members.
const control = "control"

// member is a program of the shop.
type member struct {
	name    string
	kind    string // argument of the shop program; "" is the control plane
	port    uint16 // where it listens in a pod of its own
	env     []string
	sidecar bool
	host    byte // last part of the address in a node
}

// The ports of the bank: one that capture leaves alone and one that it doesn't.
const (
	bankPort   = 9100
	backupPort = 9200
	adminPort  = 15000
)

// slowReport is how long the reports take.
const slowReport = "1.5s"

// members lists the shop in the order in which it starts.
func members() []member {
	return []member{
		{name: control, port: 18000, host: 20},
		{name: "bank", kind: "bank", port: bankPort, env: []string{fmt.Sprintf("LISTEN=:%d,:%d", bankPort, backupPort)}, host: 27},
		{name: "catalog-v1", kind: "catalog", port: 8080, env: []string{"VERSION=v1"}, sidecar: true, host: 22},
		{name: "catalog-v2", kind: "catalog", port: 8080, env: []string{"VERSION=v2"}, sidecar: true, host: 23},
		{name: "orders", kind: "orders", port: 8080, env: []string{"FAIL_EVERY=3"}, sidecar: true, host: 24},
		{name: "reports", kind: "reports", port: 8080, env: []string{"DELAY=" + slowReport}, sidecar: true, host: 25},
		{name: "inventory", kind: "inventory", port: 7000, env: []string{"LISTEN=:7000"}, sidecar: true, host: 26},
		{name: "frontend", kind: "frontend", port: 8080, sidecar: true, host: 21},
	}
}

// backends are the members that a cluster leads to.
var backends = [...]string{"catalog-v1", "catalog-v2", "orders", "reports", "inventory"}

// virtualHosts are the services with a virtual host in routes.yaml.
var virtualHosts = [...]string{"catalog", "orders", "reports"}

// plan says where everything is.
type plan struct {
	captured bool
	// at is where others reach a member: its pod's address, or without pods the
	// inbound listener of its sidecar.
	at map[string]netip.AddrPort
	// program is where a member itself listens; differs from at without pods only.
	program map[string]netip.AddrPort
	// outbound is where the frontend reaches a service without capture.
	outbound map[string]netip.AddrPort
	// admin is where a sidecar's admin interface is reached.
	admin map[string]netip.AddrPort
	// run is a directory for the sockets of the sidecars and the roots of the mesh.
	run string
	// names are the addresses of the services in a node's DNS. Those of
	// services with a sidecar are virtual: no machine has them.
	names map[string]netip.Addr
}

// podPlan is the plan of a node with the given network.
func podPlan(node netip.Prefix) plan {
	base := node.Masked().Addr().As4()
	addr := func(third, fourth byte) netip.Addr { return netip.AddrFrom4([4]byte{base[0], base[1], third, fourth}) }
	p := plan{
		captured: true, at: map[string]netip.AddrPort{}, admin: map[string]netip.AddrPort{},
		names: map[string]netip.Addr{
			"catalog.shop": addr(250, 1), "orders.shop": addr(250, 2), "reports.shop": addr(250, 3), "inventory.shop": addr(250, 4),
		},
	}
	for _, m := range members() {
		ip := addr(0, m.host)
		p.at[m.name] = netip.AddrPortFrom(ip, m.port)
		if m.sidecar {
			p.admin[m.name] = netip.AddrPortFrom(ip, adminPort)
		}
		if m.name == "bank" || m.name == "frontend" {
			p.names[m.name+".shop"] = ip
		}
	}
	p.program = p.at
	return p
}

// loopbackPlan takes free ports of a loopback address. Nothing keeps them until
// the programs listen on them, so they are of a kind that nobody else is given.
func loopbackPlan() (plan, error) {
	p := plan{
		at: map[string]netip.AddrPort{}, program: map[string]netip.AddrPort{},
		outbound: map[string]netip.AddrPort{}, admin: map[string]netip.AddrPort{},
	}
	addr := loopbackAddress()
	used := map[uint16]bool{}
	take := func(into map[string]netip.AddrPort, name string) error {
		port, err := freePort(addr, used)
		into[name], used[port] = netip.AddrPortFrom(addr, port), true
		return err
	}
	for _, m := range members() {
		wanted := []map[string]netip.AddrPort{p.at}
		if m.sidecar {
			wanted = append(wanted, p.program, p.admin)
		}
		for _, into := range wanted {
			if err := take(into, m.name); err != nil {
				return p, err
			}
		}
	}
	for _, name := range append(virtualHosts[:], "inventory") {
		if err := take(p.outbound, name); err != nil {
			return p, err
		}
	}
	return p, nil
}

// loopbackAddress picks one of the sixteen million, where there are so many: no
// outgoing connection and no other program is likely to have a port of it.
func loopbackAddress() netip.Addr {
	addr := netip.AddrFrom4([4]byte{127, byte(1 + rand.IntN(254)), byte(rand.IntN(256)), byte(1 + rand.IntN(254))})
	l, err := net.Listen("tcp4", netip.AddrPortFrom(addr, 0).String())
	if err != nil {
		return netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	l.Close() //nolint:errcheck // only a question
	return addr
}

// Ports below those that Linux gives to outgoing connections and to listeners
// that ask for any port (net.ipv4.ip_local_port_range).
const (
	firstPort = 20000
	lastPort  = 32767
)

func freePort(addr netip.Addr, used map[uint16]bool) (uint16, error) {
	var err error
	for range 100 {
		port := uint16(firstPort + rand.IntN(lastPort-firstPort+1))
		if used[port] {
			continue
		}
		var l net.Listener
		if l, err = net.Listen("tcp4", netip.AddrPortFrom(addr, port).String()); err == nil {
			return port, l.Close()
		}
	}
	return 0, fmt.Errorf("no free port on %v: %w", addr, err)
}

// settings is the whole environment of a member's program. In a pod the
// frontend needs none: the names it was written with are true there.
func (p plan) settings(m member) []string {
	if p.captured {
		return m.env
	}
	env := append(slices.Clone(m.env), "LISTEN="+p.program[m.name].String())
	if m.name == "frontend" {
		for _, name := range virtualHosts {
			env = append(env, strings.ToUpper(name)+"_URL=http://"+p.outbound[name].String())
		}
		env = append(env, "INVENTORY_ADDR="+p.outbound["inventory"].String())
	}
	return env
}

//go:embed config
var files embed.FS

// render fills in a file of config.
func (p plan) render(name string, data any) ([]byte, error) {
	socket := func(a netip.AddrPort) string {
		return fmt.Sprintf("{ socket_address: { address: %s, port_value: %d } }", a.Addr(), a.Port())
	}
	text, err := files.ReadFile("config/" + name)
	if err != nil {
		return nil, err
	}
	t, err := template.New(name).Funcs(template.FuncMap{
		"services":     func() []string { return backends[:] },
		"httpServices": func() []string { return virtualHosts[:] },
		"address":      func(name string) string { return socket(p.at[name]) },
		"program":      func(name string) string { return socket(p.program[name]) },
		"outbound":     func(name string) string { return socket(p.outbound[name]) },
		"admin": func(name string) string {
			if p.captured { // reached by the pod's address, from the node
				return socket(netip.AddrPortFrom(netip.IPv4Unspecified(), adminPort))
			}
			return socket(p.admin[name])
		},
		"domains": func(service string) string {
			if p.captured {
				return fmt.Sprintf(`%s.shop, "%s.shop:8080"`, service, service)
			}
			return `"` + p.outbound[service].String() + `"`
		},
		"vip":      func(name string) string { return p.names[name].String() },
		"socket":   p.socket,
		"identity": func(name string) string { return "spiffe://" + trustDomain + "/ns/shop/sa/" + name },
		"trusted":  func() string { return "spiffe://" + trustDomain + "/ns/shop/" },
		"sds":      func() string { return secretsFrom },
	}).Parse(string(text))
	if err != nil {
		return nil, fmt.Errorf("configuration template %s: %w", name, err)
	}
	var out strings.Builder
	if err := t.Execute(&out, data); err != nil {
		return nil, fmt.Errorf("configuration template %s: %w", name, err)
	}
	return []byte(out.String()), nil
}

// trustDomain is that of all identities of the shop.
const trustDomain = "shop.demo"

// certificateTTL is short, so that the demo sees certificates being replaced.
const certificateTTL = "20s"

// secretsFrom is where a sidecar gets its certificate from, and whom it trusts, as under
// Istio: over a socket of its own.
const secretsFrom = "{ resource_api_version: V3, api_config_source: { api_type: GRPC, transport_api_version: V3, grpc_services: [{ envoy_grpc: { cluster_name: sds-grpc } }] } }"

// socket is the socket over which the sidecar of a member gets its certificate.
func (p plan) socket(name string) string { return filepath.Join(p.run, name, "socket") }

// controlCommand serves a folder, and identities to the sidecars.
func (o Options) controlCommand(dir string, p plan) []string {
	command := []string{
		o.Control, "serve", "--dir", dir, "--listen", p.at[control].String(),
		"--identity", filepath.Join(p.run, "ca"), "--trust-domain", trustDomain, "--cert-ttl", certificateTTL,
	}
	for _, m := range members() {
		if m.sidecar {
			command = append(command, "--workload-socket", "shop/"+m.name+"=unix:"+p.socket(m.name))
		}
	}
	return command
}

// sidecars are the names of the members that have one, sorted.
func (p plan) sidecars() []string { return slices.Sorted(maps.Keys(p.admin)) }
