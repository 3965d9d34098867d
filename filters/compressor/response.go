package compressor

import (
	"strconv"
	"strings"

	"github.com/mecha-mesh/mecha/proxy/codec"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/header"
)

const (
	contentEncoding = "content-encoding"
	statusHeader    = "x-envoy-compression-status"
)

// OnResponseHeaders implements filter.ResponseHeaders.
func (f *Filter) OnResponseHeaders(s *filter.Stream, end bool) error {
	c, m, n := &f.config.Response, &s.Response, f.responses
	on := f.enabled.Get()
	f.library = f.config.Library
	if own, ok := filter.Override[*Config](s, f.slot); ok {
		if own.On != nil {
			on = *own.On
		}
		if own.Library != nil {
			f.library = own.Library
		}
	}
	sized, possible := false, false
	if c.StatusHeader && on && !end {
		possible = f.tellObstacle(m) && !codec.IsUpgrade(m) && !noTransform(m) && !has(m, contentEncoding)
		sized = possible
	} else if on {
		sized = c.longEnough(m, n)
		possible = sized && !codec.IsUpgrade(m) && c.typeAllowed(m) && !noTransform(m) && f.etagAllowed(m) &&
			!has(m, contentEncoding) && f.codeAllowed(m)
	}
	if !end && f.wanted(s, sized) && possible && !f.coded(m) {
		f.reply = f.take(f.library)
	}
	if f.reply == nil {
		n.NotCompressed.Inc()
	} else {
		if c.StatusHeader {
			m.Add(statusHeader, m.Concat(f.library.Coding, ";Compressed;OriginalLength=", m.Value(header.ContentLength)))
		}
		f.changeEtag(m)
		m.DelID(header.ContentLength)
		m.Set(contentEncoding, f.library.Coding)
		n.Compressed.Inc()
	}
	if possible { // a cache must know that there might have been another response
		addVary(m)
	}
	return nil
}

// tellObstacle reports whether nothing keeps the response from being compressed, and tells
// in a header what does.
func (f *Filter) tellObstacle(m *header.Map) bool {
	c, why := &f.config.Response, ""
	switch {
	case !c.longEnough(m, f.responses):
		why = "ContentLengthTooSmall"
	case !c.typeAllowed(m):
		why = "ContentTypeNotAllowed"
	case !f.etagAllowed(m):
		why = "EtagNotAllowed"
	case !f.codeAllowed(m):
		why = "StatusCodeNotAllowed"
	default:
		return true
	}
	m.Add(statusHeader, m.Concat(f.library.Coding, ";", why))
	return false
}

// longEnough looks at content-length, where there is one.
func (d *Direction) longEnough(m *header.Map, n *counters) bool {
	if !m.Has(header.ContentLength) {
		return true
	}
	l, err := strconv.ParseUint(m.Value(header.ContentLength), 10, 64)
	if err == nil && l >= d.MinLength {
		return true
	}
	n.TooSmall.Inc()
	return false
}

// typeAllowed looks at content-type, where there is one.
func (d *Direction) typeAllowed(m *header.Map) bool {
	return !m.Has(header.ContentType) || d.allows(mediaType(m))
}

// mediaType is content-type without its parameters.
func mediaType(m *header.Map) string {
	t, _, _ := strings.Cut(m.Value(header.ContentType), ";")
	return strings.TrimSpace(t)
}

// longest is how long the name of a content type in a configuration may be, so that those
// of messages can be compared without case on the stack.
const longest = 128

func (d *Direction) allows(mediaType string) bool {
	if len(d.Matchers) > 0 {
		return d.Matchers.Match(mediaType)
	}
	if len(mediaType) > longest {
		return false
	}
	var lower [longest]byte
	for i := range len(mediaType) {
		c := mediaType[i]
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		lower[i] = c
	}
	_, ok := d.Types[string(lower[:len(mediaType)])]
	return ok
}

func has(m *header.Map, name string) bool {
	_, ok := m.Find(name)
	return ok
}

// noTransform reports whether cache-control forbids it.
func noTransform(m *header.Map) bool {
	for v := m.Value(header.CacheControl); v != ""; {
		var token string
		if token, v = codec.CutToken(v); strings.EqualFold(token, "no-transform") {
			return true
		}
	}
	return false
}

// coded reports whether transfer-encoding compresses already.
func (f *Filter) coded(m *header.Map) bool {
	for v := m.Value(header.TransferEncoding); v != ""; {
		var token string
		token, v = codec.CutToken(v)
		for _, c := range [...]string{"gzip", "br", "deflate", "compress", "zstd", f.library.Coding} {
			if strings.EqualFold(token, c) {
				return true
			}
		}
	}
	return false
}

func (f *Filter) etagAllowed(m *header.Map) bool {
	c := &f.config.Response
	if !c.DisableOnEtag || c.WeakenEtag || !m.Has(header.Etag) {
		return true
	}
	f.negotiated.NotCompressedEtag.Inc()
	return false
}

func (f *Filter) codeAllowed(m *header.Map) bool {
	codes := f.config.Response.Codes
	if len(codes) == 0 {
		return true
	}
	_, not := codes[m.StatusCode()]
	return !not
}

// changeEtag makes the entity tag one of another representation: a strong one says that
// nothing has changed.
func (f *Filter) changeEtag(m *header.Map) {
	tag := m.Value(header.Etag)
	if tag == "" || len(tag) > 1 && (tag[0] == 'w' || tag[0] == 'W') && tag[1] == '/' {
		return
	}
	if f.config.Response.WeakenEtag {
		m.SetID(header.Etag, m.Concat("W/", tag))
	} else {
		m.DelID(header.Etag)
	}
}

func addVary(m *header.Map) {
	const name, value = "vary", "Accept-Encoding"
	old, ok := m.Find(name)
	if !ok {
		m.Set(name, value)
		return
	}
	for v := old; v != ""; {
		var token string
		if token, v = codec.CutToken(v); token == value {
			return
		}
	}
	m.Set(name, m.Concat(old, ", ", value))
}
