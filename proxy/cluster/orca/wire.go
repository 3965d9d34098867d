package orca

import (
	"encoding/binary"
	"math"
)

// field is one field of a serialised message: a varint or fixed number, or bytes.
type field struct {
	number int
	wire   int
	value  uint64
	bytes  []byte
}

// The wire types of protobuf.
const (
	wireVarint  = 0
	wireFixed64 = 1
	wireBytes   = 2
	wireFixed32 = 5
)

// next takes the first field off b.
func next(b []byte) (f field, rest []byte, ok bool) {
	tag, n := binary.Uvarint(b)
	if n <= 0 || tag>>3 == 0 || tag>>3 > math.MaxInt32 {
		return f, nil, false
	}
	b = b[n:]
	f.number, f.wire = int(tag>>3), int(tag&7)
	switch f.wire {
	case wireVarint:
		if f.value, n = binary.Uvarint(b); n <= 0 {
			return f, nil, false
		}
		return f, b[n:], true
	case wireFixed64:
		if len(b) < 8 {
			return f, nil, false
		}
		f.value = binary.LittleEndian.Uint64(b)
		return f, b[8:], true
	case wireFixed32:
		if len(b) < 4 {
			return f, nil, false
		}
		return f, b[4:], true
	case wireBytes:
		size, n := binary.Uvarint(b)
		if n <= 0 || size > uint64(len(b)-n) {
			return f, nil, false
		}
		f.bytes = b[n : n+int(size)]
		return f, b[n+int(size):], true
	}
	return f, nil, false
}

// message reads a serialised OrcaLoadReport. Fields that it does not know are passed over.
func (r *Report) message(b []byte) bool {
	for len(b) > 0 {
		f, rest, ok := next(b)
		if !ok {
			return false
		}
		b = rest
		if f.wire == wireFixed64 {
			name := [...]string{1: "cpu_utilization", 2: "mem_utilization", 6: "rps_fractional", 7: "eps", 9: "application_utilization"}
			if f.number < len(name) && name[f.number] != "" && !r.set(name[f.number], math.Float64frombits(f.value)) {
				return false
			}
		}
		if f.wire == wireBytes {
			in := [...]string{4: "request_cost.", 5: "utilization.", 8: "named_metrics."}
			if f.number < len(in) && in[f.number] != "" && !r.entry(in[f.number], f.bytes) {
				return false
			}
		}
	}
	return true
}

// entry reads one entry of a map from string to double.
func (r *Report) entry(in string, b []byte) bool {
	key, v := "", 0.0
	for len(b) > 0 {
		f, rest, ok := next(b)
		if !ok {
			return false
		}
		b = rest
		switch {
		case f.number == 1 && f.wire == wireBytes:
			key = string(f.bytes)
		case f.number == 2 && f.wire == wireFixed64:
			v = math.Float64frombits(f.value)
		}
	}
	return r.set(in+key, v)
}
