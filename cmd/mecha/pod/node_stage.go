package pod

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Messages between a Node and the node's first process.
type (
	nodeSetup struct {
		Net      network
		Isolated bool
		// NoV6Uplink: the outside cannot be reached by IPv6. Pods then get no
		// default route for it, so that programs turn to IPv4 at once.
		NoV6Uplink bool
		Self       []string
	}
	request struct {
		ID   uint64
		Op   string // "start", "dial", "listen"; "hello", "register", "name"
		Addr string // dial, listen
		IP   netip.Addr
		// For the process that holds the node:
		Pod   int
		Name  string
		Addrs []netip.Addr
	}
	reply struct {
		ID      uint64 // 0: not an answer
		Failure *failure
		Place   place
		Pod     int    // start: the pod's number
		Gone    int    // number of a pod that has ended
		Addr    string // listen
	}
	// podNet is what a node tells a pod's first process.
	podNet struct {
		Place place
		Self  []string
	}
)

// nodeStage is the first process of a node: it lives in the node's network,
// starts pods there and opens sockets for the process that holds the Node.
func nodeStage() error {
	holdSignals()
	w, err := wireFrom(os.NewFile(fdWire, "wire"))
	if err != nil {
		return err
	}
	var setup nodeSetup
	if _, err := w.receive(&setup); err != nil {
		return fmt.Errorf("pod: node: %w", err)
	}
	n := &nodeInit{w: w, setup: setup, next: firstPod, used: make(map[netip.Addr]bool)}
	step, files, err := n.build()
	if err != nil {
		return w.send(reply{Failure: failureOf(step, err)})
	}
	err = w.send(reply{Place: place{Net: setup.Net, NoV6: n.noV6}}, files...)
	closeAll(files)
	for err == nil {
		var rq request
		var files []*os.File
		if files, err = w.receive(&rq); err == nil {
			go n.serve(rq, files)
		}
	}
	if errors.Is(err, io.EOF) {
		return nil // our Node is gone; as process 1 we take every pod with us
	}
	return err
}

type nodeInit struct {
	w     *wire
	setup nodeSetup
	noV6  bool

	mu   sync.Mutex
	next int
	used map[netip.Addr]bool
}

// build makes the node's network and the sockets of its uplink.
func (n *nodeInit) build() (step string, files []*os.File, err error) {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return stepMounts, nil, err
	}
	if err := setUp("lo"); err != nil {
		return stepPrivilege, nil, err
	}
	if n.noV6, err = makeBridge(n.setup.Net); err != nil {
		return stepBridge, nil, err
	}
	gw, _ := n.setup.Net.gateway()
	dns, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(gw, dnsPort)))
	if err != nil {
		return stepPrivilege, nil, err
	}
	defer dns.Close() //nolint:errcheck // the copy lives on
	f, err := dns.File()
	if err != nil {
		return stepPrivilege, nil, err
	}
	files = append(files, f)
	if n.setup.Isolated {
		return "", files, nil
	}
	if err := divertUplink(n.setup.Net); err != nil {
		return stepRules, files, err
	}
	l, err := listen(context.Background(), ":"+strconv.Itoa(uplinkPort))
	if err != nil {
		return stepPrivilege, files, err
	}
	defer l.Close() //nolint:errcheck // the copy lives on
	if f, err = l.File(); err != nil {
		return stepPrivilege, files, err
	}
	return "", append(files, f), nil
}

// listen opens a plain TCP listener: redirection does not work on those of
// Multipath TCP, Go's default.
func listen(ctx context.Context, addr string) (*net.TCPListener, error) {
	var lc net.ListenConfig
	lc.SetMultipathTCP(false)
	l, err := lc.Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	return l.(*net.TCPListener), nil
}

// serve answers one request and closes its files.
func (n *nodeInit) serve(rq request, files []*os.File) {
	defer closeAll(files)
	re := reply{ID: rq.ID}
	var step string
	var err error
	var out *os.File
	switch rq.Op {
	case "dial":
		out, err = n.dial(rq.Addr)
	case "listen":
		out, re.Addr, err = n.listen(rq.Addr)
	case "start":
		step, err = n.start(rq, files, &re)
	default:
		err = fmt.Errorf("pod: node: unknown request %q", rq.Op)
	}
	if err != nil {
		re.Failure = failureOf(step, err)
	}
	if out != nil {
		defer out.Close() //nolint:errcheck // a copy
		_ = n.w.send(re, out)
		return
	}
	_ = n.w.send(re) // a lost Node is noticed by the reader
}

const dialTimeout = 10 * time.Second

func (n *nodeInit) dial(addr string) (*os.File, error) {
	c, err := net.DialTimeout("tcp", addr, dialTimeout)
	if err != nil {
		return nil, err
	}
	defer c.Close() //nolint:errcheck // the copy lives on
	return c.(*net.TCPConn).File()
}

func (n *nodeInit) listen(addr string) (*os.File, string, error) {
	l, err := listen(context.Background(), addr)
	if err != nil {
		return nil, "", err
	}
	defer l.Close() //nolint:errcheck // the copy lives on
	f, err := l.File()
	return f, l.Addr().String(), err
}

// start makes a pod's first process and plugs it in. files are the pod's end
// of the wire to whoever started it, standard input, output and error, and the
// sidecar's output.
func (n *nodeInit) start(rq request, files []*os.File, re *reply) (step string, err error) {
	if len(files) != 5 {
		return "", fmt.Errorf("pod: node: %d files for a pod", len(files))
	}
	ip, number, err := n.take(rq.IP)
	if err != nil {
		return "", err
	}
	netRead, netWrite, err := os.Pipe()
	if err != nil {
		n.give(ip)
		return "", err
	}
	defer netWrite.Close() //nolint:errcheck // the pod gives up if it got nothing
	args := append(append([]string{}, n.setup.Self...), "pod")
	p, err := os.StartProcess(args[0], args, &os.ProcAttr{
		Env:   []string{"PATH=" + os.Getenv("PATH")},
		Files: []*os.File{files[1], files[2], files[3], files[0], netRead, files[4]},
		Sys:   namespaces(false),
	})
	netRead.Close() //nolint:errcheck // the pod has its copy
	if err != nil {
		n.give(ip)
		return stepNamespaces, err
	}
	go func() {
		_, _ = p.Wait()
		n.give(ip)
		_ = n.w.send(reply{Gone: number})
	}()
	if err := plugIn(number, p.Pid); err != nil {
		_ = p.Kill()
		return stepVeth, err
	}
	re.Pod, re.Place = number, place{Net: n.setup.Net, V4: ip, V6: n.setup.Net.peer(ip), NoV6: n.noV6, NoV6Default: n.setup.NoV6Uplink}
	return "", json.NewEncoder(netWrite).Encode(podNet{re.Place, n.setup.Self})
}

// take reserves an address, the next free one if none is asked for.
func (n *nodeInit) take(want netip.Addr) (netip.Addr, int, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	number := n.next
	n.next++
	if want.IsValid() {
		gw, _ := n.setup.Net.gateway()
		host, _ := n.setup.Net.host()
		if !n.setup.Net.V4.Contains(want) || want == gw || want == host || n.used[want] {
			return netip.Addr{}, 0, fmt.Errorf("pod: address %v is taken or not one of %v", want, n.setup.Net.V4)
		}
		n.used[want] = true
		return want, number, nil
	}
	last := 1<<(32-n.setup.Net.V4.Bits()) - 1 // the broadcast address
	for range last {
		i := firstPod + (number-firstPod)%max(1, last-firstPod)
		if a := n.setup.Net.nth(n.setup.Net.V4, i); !n.used[a] {
			n.used[a] = true
			return a, number, nil
		}
		number++
		n.next = number + 1
	}
	return netip.Addr{}, 0, fmt.Errorf("pod: no free address in %v", n.setup.Net.V4)
}

func (n *nodeInit) give(ip netip.Addr) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.used, ip)
}
