// Package message makes the bytes of messages for the tests of those who parse them. It
// imports no filter, so that the tests inside a filter's own package can use it.
package message

import (
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// Raw reads a message that is written as JSON into m, and returns it serialised.
func Raw(t testing.TB, m proto.Message, text string) []byte {
	t.Helper()
	if err := protojson.Unmarshal([]byte(text), m); err != nil {
		t.Fatal(err)
	}
	raw, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}
