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

// Node is a network for pods, seen from the process that made it or, after
// [Attach], from another one. All methods may be called from any goroutine.
type Node struct {
	net network
	// ask sends a request, with files that are lent, and waits for the answer.
	ask func(ctx context.Context, rq request, files ...*os.File) (answer, error)
	log *slog.Logger
	// ctx ends with the node, or with this process's use of it; wg are the
	// goroutines that carry published ports and the uplink.
	ctx  context.Context
	stop context.CancelFunc
	wg   sync.WaitGroup
	own  *nodeProcess // nil for a node of another process
}

// nodeProcess is the part of a Node that only its maker has.
type nodeProcess struct {
	conf  NodeConfig
	w     *wire
	proc  *os.Process
	names *names
	done  chan struct{} // closed when the node's first process is gone

	mu      sync.Mutex
	nextID  uint64
	waiting map[uint64]chan answer
	pods    map[int]request // running pods: number to registered name and address
	err     error           // why the node ended
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
	p := &nodeProcess{
		conf: conf, w: w, names: newNames(), done: make(chan struct{}),
		waiting: make(map[uint64]chan answer), pods: make(map[int]request),
	}
	n := &Node{net: network{conf.IPv4, conf.IPv6}, log: conf.Log, ask: p.ask, own: p}
	n.ctx, n.stop = context.WithCancel(context.Background())
	err = p.spawn(far)
	far.Close() //nolint:errcheck // the node has its copy
	if err != nil {
		w.close()
		return nil, err
	}
	cancelled := context.AfterFunc(ctx, func() { _ = p.proc.Kill() })
	defer cancelled()
	files, err := p.greet(n.net)
	if err == nil {
		err = n.openUplink(files)
	}
	if err != nil {
		return nil, errors.Join(err, ctx.Err(), n.Close())
	}
	go p.read()
	return n, nil
}

// spawn starts the node's first process. The kernel kills it when the thread
// that started it ends, so that thread does nothing else.
func (p *nodeProcess) spawn(far *os.File) error {
	args := append(append([]string{}, p.conf.Self...), "node")
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("pod: %w", err)
	}
	defer null.Close() //nolint:errcheck // nothing was written to it
	start := func(user bool) (*os.Process, error) {
		attr := namespaces(user)
		attr.Pdeathsig = unix.SIGKILL
		return os.StartProcess(args[0], args, &os.ProcAttr{
			Env:   []string{"PATH=" + os.Getenv("PATH")},
			Files: []*os.File{null, null, os.Stderr, far},
			Sys:   attr,
		})
	}
	root := os.Geteuid() == 0
	result := make(chan error)
	go func() {
		runtime.LockOSThread()
		var err error
		p.proc, err = start(!root)
		if root && errors.Is(err, fs.ErrPermission) {
			p.proc, err = start(true)
		}
		result <- err
		if err == nil {
			_, _ = p.proc.Wait()
		}
		close(p.done)
	}()
	if err := <-result; err != nil {
		return explain(stepNamespaces, err, os.DirFS("/proc/sys"), root)
	}
	return nil
}

func (p *nodeProcess) greet(net network) ([]*os.File, error) {
	if err := p.w.send(nodeSetup{Net: net, Isolated: p.conf.Isolated, NoV6Uplink: !p.conf.Isolated && !hostHasIPv6(), Self: p.conf.Self}); err != nil {
		return nil, fmt.Errorf("pod: the node did not start: %w", err)
	}
	var hello reply
	files, err := p.w.receive(&hello)
	switch {
	case err != nil:
		return nil, fmt.Errorf("pod: the node did not start: %w", err)
	case hello.Failure != nil:
		return nil, hello.Failure.err()
	}
	return files, nil
}

// read distributes what the node's first process sends, until it ends.
func (p *nodeProcess) read() {
	for {
		var re reply
		files, err := p.w.receive(&re)
		p.mu.Lock()
		if err != nil {
			for id, ch := range p.waiting {
				delete(p.waiting, id)
				close(ch)
			}
			p.err = errClosed
			p.mu.Unlock()
			return
		}
		if re.Pod != 0 {
			p.pods[re.Pod] = request{}
		}
		if re.Gone != 0 {
			p.names.withdraw(p.pods[re.Gone].Name, p.pods[re.Gone].Addrs)
			delete(p.pods, re.Gone)
		}
		ch := p.waiting[re.ID]
		delete(p.waiting, re.ID)
		p.mu.Unlock()
		if ch == nil {
			closeAll(files)
			continue
		}
		ch <- answer{re, files}
	}
}

// ask sends a request and waits for its answer. files are lent.
func (p *nodeProcess) ask(ctx context.Context, rq request, files ...*os.File) (answer, error) {
	if a, handled := p.local(rq); handled {
		return a, nil
	}
	ch := make(chan answer, 1)
	p.mu.Lock()
	if p.err != nil {
		p.mu.Unlock()
		return answer{}, p.err
	}
	p.nextID++
	rq.ID = p.nextID
	p.waiting[rq.ID] = ch
	p.mu.Unlock()
	if err := p.w.send(rq, files...); err != nil {
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
// unless the node is isolated. The DNS name of v4 is "host".
func (n *Node) Host() (v4, v6 netip.Addr) { return n.net.host() }

// Name makes the node's DNS answer with addrs for name, in place of what it
// answered before; without addrs it forgets the name. Pods have their own names
// already; this is for service names and virtual addresses.
func (n *Node) Name(name string, addrs ...netip.Addr) error {
	_, err := n.ask(n.ctx, request{Op: "name", Name: name, Addrs: addrs})
	return err
}

// local answers the requests that are about this process's part of the node.
func (p *nodeProcess) local(rq request) (a answer, handled bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch rq.Op {
	case "hello":
		return answer{reply: reply{Place: place{Net: network{p.conf.IPv4, p.conf.IPv6}}}}, true
	case "register":
		// The pod may be gone already; then its name must not stay.
		if _, running := p.pods[rq.Pod]; running {
			p.pods[rq.Pod] = rq
			p.names.set(rq.Name, rq.Addrs)
		}
		return answer{}, true
	case "name":
		if len(rq.Addrs) == 0 {
			p.names.remove(rq.Name)
		} else {
			p.names.set(rq.Name, rq.Addrs)
		}
		return answer{}, true
	}
	return answer{}, false
}

// Close ends the node and every pod in it, and waits until their processes are
// gone. For a node of another process it ends only what this process published.
func (n *Node) Close() error {
	n.stop()
	if p := n.own; p != nil {
		p.w.close()
		_ = p.proc.Kill() // gone already is just as well
		<-p.done
	}
	n.wg.Wait()
	return nil
}
