// Package demo is "mecha demo": a small shop of plain programs that the mesh is
// put around, and eight things that it then does for them, each with what was
// expected and what was measured.
//
// Every program is a pod as "mecha run" makes them. Where the kernel does not
// allow that, the same shop runs with explicit loopback listeners in place of
// capture. Nothing of it is left behind, however it ends: what runs dies with
// the process that called [Run], and a guard removes the files.
//
// What is not here: the shop's programs (examples/shop), pods (cmd/mecha/pod).
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/mecha-mesh/mecha/cmd/mecha/pod"
)

// Options say how to run the demo.
type Options struct {
	// Keep leaves the shop open after the steps, until ctx ends.
	Keep bool
	// NoCapture uses loopback listeners even where pods are possible.
	NoCapture bool
	// Out is where the demo says what happens.
	Out io.Writer

	// Control and Shop are the paths of the two other programs.
	Control, Shop string
	// Proxy, Stage and Guard are commands of this program: the proxy, the
	// stages of package pod, and [Guard].
	Proxy, Stage, Guard []string
	// Name is how a user calls this program.
	Name string
}

// ErrFailed says that an expectation was not met; Out has the details.
var ErrFailed = errors.New("the demo did not show what it should")

// wholeTime bounds everything but the time that Keep adds.
const wholeTime = 55 * time.Second

type demo struct {
	Options
	screen *screen
	shop   *shop
	why    *pod.Unsupported // why there is no capture
}

// Programs finds the other programs beside the one at self.
func (o *Options) Programs(self string) error {
	dir := filepath.Dir(self)
	for _, p := range []struct {
		name string
		path *string
	}{{"mecha-control", &o.Control}, {"shop", &o.Shop}} {
		path := filepath.Join(dir, p.name)
		if info, err := os.Stat(path); err != nil || info.IsDir() || info.Mode()&0o111 == 0 {
			return fmt.Errorf("the demo needs the program %s, and %s is none; \"make demo\" builds it, or: "+
				"go build -o %s ./cmd/mecha ./cmd/mecha-control ./examples/shop", p.name, path, dir)
		}
		*p.path = path
	}
	return nil
}

// Run shows the demo. It returns when everything it started is gone: nil when
// all went as expected, ErrFailed when something did not, the cause of ctx when
// ctx ended first.
func Run(ctx context.Context, o Options) (err error) {
	d := &demo{Options: o, screen: newScreen(o.Out)}
	began := time.Now()
	w, err := newWorkspace(o.Guard)
	if err != nil {
		return err
	}
	defer w.close()
	if err := os.Mkdir(filepath.Join(w.dir, "logs"), 0o755); err != nil {
		return err
	}
	running, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	limited, cancel := context.WithTimeoutCause(running, wholeTime, fmt.Errorf("the demo took longer than %v; is this machine very busy?", wholeTime))
	defer cancel()

	d.introduce()
	if err := d.open(limited, w.dir, fail); err != nil {
		return because(limited, err)
	}
	defer func() {
		closing := time.Now()
		d.shop.closing()
		w.close()
		d.closed(time.Since(closing), time.Since(began))
	}()
	d.opened(time.Since(began))
	for _, step := range d.steps() {
		if err := step(limited); err != nil {
			return because(limited, err)
		}
	}
	d.conclude()
	if o.Keep {
		d.invite(running)
		<-running.Done()
		if err := context.Cause(running); !errors.Is(err, context.Canceled) {
			return err
		}
	}
	if len(d.screen.failed) > 0 {
		return ErrFailed
	}
	return nil
}

// because prefers the reason why a context ended over what came of it.
func because(ctx context.Context, err error) error {
	if ctx.Err() == nil {
		return err
	}
	return context.Cause(ctx)
}

func (d *demo) introduce() {
	d.screen.title("mecha demo: a mesh around a small shop")
	d.screen.blank()
	d.screen.say(`customers ── frontend ─┬─ catalog     HTTP, version 1 and version 2
                       ├─ orders      HTTP, fails every third request
                       ├─ reports     HTTP, slow
                       ├─ inventory   TCP, a line protocol
                       └─ bank        HTTP, outside the mesh`)
	d.screen.blank()
	d.screen.say(`Seven plain Go programs (examples/shop). They know each other by name and port and
nothing of a mesh. In front of each, except for the bank, is a sidecar: mecha.`)
	d.screen.blank()
}

// open starts the shop, in pods if that is possible.
func (d *demo) open(ctx context.Context, dir string, fail func(error)) (err error) {
	if !d.NoCapture {
		d.shop, err = d.openPods(ctx, dir, fail)
		if err == nil {
			return nil
		}
		if !errors.As(err, &d.why) {
			return fmt.Errorf("%w\nWithout pods and capture the demo may still work: %s demo --no-capture", err, d.Name)
		}
		if err := os.RemoveAll(filepath.Join(dir, "config")); err != nil {
			return err
		}
	}
	d.shop, err = d.openLoopback(ctx, dir, fail)
	return err
}

// opened says what is running.
func (d *demo) opened(took time.Duration) {
	s := d.screen
	if d.shop.plan.captured {
		who := fmt.Sprintf("as user %d, without root", os.Getuid())
		if os.Geteuid() == 0 {
			who = "as root"
		}
		s.check(true, "8 pods, 7 programs, 6 sidecars, 1 control plane: open after %s, %s", milliseconds(took), who)
		s.say(`Each pod is a network of its own. Packet filter rules in it hand what the program sends
and what it is sent to the sidecar. This machine's own network is not touched.`)
		return
	}
	s.check(true, "6 programs, 6 sidecars, 1 control plane: open after %s", milliseconds(took))
	switch {
	case d.why != nil:
		s.blank()
		s.say("There is no capture: it is not possible to %s here.", d.why.Step)
		s.row("why", "%s", wrap(d.why.Cause.Error(), textWidth))
		s.row("remedy", "%s", wrap(d.why.Advice, textWidth))
	default:
		s.say("There is no capture, as you asked (--no-capture).")
	}
	s.say("In its place the sidecars listen on ports of %v, and the frontend is told to", d.shop.plan.at["frontend"].Addr())
	s.say(`use them. Not shown: programs that need no telling (1), excluded ports (6), and that nothing
gets around a sidecar. The rest is the same.`)
}

func (d *demo) conclude() {
	s := d.screen
	s.blank()
	if n := len(s.failed); n > 0 {
		s.title("%s", s.paint(red, fmt.Sprintf("Not as expected in %d of %d:", n, n+s.passed)))
		for _, f := range s.failed {
			s.say("✗ %s", f)
		}
		s.say("Run it again with --keep to look around: %s demo --keep", d.Name)
		return
	}
	s.title("%s", s.paint(green, "Everything as expected."))
}

// invite says what can be tried while the shop stays open.
func (d *demo) invite(ctx context.Context) {
	s, p := d.screen, d.shop.plan
	front, err := d.shop.publish(p.at["frontend"])
	if err != nil {
		s.say("The frontend cannot be reached from this machine: %v", err)
		return
	}
	s.blank()
	s.title("The shop stays open until you press Ctrl-C. Try:")
	s.blank()
	for _, path := range []string{"/products", "/reports", "/stock/apple"} {
		s.say("curl http://%s%s", front, path)
	}
	s.say("curl -X POST http://%s/orders", front)
	s.say("for i in $(seq 100); do curl -s http://%s/products | cut -c1-15; done | sort | uniq -c", front)
	s.blank()
	s.say("The mesh's configuration is in these files; what you save is in force at once:")
	s.say("  ${EDITOR:-vi} %s", filepath.Join(d.shop.folder.dir, "routes.yaml"))
	s.say("  tail -f %s", filepath.Join(d.shop.logs, control+".log"))
	s.say("What the sidecars saw:")
	s.say("  tail -f %s", filepath.Join(d.shop.logs, sidecarLog("frontend")+".log"))
	for _, name := range p.sidecars() {
		addr, err := d.shop.publish(p.admin[name])
		if err != nil {
			s.say("  the admin page of %s cannot be reached: %v", name, err)
			continue
		}
		s.say("  %-12s http://%s   for example /stats?usedonly, /config_dump, /clusters", name, addr)
	}
	if d.shop.serve != nil {
		go func() {
			if err := d.shop.serve(ctx); err != nil {
				s.say("Programs cannot join the shop: %v", err)
			}
		}()
		s.blank()
		s.say("Any program of yours can join the shop, captured like the others:")
		s.say("  %s run --node %s --xds %s --quiet -- curl -s http://catalog.shop:8080/products", d.Name, d.shop.join, p.at[control])
	}
	s.blank()
}

// closed says that everything has ended.
func (d *demo) closed(took, whole time.Duration) {
	what := "programs and files"
	if d.shop.plan.captured {
		what = "pods, networks, rules, " + what
	}
	d.screen.blank()
	d.screen.say("%s", d.screen.paint(dim, fmt.Sprintf("Closed in %s: all %s are gone. The demo took %.0f s.", milliseconds(took), what, whole.Seconds())))
}
