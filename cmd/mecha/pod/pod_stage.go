package pod

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/mecha-mesh/mecha/iptables"
	"golang.org/x/sys/unix"
)

// podStage is the first process of a pod: it builds the pod from inside, runs
// sidecar and program, and as process 1 takes everything with it when it ends.
func podStage() error {
	holdSignals()
	w, err := wireFrom(os.NewFile(fdWire, "wire"))
	if err != nil {
		return err
	}
	p := &podInit{w: w, kids: newReaper()}
	if _, err := w.receive(&p.setup); err != nil {
		return nil // whoever started the pod is gone
	}
	netFile := os.NewFile(fdNet, "net")
	var told podNet
	err = json.NewDecoder(netFile).Decode(&told)
	netFile.Close() //nolint:errcheck // read to its end
	if err != nil {
		return w.send(event{Kind: "failed", Failure: failureOf("", fmt.Errorf("pod: no place in the network: %w", err))})
	}
	p.place, p.self = told.Place, told.Self
	go p.obey()
	if step, err := p.build(); err != nil {
		return w.send(event{Kind: "failed", Failure: failureOf(step, err)})
	}
	return p.run()
}

type podInit struct {
	w       *wire
	setup   podSetup
	place   place
	self    []string
	kids    *reaper
	sidecar *kid
	program *kid
}

// obey passes signals on, and ends the pod with whoever started it.
func (p *podInit) obey() {
	for {
		var c command
		if _, err := p.w.receive(&c); err != nil {
			os.Exit(codeFailed)
		}
		p.kids.signalProgram(syscall.Signal(c.Signal))
	}
}

func (p *podInit) build() (step string, err error) {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return stepMounts, err
	}
	// Where a container hides parts of /proc the kernel refuses a new one. The
	// old one works, it only shows the process numbers of the host.
	_ = unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "")
	if err := p.place.settle(); err != nil {
		return stepPrivilege, err
	}
	if p.setup.Name != "" {
		if err := unix.Sethostname([]byte(p.setup.Name)); err != nil {
			return stepPrivilege, err
		}
	}
	if err := p.etc(); err != nil {
		return "", err
	}
	if p.setup.Capture == nil {
		return "", nil
	}
	return p.capture()
}

// capture programs the rules, proves them, and starts the sidecar.
func (p *podInit) capture() (step string, err error) {
	rules, err := iptables.Plan(*p.setup.Capture)
	if err != nil {
		return "", err
	}
	if _, err := iptables.Apply(rules, iptables.Auto); err != nil {
		return stepRules, err
	}
	if !p.setup.SkipSelfTest {
		if _, err := iptables.SelfTest(context.Background(), *p.setup.Capture); err != nil {
			return "", err
		}
	}
	c := confinement{Caps: sidecarCaps(), Ambient: true}
	marked := ""
	if ids := p.setup.Capture.ProxyUIDs; len(p.setup.Capture.ProxyMarks) > 0 {
		marked = strconv.FormatUint(uint64(p.setup.Capture.ProxyMarks[0]), 10)
	} else {
		c.UID = &ids[0]
		if gids := p.setup.Capture.ProxyGIDs; len(gids) > 0 {
			c.GID = &gids[0]
		}
	}
	env := p.env(p.setup.SidecarEnv)
	if marked != "" {
		env = append(env, MarkEnv+"="+marked)
	}
	log := os.NewFile(fdLog, "log")
	defer log.Close() //nolint:errcheck // the sidecar has its copy
	null, err := os.OpenFile(os.DevNull, os.O_RDONLY, 0)
	if err != nil {
		return "", fmt.Errorf("pod: %w", err)
	}
	defer null.Close() //nolint:errcheck // only read from
	// Its own process group: Ctrl-C is for the program, the sidecar outlives it.
	p.sidecar, err = p.kids.start(p.wrap(c, p.setup.Sidecar), &os.ProcAttr{
		Dir: p.setup.Dir, Env: env, Files: []*os.File{null, log, log}, Sys: &syscall.SysProcAttr{Setpgid: true},
	}, false)
	if err != nil {
		return "", fmt.Errorf("pod: start the sidecar: %w", err)
	}
	return "", p.awaitSidecar()
}

// wrap puts the last stage in front of a command.
func (p *podInit) wrap(c confinement, cmd []string) []string {
	b, err := json.Marshal(c)
	if err != nil {
		panic(err) // numbers only
	}
	return slices.Concat(p.self, []string{"exec", string(b)}, cmd)
}

func (p *podInit) env(base []string) []string {
	return append(slices.Clip(base), NameEnv+"="+p.setup.Name, AddrEnv+"="+p.place.V4.String())
}

// pollInterval is how often the sidecar's listeners are looked for. Nothing
// tells when another process starts to listen.
const pollInterval = 5 * time.Millisecond

func (p *podInit) awaitSidecar() error {
	deadline := time.NewTimer(p.setup.ReadyTimeout)
	defer deadline.Stop()
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		missing := missingListeners(p.setup.ReadyPorts)
		if len(missing) == 0 {
			return nil
		}
		select {
		case <-tick.C:
		case <-p.sidecar.done:
			return fmt.Errorf("pod: the sidecar ended before it was ready: %s", p.sidecar.exit.words())
		case <-deadline.C:
			return fmt.Errorf("pod: the sidecar does not listen on %v after %v: its configuration, or the control plane, gives it no listener there",
				missing, p.setup.ReadyTimeout)
		}
	}
}

// missingListeners returns the ports of this network namespace on which nobody
// listens at a wildcard address or otherwise.
func missingListeners(ports []uint16) []uint16 {
	have := make(map[string]bool)
	for _, name := range []string{"/proc/thread-self/net/tcp", "/proc/thread-self/net/tcp6"} {
		b, err := os.ReadFile(name)
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(b)) {
			// "sl local_address rem_address st ...": 0A is LISTEN.
			if f := strings.Fields(line); len(f) > 3 && f[3] == "0A" {
				_, port, _ := strings.Cut(f[1], ":")
				have[port] = true
			}
		}
	}
	var missing []uint16
	for _, p := range ports {
		if !have[fmt.Sprintf("%04X", p)] {
			missing = append(missing, p)
		}
	}
	return missing
}

// run starts the program and stays until it, or the sidecar, ends.
func (p *podInit) run() error {
	dir := p.setup.Dir
	c := confinement{Caps: programCaps()}
	if p.setup.Capture != nil && len(p.setup.Capture.ProxyMarks) == 0 {
		// Where the sidecar is known by its user, nobody else may become that user.
		c.Caps = slices.DeleteFunc(c.Caps, func(n int) bool { return n == unix.CAP_SETUID || n == unix.CAP_SETGID })
	}
	var err error
	p.program, err = p.kids.start(p.wrap(c, p.setup.Command), &os.ProcAttr{
		Dir: dir, Env: p.env(p.setup.Env), Files: []*os.File{os.Stdin, os.Stdout, os.Stderr},
	}, true)
	if err != nil {
		return p.w.send(event{Kind: "failed", Failure: failureOf("", fmt.Errorf("pod: start the program: %w", err))})
	}
	if err := p.w.send(event{Kind: "ready"}); err != nil {
		return nil // whoever started the pod is gone
	}
	var failed error
	select {
	case <-p.program.done:
	case <-p.sidecarDone():
		failed = fmt.Errorf("pod: the sidecar ended, so the program was stopped: %s", p.sidecar.exit.words())
		p.stop(p.program)
	}
	if p.sidecar != nil {
		p.stop(p.sidecar)
	}
	ev := event{Kind: "exit", Exit: p.program.exit}
	if failed != nil {
		ev.Failure = failureOf("", failed)
	}
	if err := p.w.send(ev); err != nil && !errors.Is(err, io.EOF) {
		return nil // whoever started the pod is gone
	}
	return nil
}

func (p *podInit) sidecarDone() <-chan struct{} {
	if p.sidecar == nil {
		return nil
	}
	return p.sidecar.done
}

// stop asks a child to end, and insists after a while.
func (p *podInit) stop(k *kid) {
	p.kids.signal(k, unix.SIGTERM)
	select {
	case <-k.done:
	case <-time.After(p.setup.DrainTime):
		p.kids.signal(k, unix.SIGKILL)
		<-k.done
	}
}

func (e Exit) words() string {
	if e.Signal != 0 {
		return "signal " + e.Signal.String()
	}
	return fmt.Sprintf("exit code %d", e.Code)
}
