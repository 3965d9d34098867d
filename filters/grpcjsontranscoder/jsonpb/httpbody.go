package jsonpb

import (
	"slices"

	"google.golang.org/protobuf/encoding/protowire"
)

// The fields of google.api.HttpBody.
const (
	bodyType       protowire.Number = 1
	bodyData       protowire.Number = 2
	bodyExtensions protowire.Number = 3
)

// Unknown is a query parameter that is no field, with its values.
type Unknown struct {
	Key    string
	Values []string
}

// AppendHTTPBody appends what precedes the data, of n bytes, of the google.api.HttpBody at path
// in a message.
func AppendHTTPBody(dst []byte, path Path, contentType string, unknown []Unknown, n int) []byte {
	var head []byte
	if contentType != "" {
		head = protowire.AppendString(protowire.AppendTag(head, bodyType, protowire.BytesType), contentType)
	}
	if len(unknown) > 0 {
		head = protowire.AppendBytes(protowire.AppendTag(head, bodyExtensions, protowire.BytesType), unknownParams(unknown))
	}
	head = protowire.AppendVarint(protowire.AppendTag(head, bodyData, protowire.BytesType), uint64(n))
	for _, fd := range slices.Backward(path) {
		tag := protowire.AppendTag(nil, fd.Number(), protowire.BytesType)
		head = append(protowire.AppendVarint(tag, uint64(len(head)+n)), head...)
	}
	return append(dst, head...)
}

// unknownParams is a google.protobuf.Any of
// envoy.extensions.filters.http.grpc_json_transcoder.v3.UnknownQueryParams, whose only field
// is a map of messages with repeated strings.
func unknownParams(list []Unknown) []byte {
	var params []byte
	for _, u := range list {
		var values []byte
		for _, v := range u.Values {
			values = protowire.AppendString(protowire.AppendTag(values, 1, protowire.BytesType), v)
		}
		entry := protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), u.Key)
		entry = protowire.AppendBytes(protowire.AppendTag(entry, 2, protowire.BytesType), values)
		params = protowire.AppendBytes(protowire.AppendTag(params, 1, protowire.BytesType), entry)
	}
	const name = "type.googleapis.com/envoy.extensions.filters.http.grpc_json_transcoder.v3.UnknownQueryParams"
	packed := protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), name)
	return protowire.AppendBytes(protowire.AppendTag(packed, 2, protowire.BytesType), params)
}

// ParseHTTPBody reads the google.api.HttpBody at path in a message. data is a part of wire, or
// of a copy where it comes in pieces.
func ParseHTTPBody(wire []byte, path Path) (contentType string, data []byte, err error) {
	for _, fd := range path {
		var inner []byte // several messages of a field are one
		if err := each(wire, func(n protowire.Number, v []byte) {
			if n == fd.Number() {
				inner = join(inner, v)
			}
		}); err != nil {
			return "", nil, err
		}
		wire = inner
	}
	err = each(wire, func(n protowire.Number, v []byte) {
		switch n {
		case bodyType:
			contentType = string(v)
		case bodyData:
			data = v
		}
	})
	return contentType, data, err
}

func join(a, b []byte) []byte {
	if a == nil {
		return b
	}
	return slices.Concat(a, b)
}

// each calls f for each field of a message that has a length.
func each(wire []byte, f func(n protowire.Number, v []byte)) error {
	for len(wire) > 0 {
		n, t, size := protowire.ConsumeField(wire) // with its tag
		if size < 0 {
			return invalid("Could not decode a message of the type google.api.HttpBody.")
		}
		if t == protowire.BytesType {
			_, _, tag := protowire.ConsumeTag(wire)
			if v, m := protowire.ConsumeBytes(wire[tag:size]); m >= 0 {
				f(n, v)
			}
		}
		wire = wire[size:]
	}
	return nil
}
