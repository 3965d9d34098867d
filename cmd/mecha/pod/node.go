package pod

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"runtime"
	"sync"

	"golang.org/x/sys/unix"
)

// Node is a network for pods, seen from the process that made it. All methods
// may be called from any goroutine.
type Node struct {
	conf NodeConfig
	net  network
	w    *wire
	proc *os.Process
	up   *uplink
	done chan struct{} // closed when the node's first process is gone

	mu      sync.Mutex
	nextID  uint64
	waiting map[uint64]chan answer
	names   map[int]string // pod number to DNS name
	err     error          // why the node ended
}

type answer struct {
	reply
	files []*os.File
}

// errClosed is the error of calls on a node that has ended.
var errClosed = errors.New("pod: the node has ended")

// NewNode makes a node. Its error is an *Unsupported where the kernel or the
// container around this process does not allow it. The caller owns the Node
// and ends it, and every pod in it, with Close or by ending itself. As root it
// uses the host's user namespace, otherwise (or where root may not) a new one.
func NewNode(ctx context.Context, conf NodeConfig) (*Node, error) {
	if len(conf.Self) == 0 {
		return nil, errors.New("pod: NodeConfig.Self is empty")
	}
	if !conf.IPv4.IsValid() {
		conf.IPv4 = netip.MustParsePrefix(defaultIPv4)
	}
	if !conf.IPv6.IsValid() {
		conf.IPv6 = netip.MustParsePrefix(defaultIPv6)
	}
	if conf.IPv4.Bits() > 24 || conf.IPv6.Bits() > 96 {
		return nil, fmt.Errorf("pod: networks %v and %v are too small: at least /24 and /96 are needed", conf.IPv4, conf.IPv6)
	}
	if conf.Log == nil {
		conf.Log = slog.New(slog.DiscardHandler)
	}
	w, far, err := newWire()
	if err != nil {
		return nil, err
	}
	n := &Node{
		conf: conf, net: network{conf.IPv4, conf.IPv6}, w: w, done: make(chan struct{}),
		waiting: make(map[uint64]chan answer), names: make(map[int]string),
	}
	err = n.spawn(far)
	far.Close() //nolint:errcheck // the node has its copy
	if err != nil {
		w.close()
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = n.proc.Kill() })
	defer stop()
	files, err := n.greet()
	if err == nil {
		n.up, err = newUplink(n, files)
	}
	if err != nil {
		w.close()
		_ = n.proc.Kill()
		<-n.done
		return nil, errors.Join(err, ctx.Err())
	}
	go n.read()
	return n, nil
}

// spawn starts the node's first process. The kernel kills it when the thread
// that started it ends, so that thread does nothing else.
func (n *Node) spawn(far *os.File) error {
	args := append(append([]string{}, n.conf.Self...), "node")
	start := func(user bool) (*os.Process, error) {
		attr := namespaces(user)
		attr.Pdeathsig = unix.SIGKILL
		return os.StartProcess(args[0], args, &os.ProcAttr{
			Env:   []string{"PATH=" + os.Getenv("PATH")},
			Files: []*os.File{nil, nil, os.Stderr, far},
			Sys:   attr,
		})
	}
	root := os.Geteuid() == 0
	result := make(chan error)
	go func() {
		runtime.LockOSThread()
		var err error
		n.proc, err = start(!root)
		if root && errors.Is(err, fs.ErrPermission) {
			n.proc, err = start(true)
		}
		result <- err
		if err == nil {
			_, _ = n.proc.Wait()
		}
		close(n.done)
	}()
	if err := <-result; err != nil {
		return explain(stepNamespaces, err, os.DirFS("/proc/sys"), root)
	}
	return nil
}

func (n *Node) greet() ([]*os.File, error) {
	if err := n.w.send(nodeSetup{Net: n.net, Isolated: n.conf.Isolated, Self: n.conf.Self}); err != nil {
		return nil, fmt.Errorf("pod: the node did not start: %w", err)
	}
	var hello reply
	files, err := n.w.receive(&hello)
	switch {
	case err != nil:
		return nil, fmt.Errorf("pod: the node did not start: %w", err)
	case hello.Failure != nil:
		return nil, hello.Failure.err()
	}
	return files, nil
}

// read distributes what the node's first process sends, until it ends.
func (n *Node) read() {
	for {
		var re reply
		files, err := n.w.receive(&re)
		n.mu.Lock()
		if err != nil {
			for id, ch := range n.waiting {
				delete(n.waiting, id)
				close(ch)
			}
			n.err = errClosed
			n.mu.Unlock()
			return
		}
		if re.Gone != 0 {
			n.up.names.remove(n.names[re.Gone])
			delete(n.names, re.Gone)
		}
		ch := n.waiting[re.ID]
		delete(n.waiting, re.ID)
		n.mu.Unlock()
		if ch == nil {
			closeAll(files)
			continue
		}
		ch <- answer{re, files}
	}
}

// ask sends a request and waits for its answer. files are lent.
func (n *Node) ask(ctx context.Context, rq request, files ...*os.File) (answer, error) {
	ch := make(chan answer, 1)
	n.mu.Lock()
	if n.err != nil {
		n.mu.Unlock()
		return answer{}, n.err
	}
	n.nextID++
	rq.ID = n.nextID
	n.waiting[rq.ID] = ch
	n.mu.Unlock()
	if err := n.w.send(rq, files...); err != nil {
		return answer{}, fmt.Errorf("pod: %w", err)
	}
	select {
	case a, ok := <-ch:
		if !ok {
			return a, errClosed
		}
		if a.Failure != nil {
			closeAll(a.files)
			return a, a.Failure.err()
		}
		return a, nil
	case <-ctx.Done():
		// The answer may still come; its files must not be lost.
		go func() {
			if a, ok := <-ch; ok {
				closeAll(a.files)
			}
		}()
		return answer{}, ctx.Err()
	}
}

// Dial connects to a TCP address of the node's network, by address; the
// connection comes from the node's own address.
func (n *Node) Dial(ctx context.Context, addr string) (net.Conn, error) {
	a, err := n.ask(ctx, request{Op: "dial", Addr: addr})
	if err != nil {
		return nil, err
	}
	defer closeAll(a.files)
	return net.FileConn(a.files[0])
}

// Listen accepts TCP connections of pods in this process, on an address of the
// node: "10.201.0.1:18000" or ":18000". The listener's Addr is right.
func (n *Node) Listen(ctx context.Context, addr string) (net.Listener, error) {
	a, err := n.ask(ctx, request{Op: "listen", Addr: addr})
	if err != nil {
		return nil, err
	}
	defer closeAll(a.files)
	return net.FileListener(a.files[0])
}

// Gateway returns the node's own addresses: where Listen listens.
func (n *Node) Gateway() (v4, v6 netip.Addr) { return n.net.gateway() }

// Host returns the addresses that stand for 127.0.0.1 and ::1 of the host,
// unless the node is isolated. Their DNS name is "host".
func (n *Node) Host() (v4, v6 netip.Addr) { return n.net.host() }

// Name makes the node's DNS answer with addrs for name, in place of what it
// answered before; without addrs it forgets the name. Pods have their own names
// already; this is for service names and virtual addresses.
func (n *Node) Name(name string, addrs ...netip.Addr) {
	if len(addrs) == 0 {
		n.up.names.remove(name)
		return
	}
	n.up.names.set(name, addrs)
}

// Close ends the node and every pod in it, and waits until their processes are gone.
func (n *Node) Close() error {
	n.w.close()
	_ = n.proc.Kill() // gone already is just as well
	<-n.done
	n.up.close()
	return nil
}
