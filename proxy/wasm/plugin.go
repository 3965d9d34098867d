package wasm

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/call"
	"github.com/mecha-mesh/mecha/proxy/stats"
)

// Config is envoy.extensions.wasm.v3.PluginConfig.
type Config struct {
	Name          string
	RootID        string
	Configuration string
	VM            VMConfig
	Policy        Policy
	// Service reads a serialised GrpcService, as guests name whom to call; nil: they name
	// clusters.
	Service func(raw []byte) (call.GRPC, error)
	// BackOff is for how long a plugin that keeps failing is stopped at first, MaxBackOff
	// for how long at most (reload_config.backoff); 0: a second, and a minute.
	BackOff, MaxBackOff time.Duration
}

// Policy is what becomes of streams of a plugin that has failed.
type Policy uint8

// The policies.
const (
	FailClosed Policy = iota
	FailOpen
	FailReload
)

// Plugin is a root_id in a VM with a configuration of its own.
type Plugin struct {
	*Config
	env filter.Env
	vm  *VM
	*counters
	breaker breaker
	key     string // of its root in instances
	host    *sharedHost
	release func()    // of the VM; nil: it does not run
	fetch   *fetching // nil: the code was there from the beginning
}

// Open starts a plugin: its VM, if that does not run yet, and its root. One whose code is to
// be fetched starts when it is here; streams wait for that. It is closed by the retirement of
// env.
func Open(c *Config, env filter.Env) (*Plugin, error) {
	if env.Name == "" {
		env.Name = c.Name
	}
	p := &Plugin{Config: c, env: env}
	p.breaker.base, p.breaker.most = cmp.Or(c.BackOff, time.Second), cmp.Or(c.MaxBackOff, max(time.Minute, c.BackOff))
	p.key = c.RootID + "\x00" + c.Name + "\x00" + c.Configuration
	var releaseHost func()
	p.host, releaseHost = filter.Share(env.Shares, "wasm host", func() *sharedHost { return newSharedHost(env) })
	code, r := c.VM.Code, c.VM.Remote
	if r != nil {
		var ok bool
		if code, ok = p.host.codes.get(r.SHA256); ok {
			p.host.codes.Hits.Inc()
			r = nil
		} else {
			p.host.codes.Misses.Inc()
		}
	}
	if r != nil && r.Refuse {
		p.host.codes.prefetch(env, r, releaseHost)
		return nil, errMissing
	}
	n, releaseStats := stats.SharedAt[counters](env.Stats, stats.Path("wasm", c.Name)...)
	p.counters = n
	if r == nil {
		if err := p.start(code); err != nil {
			releaseStats()
			releaseHost()
			return nil, err
		}
	} else {
		ctx, cancel := context.WithCancel(context.Background())
		p.fetch = &fetching{tried: make(chan struct{}), cancel: cancel}
		go p.load(ctx, p.host.codes, r)
	}
	env.OnRetire(func() {
		p.stop()
		releaseStats()
		releaseHost()
	})
	return p, nil
}

// start starts a plugin whose code is there.
func (p *Plugin) start(code string) error {
	c := p.Config.VM
	c.Code = code
	sum := sha256.Sum256([]byte(code))
	key := fmt.Sprintf("wasm vm %q %q %x %q %q", c.ID, c.Configuration, sum, c.Environment, c.Allowed)
	p.vm, p.release = filter.Share(p.env.Shares, key, func() *VM { return &VM{config: c, env: p.env, host: p.host} })
	err := p.vm.open()
	if err == nil {
		err = p.vm.attach(p)
	}
	if err != nil {
		p.release()
		p.release = nil
	}
	return err
}

// stop ends a plugin.
func (p *Plugin) stop() {
	if f := p.fetch; f != nil {
		f.cancel()
		f.mu.Lock()
		f.retired = true
		f.mu.Unlock()
	}
	if p.release != nil {
		p.vm.detach(p)
		p.release()
	}
}

// configure makes the root of p, starts and configures it. in.mu is held.
func (in *Instance) configure(p *Plugin) error {
	if root := in.roots[p.key]; root != nil {
		root.users++
		return nil
	}
	root := in.add(p, nil)
	root.users = 1
	in.roots[p.key] = root
	if _, _, err := in.invoke(root, onContextCreate, 0); err != nil {
		return err
	}
	info := &callInfo{configuration: p.VM.Configuration}
	in.call = info
	ok, has, err := in.invoke(root, onVMStart, uint64(len(p.VM.Configuration)))
	if err == nil && has && uint32(ok) == 0 {
		err = errors.New("wasm: the plugin refuses to start (proxy_on_vm_start)")
	}
	if err == nil {
		info.configuration = p.Configuration
		ok, has, err = in.invoke(root, onConfigure, uint64(len(p.Configuration)))
		if err == nil && has && uint32(ok) == 0 {
			err = errors.New("wasm: the plugin refuses its configuration (proxy_on_configure)")
		}
	}
	in.call = nil
	in.atStart = max(in.atStart, in.memory.Size())
	return err
}

// retire ends the root of p. in.mu is held.
func (in *Instance) retire(p *Plugin) {
	root := in.roots[p.key]
	if root == nil || in.closed {
		return
	}
	if root.users--; root.users > 0 {
		return
	}
	delete(in.roots, p.key)
	if root.timer != nil {
		root.timer.Stop()
	}
	root.end()
}

// add makes a context. in.mu is held.
func (in *Instance) add(p *Plugin, root *Context) *Context {
	c := &Context{}
	in.enter(c, p, root)
	return c
}

func (in *Instance) enter(c *Context, p *Plugin, root *Context) {
	for {
		in.last++
		if _, taken := in.contexts[in.last]; in.last != 0 && !taken {
			break
		}
	}
	*c = Context{id: in.last, in: in, plugin: p, root: root}
	in.contexts[c.id] = c
}
