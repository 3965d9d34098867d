package pod

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/mecha-mesh/mecha/iptables"
	"github.com/mecha-mesh/mecha/proxy/filter/filtertest/ports"
	"golang.org/x/sys/unix"
)

// nobody is an ordinary user for tests that run as root.
const nobody = 65534

// TestAsOrdinaryUser runs the tests of this file once more without root, by
// which they go through a user namespace.
func TestAsOrdinaryUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("this is one already")
	}
	if raceEnabled {
		t.Skip("the same tests ran as root, with the same goroutines")
	}
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestPod", "-test.v", "-test.timeout=120s")
	cmd.Dir = "/"
	cmd.Env = append(os.Environ(), "TMPDIR="+publicTemp(t))
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for line := range strings.Lines(string(out)) {
		if strings.HasPrefix(strings.TrimSpace(line), "--- ") {
			t.Log(strings.TrimSpace(line))
		}
	}
}

// publicTemp makes a directory that any user may create directories in.
func publicTemp(t *testing.T) string {
	dir, err := os.MkdirTemp("/tmp", "mecha-pod")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	return dir
}

func testContext(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 3*testTimeout)
	t.Cleanup(cancel)
	return ctx
}

func newTestNode(t *testing.T, conf NodeConfig) *Node {
	t.Helper()
	conf.Self = []string{"/proc/self/exe", StageName}
	n, err := NewNode(testContext(t), conf)
	var no *Unsupported
	if errors.As(err, &no) {
		t.Skip(no)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	return n
}

// output collects what a pod prints and lets a test wait for a line.
type output struct {
	t *testing.T
	w *os.File

	mu    sync.Mutex
	lines []string
	more  chan struct{}
	ended chan struct{}
}

func newOutput(t *testing.T) *output {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	o := &output{t: t, w: w, more: make(chan struct{}, 1), ended: make(chan struct{})}
	go func() {
		defer close(o.ended)
		defer r.Close()
		var b bytes.Buffer
		buf := make([]byte, 4096)
		for {
			n, err := r.Read(buf)
			b.Write(buf[:n])
			for {
				line, lerr := b.ReadString('\n')
				if lerr != nil {
					b.WriteString(line)
					break
				}
				o.mu.Lock()
				o.lines = append(o.lines, strings.TrimSpace(line))
				o.mu.Unlock()
				select {
				case o.more <- struct{}{}:
				default:
				}
			}
			if err != nil {
				return
			}
		}
	}()
	return o
}

func (o *output) text() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return strings.Join(o.lines, "\n")
}

func (o *output) waitFor(line string) {
	o.t.Helper()
	deadline := time.After(testTimeout)
	for !strings.Contains(o.text(), line) {
		select {
		case <-o.more:
		case <-deadline:
			o.t.Fatalf("no line with %q in:\n%s", line, o.text())
		}
	}
}

// captured is a pod with the test's sidecar.
func captured(name string, command ...string) Config {
	c := iptables.DefaultConfig()
	c.ProxyUIDs, c.ProxyGIDs, c.ProxyMarks = nil, nil, []uint32{iptables.DefaultProxyMark}
	return Config{Name: name, Command: command, Capture: &c, Sidecar: actor("sidecar"), Env: os.Environ(), SidecarEnv: os.Environ(), Dir: "/"}
}

func (n *Node) mustStart(t *testing.T, c Config) (*Pod, *output) {
	t.Helper()
	o := newOutput(t)
	c.Stdout, c.Stderr = o.w, o.w
	p, err := n.Start(testContext(t), c)
	o.w.Close()
	if err != nil {
		<-o.ended
		t.Fatalf("%s: %v\n%s", c.Name, err, o.text())
	}
	t.Cleanup(func() { p.Kill(); <-p.Done() })
	return p, o
}

// mustServe starts a pod with an actor that serves, and waits until it does.
func (n *Node) mustServe(t *testing.T, c Config) *Pod {
	t.Helper()
	p, o := n.mustStart(t, c)
	o.waitFor("serving")
	return p
}

// mustRun runs a program to its end and returns what it printed.
func (n *Node) mustRun(t *testing.T, c Config) string {
	t.Helper()
	p, o := n.mustStart(t, c)
	exit, err := p.Wait()
	<-o.ended
	if err != nil || exit.Status() != 0 {
		t.Fatalf("%s: %+v %v\n%s", c.Name, exit, err, o.text())
	}
	return o.text()
}

func wait(t *testing.T, p *Pod) (Exit, error) {
	t.Helper()
	select {
	case <-p.Done():
	case <-time.After(testTimeout):
		t.Fatal("the pod did not end")
	}
	return p.Wait()
}

// Two pods: what the one opens goes through its sidecar, what the other gets
// comes through its own, by address and by name, IPv4 and IPv6.
func TestPodsTalkThroughTheirSidecars(t *testing.T) {
	n := newTestNode(t, NodeConfig{Isolated: true})
	server := n.mustServe(t, captured("server", actor("serve", "7777")...))
	v4, v6 := server.Addr()
	got := n.mustRun(t, captured("client", actor("get", "server:7777", fmt.Sprintf("[%s]:7777", v6), v4.String()+":80")...))
	want := fmt.Sprintf("sidecar says: inbound %s:7777, program says: hello from %s:7777\n", v4, v4) +
		fmt.Sprintf("sidecar says: inbound [%s]:7777, program says: hello from [%s]:7777\n", v6, v6) +
		fmt.Sprintf("sidecar for %s:80", v4)
	if got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
	// From the node, as from anywhere else, the server is reached through its sidecar.
	c, err := n.Dial(testContext(t), v4.String()+":7777")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	line, _ := io.ReadAll(c)
	if !strings.HasPrefix(string(line), "inbound "+v4.String()+":7777") {
		t.Errorf("from the node: %q", line)
	}
}

func TestPodExclusions(t *testing.T) {
	n := newTestNode(t, NodeConfig{Isolated: true})
	sc := captured("server", actor("serve", "7777")...)
	sc.Capture.ExcludeInboundPorts = []iptables.PortRange{{First: 7777, Last: 7777}}
	server := n.mustServe(t, sc)
	v4, v6 := server.Addr()
	cc := captured("client", actor("get", v4.String()+":7777", fmt.Sprintf("[%s]:7777", v6))...)
	cc.Capture.ExcludeOutboundPorts = []iptables.PortRange{{First: 7777, Last: 7777}}
	if got := n.mustRun(t, cc); got != fmt.Sprintf("hello from %s:7777\nhello from [%s]:7777", v4, v6) {
		t.Errorf("excluded port: %s", got)
	}
}

// A captured program tries everything a program can try; the tiny sidecar
// answers port 7778 with "sidecar for", so any greeting is a way around it.
func TestPodCannotBypassItsSidecar(t *testing.T) {
	n := newTestNode(t, NodeConfig{Isolated: true})
	sc := captured("server", actor("serve", "7778")...)
	sc.Capture.ExcludeInboundPorts = []iptables.PortRange{{First: 7778, Last: 7778}}
	server := n.mustServe(t, sc)
	v4, v6 := server.Addr()
	modes := map[string]func(*iptables.Config){"mark": func(*iptables.Config) {}}
	if os.Geteuid() == 0 {
		modes["uid"] = func(c *iptables.Config) {
			c.ProxyUIDs, c.ProxyGIDs, c.ProxyMarks = []uint32{iptables.DefaultProxyID}, []uint32{iptables.DefaultProxyID}, nil
		}
	}
	for name, change := range modes {
		for _, mode := range []iptables.Mode{iptables.Redirect, iptables.TProxy} {
			for _, addr := range []string{v4.String() + ":7778", fmt.Sprintf("[%s]:7778", v6)} {
				if raceEnabled && (name != "mark" || mode != iptables.Redirect) {
					continue
				}
				t.Run(fmt.Sprintf("%s/%s/%s", name, mode, addr), func(t *testing.T) {
					cc := captured("attacker", actor("attack", addr)...)
					change(cc.Capture)
					cc.Capture.Inbound = mode
					got := n.mustRun(t, cc)
					if strings.Contains(got, "BYPASS") || !strings.Contains(got, "attack over") {
						t.Errorf("%s", got)
					}
				})
			}
		}
	}
}

// A program that makes a user namespace of its own is root there, and no
// further than before.
func TestPodProgramInItsOwnUserNamespace(t *testing.T) {
	n := newTestNode(t, NodeConfig{Isolated: true})
	sc := captured("server", actor("serve", "7778")...)
	sc.Capture.ExcludeInboundPorts = []iptables.PortRange{{First: 7778, Last: 7778}}
	server := n.mustServe(t, sc)
	v4, _ := server.Addr()
	got := n.mustRun(t, captured("nested", actor("nested", v4.String()+":7778")...))
	if strings.Contains(got, "BYPASS") || !strings.Contains(got, "attack over") {
		t.Errorf("%s", got)
	}
}

func TestPodExitSignalsAndOutput(t *testing.T) {
	n := newTestNode(t, NodeConfig{Isolated: true})
	for _, tc := range []struct {
		command []string
		want    int
	}{
		{[]string{"sh", "-c", "exit 7"}, 7},
		{[]string{"sh", "-c", "kill -9 $$"}, 128 + 9},
		{[]string{"/no/such/program"}, 127},
		{[]string{"no-such-program"}, 127},
		{[]string{"/etc/passwd"}, 126},
	} {
		c := captured("", tc.command...)
		p, _ := n.mustStart(t, c)
		if exit, err := wait(t, p); err != nil || exit.Status() != tc.want {
			t.Errorf("%v: %+v %v, want %d", tc.command, exit, err, tc.want)
		}
	}
	c := captured("trapped", "sh", "-c", `trap 'echo got it; exit 3' USR1; echo waiting; while :; do read x; done`)
	stdin, keep, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer keep.Close()
	defer stdin.Close()
	c.Stdin = stdin
	p, o := n.mustStart(t, c)
	o.waitFor("waiting")
	if err := p.Signal(unix.SIGUSR1); err != nil {
		t.Fatal(err)
	}
	if exit, err := wait(t, p); err != nil || exit.Code != 3 {
		t.Errorf("after SIGUSR1: %+v %v", exit, err)
	}
	o.waitFor("got it")
	who := n.mustRun(t, captured("who", "sh", "-c", "id -u; hostname; echo $"+NameEnv+" $"+AddrEnv+" mark=$"+MarkEnv+"; grep CapEff /proc/self/status"))
	if !strings.HasPrefix(who, fmt.Sprintf("%d\nwho\nwho 10.201.0.", os.Getuid())) || !strings.Contains(who, "mark=\n") {
		t.Errorf("identity:\n%s", who)
	}
	if os.Getuid() != 0 && !strings.HasSuffix(who, "CapEff:\t0000000000000000") {
		t.Errorf("capabilities left:\n%s", who)
	}
}

func TestPodSidecarTrouble(t *testing.T) {
	n := newTestNode(t, NodeConfig{Isolated: true})
	start := func(change func(*Config)) error {
		c := captured("troubled", "sleep", "30")
		change(&c)
		_, err := n.Start(testContext(t), c)
		return err
	}
	for want, change := range map[string]func(*Config){
		"the sidecar ended before it was ready: exit code 9": func(c *Config) { c.Sidecar = []string{"sh", "-c", "exit 9"} },
		"the sidecar does not listen on [15001 15006] after": func(c *Config) { c.Sidecar, c.ReadyTimeout = []string{"sleep", "30"}, 200*time.Millisecond },
		"exit code 127":                     func(c *Config) { c.Sidecar = []string{"no-such-sidecar"} },
		"capture without a sidecar command": func(c *Config) { c.Sidecar = nil },
		"is the outbound port too":          func(c *Config) { c.Capture.InboundPort = 15001 },
		"is not a name":                     func(c *Config) { c.Name = "Not A Name" },
		"is taken or not one of":            func(c *Config) { c.IP = netip.MustParseAddr("192.168.1.1") },
		"start the sidecar":                 func(c *Config) { c.Dir = "/no/such/directory" },
	} {
		if err := start(change); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want one with %q", err, want)
		}
	}
	// The sidecar dies later: the program is stopped, not left without it.
	c := captured("orphaned", "sleep", "30")
	c.Sidecar = []string{"sh", "-c", "exec 3<>/dev/null; sleep 0.2; exit 5"}
	c.ReadyPorts = []uint16{}
	p, _ := n.mustStart(t, c)
	if _, err := wait(t, p); err == nil || !strings.Contains(err.Error(), "the sidecar ended, so the program was stopped: exit code 5") {
		t.Errorf("error %v", err)
	}
}

// Connections to the outside are dialled again from this process's network.
func TestPodReachesTheOutsideWorld(t *testing.T) {
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
			fmt.Fprintf(c, "hello from outside\n")
			c.Close()
		}
	}()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	n := newTestNode(t, NodeConfig{})
	plain := func(args ...string) Config {
		return Config{Name: "plain", Command: actor(args...), Env: os.Environ(), Dir: "/"}
	}
	if got := n.mustRun(t, plain("get", "host:"+port)); got != "hello from outside" {
		t.Errorf("the host's loopback: %s", got)
	}
	c := captured("captured", actor("get", "host:"+port)...)
	v4, _ := n.Host()
	if got := n.mustRun(t, c); got != fmt.Sprintf("sidecar for %s:%s", v4, port) {
		t.Errorf("captured: %s", got)
	}
	if got := n.mustRun(t, plain("get", fmt.Sprintf("host:%d", ports.Free(t)))); !strings.HasPrefix(got, "refused") {
		t.Errorf("a port nobody listens on: %s", got)
	}
	if err := n.Name("shop", netip.MustParseAddr("10.201.7.7")); err != nil {
		t.Fatal(err)
	}
	if got := n.mustRun(t, plain("resolve", "Shop.")); got != "[10.201.7.7] <nil>" {
		t.Errorf("a service name: %s", got)
	}
}

func TestPodPublishAndListen(t *testing.T) {
	n := newTestNode(t, NodeConfig{Isolated: true})
	server := n.mustServe(t, captured("server", actor("serve", "80")...))
	v4, _ := server.Addr()
	l, err := n.Publish("127.0.0.1:0", v4.String()+":80")
	if err != nil {
		t.Fatal(err)
	}
	if got := get(l.Addr().String(), nil); !strings.Contains(got, "program says: hello") {
		t.Errorf("published port: %s", got)
	}
	l.Close()
	if got := get(l.Addr().String(), nil); !strings.HasPrefix(got, "refused") {
		t.Errorf("after closing: %s", got)
	}
	inside, err := n.Listen(testContext(t), ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer inside.Close()
	go func() {
		if c, err := inside.Accept(); err == nil {
			fmt.Fprintln(c, "hello from the node")
			c.Close()
		}
	}()
	gw, _ := n.Gateway()
	_, port, _ := net.SplitHostPort(inside.Addr().String())
	if got := n.mustRun(t, Config{Command: actor("get", net.JoinHostPort(gw.String(), port)), Dir: "/"}); got != "hello from the node" {
		t.Errorf("listener of the node: %s", got)
	}
}

func TestPodAttachedNode(t *testing.T) {
	n := newTestNode(t, NodeConfig{Isolated: true})
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := n.Serve(t.Context(), dir); err == nil || !strings.Contains(err.Error(), "other users can get in") {
		t.Errorf("an open directory: %v", err)
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- n.Serve(ctx, dir) }()
	var other *Node
	for deadline := time.Now().Add(testTimeout); ; {
		var err error
		if other, err = Attach(testContext(t), dir, nil); err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
	defer other.Close()
	server := other.mustServe(t, captured("server", actor("serve", "7777")...))
	v4, _ := server.Addr()
	if got := n.mustRun(t, captured("client", actor("get", "server:7777")...)); !strings.Contains(got, "program says: hello from "+v4.String()) {
		t.Errorf("across processes: %s", got)
	}
	server.Kill()
	wait(t, server)
	cancel()
	if err := <-served; err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(dir + "/" + SocketName); !os.IsNotExist(err) {
		t.Errorf("the socket was left: %v", err)
	}
}

// Ending any part ends everything that hangs on it.
func TestPodLeavesNothingBehind(t *testing.T) {
	n := newTestNode(t, NodeConfig{Isolated: true})
	script := "sleep 1000 & echo started; wait"
	p, o := n.mustStart(t, captured("busy", "sh", "-c", script))
	o.waitFor("started")
	p.Kill()
	if _, err := wait(t, p); err == nil {
		t.Error("a killed pod ended without an error")
	}
	<-o.ended // every process that had the pipe open is gone

	p, o = n.mustStart(t, captured("busy", "sh", "-c", script))
	o.waitFor("started")
	if err := n.own.proc.Kill(); err != nil {
		t.Fatal(err)
	}
	wait(t, p)
	<-o.ended
	if _, err := n.Start(testContext(t), captured("late", "true")); err == nil {
		t.Error("a pod was started on a node that has ended")
	}
}

// The process that holds the node is killed: the node goes too.
func TestPodsEndWithTheirMaker(t *testing.T) {
	if os.Getenv("MECHA_TEST_MAKER") != "" {
		n := newTestNode(t, NodeConfig{Isolated: true})
		c := captured("left", "sh", "-c", "sleep 1000 & echo started; wait")
		c.Stdout, c.Stderr = os.Stdout, os.Stderr
		p, err := n.Start(testContext(t), c)
		if err != nil {
			t.Fatal(err)
		}
		wait(t, p)
		return
	}
	o := newOutput(t)
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestPodsEndWithTheirMaker$")
	cmd.Env = append(os.Environ(), "MECHA_TEST_MAKER=1")
	cmd.Stdout, cmd.Stderr = o.w, o.w
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	o.w.Close()
	o.waitFor("started")
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	select {
	case <-o.ended:
	case <-time.After(testTimeout):
		t.Error("a process of the pod is still there")
	}
}
