package wire

import (
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
)

func TestMessages(t *testing.T) {
	for _, n := range []int{0, 1, 127, 128, 300, 20_000} {
		text := strings.Repeat("a", n)
		b, list := Begin(nil, 6) // list_value
		for range 2 {
			var value int
			b, value = Begin(b, 1)
			b = Bytes(b, 3, text)
			b = End(b, value)
		}
		b, number := Begin(b, 1)
		b = Double(b, 2, 1.5)
		b = End(b, number)
		b = End(b, list)
		var got structpb.Value
		if err := proto.Unmarshal(b, &got); err != nil {
			t.Fatalf("%d: %v", n, err)
		}
		want, err := structpb.NewValue([]any{text, text, 1.5})
		if err != nil {
			t.Fatal(err)
		}
		if !proto.Equal(&got, want) {
			t.Errorf("%d: got %v", n, &got)
		}
	}
}
