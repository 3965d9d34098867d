package wasm

import "errors"

// maxContexts is how many streams one instance may have at once.
const maxContexts = 1 << 16

var errTooMany = errors.New("wasm: too many streams at once")

// Enter makes c, whose memory is the caller's, the context of s, and tells the guest. Leave
// is its end, after an error, too.
func (p *Plugin) Enter(c *Context, s Subject) error {
	if p.breaker.open() {
		p.Failed.Inc()
		return errOpen
	}
	if p.fetch != nil && !p.fetch.wait() {
		p.Failed.Inc()
		return errNoCode
	}
	in, err := p.vm.take()
	if err != nil {
		p.fail(err)
		return err
	}
	defer in.mu.Unlock()
	root := in.roots[p.key]
	if root == nil {
		return errClosed
	}
	if in.users >= maxContexts {
		return errTooMany
	}
	in.users++
	in.enter(c, p, root)
	c.subject = s
	_, _, err = c.invoke(onContextCreate, uint64(root.id))
	return err
}

var errOpen = errors.New("wasm: the plugin is stopped, since it kept failing")

// fail counts a failure, and stops the plugin where there were too many.
func (p *Plugin) fail(err error) {
	p.Traps.Inc()
	p.Failed.Inc()
	if errors.Is(err, ErrOverrun) {
		p.Overruns.Inc()
	}
	p.env.Log.Error("wasm: the guest has failed", "plugin", p.Name, "root_id", p.RootID, "err", err)
	if p.breaker.fail() {
		p.Opened.Inc()
		p.env.Log.Error("wasm: the plugin is stopped, since it keeps failing", "plugin", p.Name)
	}
}

// invoke is Instance.invoke, after which a guest that has failed is taken out of use.
func (c *Context) invoke(cb callback, args ...uint64) (result uint64, ok bool, err error) {
	in := c.in
	was := in.broken
	result, ok, err = in.invoke(c, cb, args...)
	if err == nil {
		return result, ok, nil
	}
	c.failed = true
	in.noRoot = in.noRoot || c.root == nil
	if was == nil {
		in.vm.drop(in)
	}
	c.plugin.fail(err)
	return result, ok, err
}

// ask is invoke where the answer is 0 if the guest has no such callback.
func (c *Context) ask(cb callback, args ...uint64) (uint64, error) {
	result, ok, err := c.invoke(cb, args...)
	if !ok {
		return 0, err
	}
	return result, err
}

func flag(b bool) uint64 {
	if b {
		return 1
	}
	return 0
}

// Continue is the answer of a guest that lets a part of a message go on; any other one has
// it wait.
const Continue = 0

// What follows tells the guest of parts of a message, with the context locked. An error is
// a failure of the guest.

// OnRequestHeaders shows the guest a request head of n fields.
func (c *Context) OnRequestHeaders(n int, end bool) (uint64, error) {
	return c.ask(onRequestHeaders, uint64(n), flag(end))
}

// OnRequestBody shows the guest n bytes of the body of a request.
func (c *Context) OnRequestBody(n int, end bool) (uint64, error) {
	return c.ask(onRequestBody, uint64(n), flag(end))
}

// OnRequestTrailers shows the guest n trailers of a request.
func (c *Context) OnRequestTrailers(n int) (uint64, error) {
	return c.ask(onRequestTrailers, uint64(n))
}

// OnResponseHeaders shows the guest a response head of n fields.
func (c *Context) OnResponseHeaders(n int, end bool) (uint64, error) {
	return c.ask(onResponseHeaders, uint64(n), flag(end))
}

// OnResponseBody shows the guest n bytes of the body of a response.
func (c *Context) OnResponseBody(n int, end bool) (uint64, error) {
	return c.ask(onResponseBody, uint64(n), flag(end))
}

// OnResponseTrailers shows the guest n trailers of a response.
func (c *Context) OnResponseTrailers(n int) (uint64, error) {
	return c.ask(onResponseTrailers, uint64(n))
}

// OnNewConnection tells the guest of a connection.
func (c *Context) OnNewConnection() (uint64, error) {
	c.conn = true
	return c.ask(onNewConnection)
}

// OnDownstreamData shows the guest n bytes from downstream.
func (c *Context) OnDownstreamData(n int, end bool) (uint64, error) {
	return c.ask(onDownstreamData, uint64(n), flag(end))
}

// OnUpstreamData shows the guest n bytes to downstream.
func (c *Context) OnUpstreamData(n int, end bool) (uint64, error) {
	return c.ask(onUpstreamData, uint64(n), flag(end))
}

// OnDownstreamClose tells the guest that the connection is over; remote: the client has ended it.
func (c *Context) OnDownstreamClose(remote bool) error {
	_, err := c.ask(onDownstreamClose, 1+flag(remote))
	return err
}

// OnUpstreamClose tells the guest that nothing more is sent to downstream.
func (c *Context) OnUpstreamClose() error {
	_, err := c.ask(onUpstreamClose, 0)
	return err
}

// Waiting reports whether the guest waits for answers. The context is locked.
func (c *Context) Waiting() bool { return c.in.calls > 0 }

// Leave tells the guest that the stream is over: it logs it, and forgets it. A guest that
// puts that off (proxy_on_done) keeps the context, but sees nothing of the stream any more.
func (c *Context) Leave() {
	in := c.in
	in.mu.Lock()
	defer in.mu.Unlock()
	var err error
	if !c.conn {
		_, _, err = c.invoke(onLog)
	}
	if err == nil && !c.failed {
		c.end()
	}
	if in.contexts[c.id] == c {
		delete(in.contexts, c.id)
	}
	c.in = nil
	in.users--
	in.shrink(c.plugin)
}

// shrink closes an instance that is out of use, with its last stream, and takes one out of
// use whose memory has grown far beyond what it had in the beginning. in.mu is held.
func (in *Instance) shrink(p *Plugin) {
	if size := in.memory.Size(); !in.full && in.broken == nil && size > recycleAt && size > 2*in.atStart {
		in.full = true
		p.Recycled.Inc()
		in.vm.drop(in)
	}
	if in.users == 0 && (in.broken != nil || in.full) {
		_ = in.close() // it only forgets
	}
}

// end is the last of a context: proxy_on_done, proxy_on_delete. in.mu is held.
func (c *Context) end() {
	in := c.in
	done, has, err := c.invoke(onDone)
	if err == nil && has && uint32(done) == 0 {
		// The memory of c is somebody else's.
		in.contexts[c.id] = &Context{id: c.id, in: in, plugin: c.plugin, root: c.root, ending: true}
		return
	}
	c.over = true
	if err == nil {
		_, _, _ = c.invoke(onDelete) // a failure is noted
	}
	delete(in.contexts, c.id)
}

// Lock keeps the guest of the context from running, and whoever is about to call it.
func (c *Context) Lock() { c.in.mu.Lock() }

// Unlock ends Lock.
func (c *Context) Unlock() { c.in.mu.Unlock() }

// Entered reports whether the guest knows the context.
func (c *Context) Entered() bool { return c.in != nil }

// Broken reports whether the guest has failed in a way that the stream may wait in vain. The
// context is locked.
func (c *Context) Broken() bool { return c.failed || c.in.noRoot }

// SeesBodies reports whether the guest has a callback for bodies or trailers. One whose code is
// still to come may have.
func (p *Plugin) SeesBodies() bool {
	return p.sees(onRequestBody, onRequestTrailers, onResponseBody, onResponseTrailers)
}

// SeesBytes reports whether the guest has a callback for what is sent on connections.
func (p *Plugin) SeesBytes() bool { return p.sees(onDownstreamData, onUpstreamData, onUpstreamClose) }

func (p *Plugin) sees(all ...callback) bool {
	if p.fetch != nil {
		return true
	}
	for _, cb := range all {
		if p.vm.module.has(callbackNames[cb].name, callbackNames[cb].params) {
			return true
		}
	}
	return false
}
