package pod

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mecha-mesh/mecha/iptables"
	"golang.org/x/sys/unix"
)

// The test binary is also the processes of nodes and pods, and the programs
// and the sidecar that run in them.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == StageName {
		os.Exit(Stage(os.Args[2:]))
	}
	if len(os.Args) > 2 && os.Args[1] == "__actor" {
		if err := act(os.Args[2], os.Args[3:]); err != nil {
			fmt.Println("error:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func actor(args ...string) []string {
	return append([]string{"/proc/self/exe", "__actor"}, args...)
}

const (
	testTimeout = 10 * time.Second
	// attackTimeout is for connections that may get no answer at all: one that
	// gets around the sidecar crosses a virtual cable and is there at once.
	attackTimeout = 300 * time.Millisecond
)

// act is what a program or sidecar of a test does; it prints what it finds.
func act(role string, args []string) error {
	switch role {
	case "sidecar":
		return actSidecar()
	case "serve": // port: answers every connection with "hello FROM"
		return actServe(args[0])
	case "get": // address...: prints the first line each says, or its error
		for _, a := range args {
			fmt.Println(get(a, nil))
		}
		return nil
	case "attack":
		return actAttack(args[0])
	case "nested":
		cmd := exec.Command("/proc/self/exe", "__actor", "attack", args[0])
		cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
		cmd.SysProcAttr = &syscall.SysProcAttr{
			Cloneflags:  unix.CLONE_NEWUSER,
			UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
		}
		return cmd.Run()
	case "resolve":
		ctx, cancel := context.WithTimeout(context.Background(), testTimeout)
		defer cancel()
		addrs, err := (&net.Resolver{PreferGo: true}).LookupHost(ctx, args[0])
		fmt.Println(addrs, err)
		return nil
	}
	return fmt.Errorf("unknown role %q", role)
}

func get(addr string, control func(fd int) error) string {
	return getWithin(addr, testTimeout, control)
}

func getWithin(addr string, within time.Duration, control func(fd int) error) string {
	d := net.Dialer{Timeout: within, Control: func(_, _ string, rc syscall.RawConn) (err error) {
		if control == nil {
			return nil
		}
		cerr := rc.Control(func(fd uintptr) { err = control(int(fd)) })
		return errors.Join(err, cerr)
	}}
	c, err := d.Dial("tcp", addr)
	if err != nil {
		return "refused: " + err.Error()
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(testTimeout)); err != nil {
		return err.Error()
	}
	line, err := bufio.NewReader(c).ReadString('\n')
	if err != nil {
		return "refused: " + err.Error()
	}
	return strings.TrimSpace(line)
}

func actServe(port string) error {
	l, err := listen(context.Background(), ":"+port)
	if err != nil {
		return err
	}
	fmt.Println("serving")
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		fmt.Fprintf(c, "hello from %s\n", c.LocalAddr())
		c.Close()
	}
}

// actSidecar stands in for the proxy: on the outbound port it says where the
// connection wanted to go, unless that is port 7777, which it relays with its
// mark; on the inbound port it relays to the program from 127.0.0.6 or ::6.
func actSidecar() error {
	out, err := listen(context.Background(), ":15001")
	if err != nil {
		return err
	}
	in, err := listen(context.Background(), ":15006")
	if err != nil {
		return err
	}
	go func() {
		for {
			c, err := in.AcceptTCP()
			if err != nil {
				return
			}
			go sidecarInbound(c)
		}
	}()
	for {
		c, err := out.AcceptTCP()
		if err != nil {
			return err
		}
		go sidecarOutbound(c)
	}
}

func sidecarOutbound(c *net.TCPConn) {
	defer c.Close()
	dst, err := iptables.OriginalDst(c)
	if err != nil {
		return
	}
	if dst.Port() != 7777 {
		fmt.Fprintf(c, "sidecar for %s\n", dst)
		return
	}
	fmt.Fprintf(c, "sidecar says: %s\n", get(dst.String(), markFromEnv))
}

func markFromEnv(fd int) error {
	mark, err := strconv.Atoi(os.Getenv(MarkEnv))
	if err != nil {
		return nil // known by its user
	}
	return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK, mark)
}

func sidecarInbound(c *net.TCPConn) {
	defer c.Close()
	dst, err := iptables.OriginalDst(c)
	if err != nil {
		return
	}
	bind := unix.Sockaddr(&unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 6}})
	if dst.Addr().Is6() {
		bind = &unix.SockaddrInet6{Addr: netip.MustParseAddr("::6").As16()}
	}
	fmt.Fprintf(c, "inbound %s, program says: %s\n", dst, get(dst.String(), func(fd int) error {
		return errors.Join(markFromEnv(fd), unix.Bind(fd, bind))
	}))
}

// actAttack tries to reach a server at addr around the sidecar in every way a
// program has, and prints those that worked.
func actAttack(addr string) error {
	direct := func(how string, control func(fd int) error) {
		if s := getWithin(addr, attackTimeout, control); strings.HasPrefix(s, "hello") || strings.HasPrefix(s, "inbound") {
			fmt.Println("BYPASS by", how, s)
		}
	}
	direct("plain connect", nil)
	direct("the sidecar's mark", func(fd int) error {
		return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK, iptables.DefaultProxyMark)
	})
	direct("a transparent socket", func(fd int) error { return unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_TRANSPARENT, 1) })
	for _, dev := range []string{"eth0", "lo"} {
		direct("device "+dev, func(fd int) error { return unix.BindToDevice(fd, dev) })
	}
	direct("the source 127.0.0.6", func(fd int) error {
		return unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 6}})
	})
	direct("Multipath TCP", nil)
	if _, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_TCP); err == nil {
		fmt.Println("BYPASS by raw socket")
	}
	if _, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW, 0); err == nil {
		fmt.Println("BYPASS by packet socket")
	}
	if rs, err := iptables.Plan(iptables.DefaultConfig()); err == nil {
		if _, err := iptables.Apply(rs, iptables.NFTables); err == nil {
			fmt.Println("BYPASS by changing the rules")
		}
	}
	if err := iptables.Undo(iptables.Routing{}); err == nil {
		fmt.Println("BYPASS by removing the rules")
	}
	attackProcesses()
	// As another user, where this program may become one.
	for _, id := range []int{iptables.DefaultProxyID, 4242} {
		if err := syscall.Setgid(id); err == nil {
			direct(fmt.Sprintf("group %d", id), nil)
		}
		if err := syscall.Setuid(id); err == nil {
			direct(fmt.Sprintf("user %d", id), nil)
			break // there is no way back
		}
	}
	fmt.Println("attack over")
	return nil
}

// attackProcesses tries to get into the namespaces or the memory of every
// process that can be seen.
func attackProcesses() {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return
	}
	own, _ := os.Readlink("/proc/self/ns/net")
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		dir := "/proc/" + e.Name()
		if f, err := os.OpenFile(dir+"/mem", os.O_RDWR, 0); err == nil {
			comm, _ := os.ReadFile(dir + "/cmdline")
			if strings.Contains(string(comm), "sidecar") || !strings.Contains(string(comm), "__actor") {
				fmt.Printf("BYPASS by memory of %d %q\n", pid, comm)
			}
			f.Close()
		}
		link, _ := os.Readlink(dir + "/ns/net")
		if fd, err := unix.Open(dir+"/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0); err == nil {
			if link != own && unix.Setns(fd, unix.CLONE_NEWNET) == nil {
				fmt.Printf("BYPASS by namespace of %d\n", pid)
			}
			unix.Close(fd)
		}
	}
}
