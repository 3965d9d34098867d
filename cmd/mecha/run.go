package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/mecha-mesh/mecha/cmd/mecha/pod"
	"github.com/mecha-mesh/mecha/iptables"
	"github.com/mecha-mesh/mecha/proxy/dnsproxy"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

// nodeEnv names the directory of the node that "mecha run" joins by default.
const nodeEnv = "MECHA_NODE"

// runOptions are the flags of "mecha run".
type runOptions struct {
	name, node, ip, dir    string
	inbound                []string
	publish                []string
	bootstrap, xds         string
	sidecar                string
	sidecarArgs            []string
	sidecarLog             string
	proxyUID               int
	env                    []string
	isolated, check, quiet bool
	dns                    bool
	dnsNames               []string
	readyTimeout           time.Duration
}

// runCommand is "mecha run": a program behind a sidecar, in a pod of its own.
func runCommand() *cobra.Command {
	var o runOptions
	cmd := &cobra.Command{
		Use:   "run [flags] -- COMMAND [ARG...]",
		Short: "Run a program behind a sidecar, in its own network namespace (no root, no cluster)",
		Long: `Run any program with its TCP traffic captured by a sidecar. The program gets a
network namespace of its own: what it opens and what others open to it goes
through the sidecar, and it cannot get around it. Without root this uses a user
namespace; where the kernel does not allow that, the message says what to do.

Without --bootstrap or --xds the sidecar passes everything on unchanged.
The outside world is reachable by TCP and DNS, this machine's own 127.0.0.1 under
the name "host"; UDP other than DNS, and ping, stay inside the node.
Several programs that should talk to each other share a node:

  mecha run node --dir /tmp/shop &
  mecha run --node /tmp/shop --name reviews -- ./reviews
  mecha run --node /tmp/shop --name web --publish 8080:80 -- ./web

The exit code is the program's. 125: the pod could not be made.`,
		Example: `  mecha run -- curl http://example.com
  mecha run --inbound 8080 -- ./server          # and: curl http://127.0.0.1:8080`,
		Args: cobra.ArbitraryArgs,
	}
	f := cmd.Flags()
	f.StringArrayVar(&o.inbound, "inbound", nil, "capture inbound connections to this port only, and publish it on 127.0.0.1 of this machine (repeat for more; default: capture all, publish none)")
	f.StringArrayVar(&o.publish, "publish", nil, "[ADDRESS:]PORT:POD-PORT: accept on this machine and pass to the pod (repeat for more)")
	f.StringVar(&o.name, "name", "", "name of the pod: host name inside, DNS name for other pods, node id and cluster of the sidecar")
	f.StringVar(&o.node, "node", os.Getenv(nodeEnv), "directory of the node to join [$"+nodeEnv+"]; default: a node of its own")
	f.StringVar(&o.ip, "ip", "", "IPv4 address of the pod (default: the next free one)")
	f.StringVar(&o.dir, "dir", "", "working directory of the program")
	f.BoolVar(&o.dns, "dns", false, "capture DNS queries, too: the sidecar answers them, asking the pod's resolver for names it does not know")
	f.StringArrayVar(&o.dnsNames, "dns-name", nil, "NAME=IP[,IP...]: a name that the sidecar answers for; implies --dns (repeat for more)")
	f.StringArrayVar(&o.env, "env", nil, "NAME=VALUE for the program (repeat for more)")
	f.StringVar(&o.bootstrap, "bootstrap", "", "configuration file of the sidecar")
	f.StringVar(&o.xds, "xds", "", "control plane of the sidecar, HOST:PORT or unix:PATH; 127.0.0.1 means this machine")
	f.StringVar(&o.sidecar, "sidecar", "", "another sidecar program with Envoy's command line (default: mecha proxy)")
	f.StringArrayVar(&o.sidecarArgs, "sidecar-arg", nil, "further argument for the sidecar (repeat for more)")
	f.StringVar(&o.sidecarLog, "sidecar-log", "", "file for the sidecar's output (default: standard error)")
	f.IntVar(&o.proxyUID, "proxy-uid", -1, "run the sidecar as this user and recognise it by that (root only; default: by socket mark)")
	f.DurationVar(&o.readyTimeout, "ready-timeout", 30*time.Second, "how long the sidecar may take to listen")
	f.BoolVar(&o.isolated, "isolated", false, "no way to the outside world")
	f.BoolVar(&o.check, "check", false, "only say whether this works here")
	f.BoolVarP(&o.quiet, "quiet", "q", false, "say nothing but what the program says")
	settings := addCaptureFlags(cmd, "inbound-mode", "exclude-inbound-ports", "outbound-cidrs", "exclude-outbound-cidrs",
		"exclude-outbound-ports", "drop-invalid")
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		switch {
		case o.check:
			args = []string{"true"}
		case cmd.ArgsLenAtDash() != 0 || len(args) == 0:
			return usageError{errors.New("expected: mecha run [flags] -- COMMAND [ARG...]")}
		}
		return o.run(cmd, args, settings)
	}
	cmd.AddCommand(nodeCommand(), stageCommand())
	return cmd
}

// stageCommand is how the pod package enters its own processes.
func stageCommand() *cobra.Command {
	return &cobra.Command{
		Use: pod.StageName, Hidden: true, DisableFlagParsing: true,
		Run: func(_ *cobra.Command, args []string) { os.Exit(pod.Stage(args)) },
	}
}

// selfCommand is the command that runs stageCommand.
func selfCommand() []string { return []string{"/proc/self/exe", "run", pod.StageName} }

func (o *runOptions) run(cmd *cobra.Command, command []string, settings *captureSettings) error {
	conf, err := o.config(cmd, command, settings)
	if err != nil {
		return err
	}
	ctx, cancel := signal.NotifyContext(cmd.Context(), unix.SIGINT, unix.SIGTERM, unix.SIGHUP)
	defer cancel()
	log := slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), nil))
	node, err := o.openNode(ctx, log)
	if err != nil {
		return podError(err)
	}
	defer node.Close() //nolint:errcheck // always nil
	if err := o.configureSidecar(&conf, node); err != nil {
		return err
	}
	if conf.SidecarLog != nil {
		defer conf.SidecarLog.Close() //nolint:errcheck // only the sidecar writes to it
	}
	p, err := node.Start(ctx, conf)
	if err != nil {
		return podError(err)
	}
	if o.check {
		if _, err := p.Wait(); err != nil {
			return podError(err)
		}
		fmt.Fprintln(cmd.OutOrStdout(), "yes: programs can run captured here")
		return nil
	}
	if err := o.open(cmd, node, p, conf); err != nil {
		p.Kill()
		return podError(err)
	}
	cancel() // signals are the program's from here on
	return finish(p)
}

// openNode joins a node or makes one.
func (o *runOptions) openNode(ctx context.Context, log *slog.Logger) (*pod.Node, error) {
	if o.node != "" {
		return pod.Attach(ctx, o.node, log)
	}
	return pod.NewNode(ctx, pod.NodeConfig{Self: selfCommand(), Isolated: o.isolated, Log: log})
}

// config makes the pod's description from the flags.
func (o *runOptions) config(cmd *cobra.Command, command []string, settings *captureSettings) (pod.Config, error) {
	c := iptables.DefaultConfig()
	if o.proxyUID >= 0 {
		if os.Geteuid() != 0 {
			return pod.Config{}, usageError{errors.New("--proxy-uid: only root can run the sidecar as another user")}
		}
		c.ProxyUIDs, c.ProxyGIDs = []uint32{uint32(o.proxyUID)}, []uint32{uint32(o.proxyUID)}
	} else {
		c.ProxyUIDs, c.ProxyGIDs, c.ProxyMarks = nil, nil, []uint32{iptables.DefaultProxyMark}
	}
	if err := settings.apply(cmd, &c, false); err != nil {
		return pod.Config{}, err
	}
	for _, p := range o.inbound {
		r, err := iptables.ParsePorts(p)
		if err != nil {
			return pod.Config{}, usageError{fmt.Errorf("--inbound: %w", err)}
		}
		c.InboundPorts = append(c.InboundPorts, r...)
	}
	for _, n := range o.dnsNames {
		if _, _, err := dnsproxy.ParseName(n); err != nil {
			return pod.Config{}, usageError{fmt.Errorf("--dns-name: %w", err)}
		}
	}
	if o.dns = o.dns || len(o.dnsNames) > 0; o.dns {
		if o.sidecar != "" {
			return pod.Config{}, usageError{errors.New("--dns: only mecha's own sidecar answers DNS, not that of --sidecar")}
		}
		c.DNSPort = iptables.DefaultDNSPort
	}
	conf := pod.Config{
		Name: o.name, Command: command, Dir: o.dir, Env: append(os.Environ(), o.env...),
		Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Capture: &c, ReadyTimeout: o.readyTimeout,
	}
	if o.ip != "" {
		var err error
		if conf.IP, err = netip.ParseAddr(o.ip); err != nil || !conf.IP.Is4() {
			return conf, usageError{fmt.Errorf("--ip: %q: expected an IPv4 address", o.ip)}
		}
	}
	if conf.Dir == "" {
		conf.Dir, _ = os.Getwd()
	}
	if _, err := exec.LookPath(command[0]); err != nil && o.dir == "" && !slices.ContainsFunc(o.env, isPath) {
		return conf, codedError{err, 127}
	}
	return conf, nil
}

func isPath(env string) bool { return len(env) > 5 && env[:5] == "PATH=" }

// configureSidecar decides what the sidecar is and what it is told.
func (o *runOptions) configureSidecar(conf *pod.Config, node *pod.Node) error {
	conf.SidecarEnv = os.Environ()
	if o.check {
		conf.ReadyPorts, conf.Sidecar = []uint16{}, []string{"sleep", "60"}
		return nil
	}
	conf.Sidecar = []string{"/proc/self/exe", "proxy"}
	if o.sidecar != "" {
		conf.Sidecar = []string{o.sidecar}
	}
	switch {
	case o.bootstrap != "" && o.xds != "":
		return usageError{errors.New("--bootstrap and --xds exclude each other")}
	case o.bootstrap != "":
		path, err := filepath.Abs(o.bootstrap)
		if err != nil {
			return err
		}
		conf.Sidecar = append(conf.Sidecar, "-c", path)
		if o.sidecar != "" && len(conf.Capture.ProxyMarks) > 0 {
			conf.Sidecar = append(conf.Sidecar, "--config-yaml", markedUpstreams(conf.Capture.ProxyMarks[0]))
		}
	default:
		host, _ := node.Host()
		name := o.name
		if name == "" {
			name = "mecha-run"
		}
		doc, err := sidecarBootstrap{name: name, capture: *conf.Capture, xds: o.xds, host: host}.json()
		if err != nil {
			return err
		}
		conf.Sidecar = append(conf.Sidecar, "--config-yaml", doc)
	}
	if o.dns {
		port := strconv.Itoa(int(conf.Capture.DNSPort))
		conf.Sidecar = append(conf.Sidecar, "--dns-listen", "127.0.0.1:"+port+",[::1]:"+port)
		for _, n := range o.dnsNames {
			conf.Sidecar = append(conf.Sidecar, "--dns-name", n)
		}
	}
	conf.Sidecar = append(conf.Sidecar, o.sidecarArgs...)
	if o.sidecarLog != "" {
		f, err := os.OpenFile(o.sidecarLog, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
		if err != nil {
			return err
		}
		conf.SidecarLog = f
	}
	return nil
}

// open publishes ports and says where the pod is.
func (o *runOptions) open(cmd *cobra.Command, node *pod.Node, p *pod.Pod, conf pod.Config) error {
	v4, v6 := p.Addr()
	say := func(format string, args ...any) {
		if !o.quiet {
			fmt.Fprintf(cmd.ErrOrStderr(), "mecha: "+format+"\n", args...)
		}
	}
	say("%s runs captured at %v %v", filepath.Base(conf.Command[0]), v4, v6)
	ports := slices.Clone(o.publish)
	if o.node == "" {
		for _, r := range conf.Capture.InboundPorts {
			if r.First == r.Last {
				ports = append(ports, fmt.Sprintf("127.0.0.1:%d:%d", r.First, r.First))
			}
		}
	}
	for _, spec := range ports {
		from, to, err := parsePublish(spec)
		if err != nil {
			return usageError{err}
		}
		l, err := node.Publish(from, net.JoinHostPort(v4.String(), to))
		if err != nil {
			return fmt.Errorf("publish %s: %w", spec, err)
		}
		say("http://%s reaches port %s of it, through the sidecar", l.Addr(), to)
	}
	return nil
}

// parsePublish splits [ADDRESS:]PORT:POD-PORT.
func parsePublish(s string) (from, to string, err error) {
	bad := fmt.Errorf("--publish: %q: expected [ADDRESS:]PORT:POD-PORT", s)
	i := len(s) - 1
	for ; i >= 0 && s[i] != ':'; i-- {
	}
	if i < 0 {
		return "", "", bad
	}
	from, to = s[:i], s[i+1:]
	if _, err := strconv.ParseUint(from, 10, 16); err == nil {
		from = "127.0.0.1:" + from
	}
	if n, err := strconv.ParseUint(to, 10, 16); err != nil || n == 0 {
		return "", "", bad
	}
	if _, _, err := net.SplitHostPort(from); err != nil {
		return "", "", bad
	}
	return from, to, nil
}

// finish waits for the program, passing signals on, and turns its end into ours.
func finish(p *pod.Pod) error {
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM, unix.SIGHUP, unix.SIGUSR1, unix.SIGUSR2)
	defer signal.Stop(signals)
	for {
		select {
		case s := <-signals:
			// A key press on the terminal reached the program already.
			if (s == unix.SIGINT || s == unix.SIGQUIT) && inForeground() {
				continue
			}
			_ = p.Signal(s.(syscall.Signal)) // it may have ended this moment
		case <-p.Done():
			exit, err := p.Wait()
			if err != nil {
				return podError(err)
			}
			if exit.Status() != 0 {
				return codedError{errReported, exit.Status()}
			}
			return nil
		}
	}
}

// inForeground reports whether this process's group is the one that its
// terminal sends key presses to.
func inForeground() bool {
	tty, err := os.Open("/dev/tty")
	if err != nil {
		return false
	}
	defer tty.Close() //nolint:errcheck // only asked
	group, err := unix.IoctlGetInt(int(tty.Fd()), unix.TIOCGPGRP)
	return err == nil && group == unix.Getpgrp()
}

// exitPod is the exit code when the pod could not be made, as of docker run.
const exitPod = 125

func podError(err error) error {
	if err == nil {
		return nil
	}
	var coded interface{ ExitCode() int }
	if errors.As(err, &coded) {
		return err
	}
	return codedError{err, exitPod}
}

// nodeCommand is "mecha run node".
func nodeCommand() *cobra.Command {
	var dir string
	var isolated bool
	var v4, v6 string
	cmd := &cobra.Command{
		Use:   "node --dir DIR",
		Short: "Keep a node that several programs share, until interrupted",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			conf := pod.NodeConfig{Self: selfCommand(), Isolated: isolated, Log: slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), nil))}
			var err error
			if conf.IPv4, err = optionalPrefix("--ipv4", v4); err != nil {
				return err
			}
			if conf.IPv6, err = optionalPrefix("--ipv6", v6); err != nil {
				return err
			}
			if err := os.MkdirAll(dir, 0o700); err != nil {
				return err
			}
			ctx, cancel := signal.NotifyContext(cmd.Context(), unix.SIGINT, unix.SIGTERM, unix.SIGHUP)
			defer cancel()
			node, err := pod.NewNode(ctx, conf)
			if err != nil {
				return podError(err)
			}
			defer node.Close() //nolint:errcheck // always nil
			gw, _ := node.Gateway()
			fmt.Fprintf(cmd.OutOrStdout(), "node at %v; join it with: mecha run --node %s -- COMMAND\n", gw, dir)
			return podError(node.Serve(ctx, dir))
		},
	}
	cmd.Flags().StringVar(&dir, "dir", "", "directory for the node's socket; made if needed, for you alone (required)")
	cmd.Flags().BoolVar(&isolated, "isolated", false, "no way to the outside world")
	cmd.Flags().StringVar(&v4, "ipv4", "", "IPv4 network of the node (default 10.201.0.0/16)")
	cmd.Flags().StringVar(&v6, "ipv6", "", "IPv6 network of the node (default fd6d:6563:6861::/64)")
	if err := cmd.MarkFlagRequired("dir"); err != nil {
		panic(err) // the flag is defined above
	}
	return cmd
}

func optionalPrefix(flag, s string) (netip.Prefix, error) {
	if s == "" {
		return netip.Prefix{}, nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return p, usageError{fmt.Errorf("%s: %q: expected a network such as 10.77.0.0/16", flag, s)}
	}
	return p.Masked(), nil
}
