package h2

import (
	"github.com/mecha-mesh/mecha/proxy/codec"
	"github.com/mecha-mesh/mecha/proxy/header"
)

// fieldOverhead is what a field takes in a table besides its bytes (RFC 7541 4.1).
const fieldOverhead = 32

// encode adds a field to the section that is being written, in c.encBuf.
func (c *conn) encode(name, value string) { c.encBuf = c.enc.field(c.encBuf, name, value) }

// encodeFields adds the regular fields of m. The connection's own ones stay out. It
// reports false if one of them would break the message; nothing must be written then.
func (c *conn) encodeFields(m *header.Map) {
	for f := range m.Fields() {
		if f.Name[0] == ':' || connectionField(f.ID) || f.ID == header.Host {
			continue
		}
		if unsteady(f.ID) {
			c.encodeOnce(f.Name, f.Value)
			continue
		}
		c.encode(f.Name, f.Value)
	}
}

// encodeOnce adds a field that is kept in no table, neither in ours nor in the peer's.
func (c *conn) encodeOnce(name, value string) {
	c.encBuf = c.enc.once(c.encBuf, name, value)
}

// unsteady reports whether a field rarely has the same value twice: in the tables it
// would push out others that do.
func unsteady(id header.ID) bool {
	switch id {
	case header.XRequestId, header.Traceparent, header.Etag, header.SetCookie, header.Location:
		return true
	}
	return false
}

// checkFields looks at what is going to be written before the encoder's table changes.
func checkFields(m *header.Map) error {
	for f := range m.Fields() {
		if f.ID == header.Other && !validName(f.Name) || !validValue(f.Value) {
			return errBadField
		}
	}
	return nil
}

// connectionField reports whether a field is the connection's and does not exist in
// HTTP/2 (RFC 9113 8.2.2).
func connectionField(id header.ID) bool {
	switch id {
	case header.Connection, header.KeepAlive, header.ProxyConnection, header.TransferEncoding, header.Upgrade:
		return true
	}
	return false
}

// encodeRequest encodes the head of a request (RFC 9113 8.3.1). An upgrade becomes an
// extended CONNECT (RFC 8441).
func (c *conn) encodeRequest(m *header.Map) (upgrade string, err error) {
	method, path, scheme := m.Value(header.Method), m.Value(header.Path), m.Value(header.Scheme)
	connect := method == "CONNECT"
	if !codec.IsToken(method) || !connect && (path == "" || scheme == "") || connect && m.Value(header.Authority) == "" {
		return "", errBadTarget
	}
	if err := checkFields(m); err != nil {
		return "", err
	}
	if codec.IsUpgrade(m) {
		upgrade = m.Value(header.Upgrade)
		method = "CONNECT"
	}
	c.encode(":method", method)
	if !connect {
		c.encode(":scheme", scheme)
		c.encode(":path", path)
	}
	if m.Has(header.Authority) {
		c.encode(":authority", m.Value(header.Authority))
	}
	if upgrade != "" {
		c.encode(":protocol", upgrade)
	}
	c.encodeFields(m)
	return upgrade, nil
}

// encodeResponse encodes the head of a response. 101 is the answer to an extended
// CONNECT then, which is 200.
func (c *conn) encodeResponse(m *header.Map, status string) error {
	if err := checkFields(m); err != nil {
		return err
	}
	if status == "101" {
		status = "200"
	}
	c.encode(":status", status)
	c.encodeFields(m)
	return nil
}
