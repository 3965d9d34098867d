package h2

import "encoding/binary"

// sendSettings queues our SETTINGS and the window of the connection.
func (c *conn) sendSettings(set ...Setting) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.lim.table != minTableSize {
		set = append(set, Setting{settingTableSize, c.lim.table})
	}
	if c.lim.streamWindow != initialWindow {
		set = append(set, Setting{settingInitialWindow, uint32(c.lim.streamWindow)})
	}
	set = append(set, c.opt.CustomSettings...)
	p := make([]byte, 0, settingLen*len(set))
	for _, s := range set {
		p = binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint16(p, s.ID), s.Value)
	}
	c.put(FrameHeader{Type: FrameSettings}, p, false)
	if more := c.lim.connWindow - initialWindow; more > 0 {
		c.putUint32(FrameWindowUpdate, 0, uint32(more), false)
	}
}

// onSettings takes a SETTINGS frame (RFC 9113 6.5).
func (c *conn) onSettings(h FrameHeader, p []byte) *connError {
	switch {
	case h.Stream != 0:
		return protocol("SETTINGS on a stream")
	case h.has(FlagAck) && len(p) > 0, len(p)%settingLen != 0:
		return frameSize("SETTINGS of a wrong length")
	case h.has(FlagAck):
		c.dec.SetAllowedMaxDynamicTableSize(c.lim.table) // the peer shrinks its own before it uses it again
		return nil
	case len(p) > settingLen*maxSettings:
		return &connError{EnhanceYourCalm, "too many settings", detailsUnknown}
	}
	c.mu.Lock()
	streams, window := c.peer.streams, c.peer.window
	for ; len(p) > 0; p = p[settingLen:] {
		if ce := c.apply(Setting{binary.BigEndian.Uint16(p), binary.BigEndian.Uint32(p[2:])}); ce != nil {
			c.mu.Unlock()
			return ce
		}
	}
	ce := c.moveWindows(c.peer.window - window)
	c.ready = true
	c.put(FrameHeader{Type: FrameSettings, Flags: FlagAck}, nil, true)
	changed := c.peer.streams != streams
	c.mu.Unlock()
	if changed {
		c.changed()
	}
	return ce
}

// apply takes one setting of the peer. The lock is held.
func (c *conn) apply(s Setting) *connError {
	switch s.ID {
	case settingTableSize:
		c.enc.resize(s.Value)
	case settingEnablePush:
		if s.Value > 1 || s.Value == 1 && !c.server {
			return protocol("SETTINGS_ENABLE_PUSH is wrong")
		}
	case settingMaxStreams:
		c.peer.streams = s.Value
	case settingInitialWindow:
		if s.Value > maxWindow {
			return &connError{FlowControlError, "SETTINGS_INITIAL_WINDOW_SIZE is too large", detailsUnknown}
		}
		c.peer.window = int64(s.Value)
	case settingMaxFrameSize:
		if s.Value < maxFrameSize || s.Value > maxPeerFrameSize {
			return protocol("SETTINGS_MAX_FRAME_SIZE is out of its range")
		}
	case settingEnableConnect:
		if s.Value > 1 || s.Value == 0 && c.peer.connect {
			return protocol("SETTINGS_ENABLE_CONNECT_PROTOCOL is wrong")
		}
		c.peer.connect = s.Value == 1
	}
	return nil
}

// moveWindows changes the windows of all streams (RFC 9113 6.9.2), once for a frame,
// whatever it says. The lock is held.
func (c *conn) moveWindows(more int64) *connError {
	if more == 0 {
		return nil
	}
	for _, s := range c.streams {
		if s.sendWin += more; s.sendWin > maxWindow {
			return &connError{FlowControlError, "SETTINGS_INITIAL_WINDOW_SIZE makes a window too large", detailsUnknown}
		}
		s.wr.Signal()
	}
	return nil
}
