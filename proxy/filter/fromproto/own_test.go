package fromproto_test

import (
	"strings"
	"testing"
	"time"

	xdsv3 "github.com/cncf/xds/go/xds/type/v3"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/mecha-mesh/mecha/proxy/filter/fromproto"
)

// TestOwn: a type of ours arrives as a TypedStruct, and what is wrong with it is named.
func TestOwn(t *testing.T) {
	for text, want := range map[string]string{
		`{"n": 3, "wait": "1.5s"}`: "",
		`{}`:                       "",
		`{"m": 3}`:                 "m: there is no such field",
		`{"n": "x"}`:               "n: is a string, not a uint32",
		`{"n": 1.5}`:               "n: is a number 1.5, not a uint32",
		`{"in": {"k": true}}`:      "in.k: is a bool, not a int",
		`{"wait": 7}`:              "7 is not a duration",
		`{"wait": "7 days"}`:       `"7 days" is not a duration`,
	} {
		var st structpb.Struct
		if err := st.UnmarshalJSON([]byte(text)); err != nil {
			t.Fatal(err)
		}
		a, err := anypb.New(&xdsv3.TypedStruct{TypeUrl: "type.googleapis.com/mecha.test.v1.Thing", Value: &st})
		if err != nil {
			t.Fatal(err)
		}
		c, err := fromproto.Any(a)
		if err != nil || c.Type != "mecha.test.v1.Thing" {
			t.Fatalf("%+v, %v", c, err)
		}
		var got struct {
			N    uint32                 `json:"n"`
			Wait fromproto.JSONDuration `json:"wait"`
			In   struct {
				K int `json:"k"`
			} `json:"in"`
		}
		err = fromproto.Own(c.Value, &got)
		switch {
		case want == "" && err != nil, want != "" && (err == nil || !strings.HasPrefix(err.Error(), want)):
			t.Errorf("%s: %v, want %q", text, err, want)
		case text != "{}" && want == "" && (got.N != 3 || got.Wait.Duration != 1500*time.Millisecond):
			t.Errorf("%s: %+v", text, got)
		}
	}
	if err := fromproto.Own([]byte{0xff}, &struct{}{}); err == nil {
		t.Error("bytes that are no Struct are taken for one")
	}
}
